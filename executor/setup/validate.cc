// SPDX-License-Identifier: Apache-2.0
// What a spec asks that no host could give: members that need a namespace of the container's own,
// sysctls of the host, mounts over /proc. Syntax was oci::parse_spec's; what this host lacks is found
// where it is used.
#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/oci/spec.h"
#include "executor/setup/make_plan.h"

namespace amphora::setup {
namespace {

using oci::NamespaceKind;

constexpr std::array kIpcSysctls = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                    "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                    "kernel.shmmni", "kernel.shm_rmid_forced"};

/// Files that may be mounted inside /proc, as runc allows them (for programs such as lxcfs).
constexpr std::array kProcMounts = {"/proc/cpuinfo",
                                    "/proc/diskstats",
                                    "/proc/meminfo",
                                    "/proc/stat",
                                    "/proc/swaps",
                                    "/proc/uptime",
                                    "/proc/loadavg",
                                    "/proc/slabinfo",
                                    "/proc/sys/kernel/ns_last_pid",
                                    "/proc/sys/crypto/fips_enabled"};

Result<void> needs(const oci::Spec& spec, NamespaceKind kind, const std::string& member) {
  if (spec.find_namespace(kind) != nullptr) return {};
  return fail(Errc::kInvalid,
              member + " needs a " + to_string(kind) +
                  " namespace of the container's own, and linux.namespaces has none");
}

/// The name with dots, as the lists here have it.
std::string dotted(const std::string& key) {
  std::string name = key;
  // "net/ipv4/x" and "net.ipv4.x" are the same to sysctl(8).
  if (name.find('/') < name.find('.')) {
    for (char& c : name) c = c == '/' ? '.' : c == '.' ? '/' : c;
  }
  return name;
}

Result<void> check_sysctl(const oci::Spec& spec, const std::string& key) {
  const std::string member = "linux.sysctl " + key;
  if (const auto kind = sysctl_namespace(key)) return needs(spec, *kind, member);
  if (dotted(key) == "kernel.hostname") {
    return fail(Errc::kInvalid, member + ": use the spec's hostname instead");
  }
  return fail(Errc::kInvalid, member + " is not in a namespace of the container's own");
}

Result<void> check_mount(const oci::Mount& mount) {
  const std::string destination = path::clean("/" + mount.destination);
  if (destination == "/") {
    return fail(Errc::kInvalid,
                "mount " + mount.destination + ": the root itself cannot be mounted over");
  }
  if (!path::is_below(destination, "/proc") ||
      std::ranges::find(kProcMounts, destination) != kProcMounts.end()) {
    return {};
  }
  // A bind of a real procfs is what containers without a pid namespace of their own use.
  if (destination == "/proc" && (mount.type == "proc" || mount.source == "/proc")) return {};
  return fail(
      Errc::kInvalid,
      "\"" + destination + "\" cannot be mounted because it is inside /proc (CVE-2019-16884)");
}

/// Names as the kernel takes them (dev_valid_name), no two devices with one.
Result<void> check_net_devices(const oci::Spec& spec) {
  const auto& devices = spec.linux_.net_devices;
  if (devices.empty()) return {};
  TRY(needs(spec, NamespaceKind::kNetwork, "linux.netDevices"));
  std::set<std::string> inside;
  for (const auto& [name, device] : devices) {
    const std::string& renamed = device.name.empty() ? name : device.name;
    for (const std::string& one : {name, renamed}) {
      if (one.empty() || one.size() > 15 || one == "." || one == ".." ||
          one.find_first_of("/: \t\n") != std::string::npos) {
        return fail(Errc::kInvalid,
                    "linux.netDevices: \"" + one + "\" is not the name of a network device");
      }
    }
    if (!inside.insert(renamed).second) {
      return fail(Errc::kInvalid, "linux.netDevices: two devices are named " + renamed);
    }
  }
  return {};
}

/// The class is a directory's name; its schemata are lines of the kernel's, which judges them.
Result<void> check_rdt(const oci::Spec& spec) {
  if (!spec.linux_.intel_rdt) return {};
  const oci::IntelRdt& rdt = *spec.linux_.intel_rdt;
  const std::string& id = rdt.clos_id;
  if (id == "." || id == ".." || (id != "/" && id.find_first_of("/\n") != std::string::npos)) {
    return fail(Errc::kInvalid, "linux.intelRdt.closID \"" + id + "\" is not a name");
  }
  if (rdt.mem_bw_schema.find('\n') != std::string::npos) {
    return fail(Errc::kInvalid, "linux.intelRdt.memBwSchema has more than one line");
  }
  return {};
}

}  // namespace

std::optional<NamespaceKind> sysctl_namespace(const std::string& key) {
  const std::string name = dotted(key);
  if (std::ranges::find(kIpcSysctls, name) != kIpcSysctls.end() || name.starts_with("fs.mqueue.")) {
    return NamespaceKind::kIpc;
  }
  if (name.starts_with("net.")) return NamespaceKind::kNetwork;
  if (name.starts_with("user.")) return NamespaceKind::kUser;
  if (name == "kernel.domainname") return NamespaceKind::kUts;
  return std::nullopt;
}

Result<void> validate(const oci::Spec& spec) {
  if (!spec.hostname.empty()) TRY(needs(spec, NamespaceKind::kUts, "hostname"));
  if (!spec.domainname.empty()) TRY(needs(spec, NamespaceKind::kUts, "domainname"));
  if (!spec.linux_.masked_paths.empty())
    TRY(needs(spec, NamespaceKind::kMount, "linux.maskedPaths"));
  if (!spec.linux_.readonly_paths.empty()) {
    TRY(needs(spec, NamespaceKind::kMount, "linux.readonlyPaths"));
  }
  const oci::Namespace* mount_ns = spec.find_namespace(NamespaceKind::kMount);
  if (mount_ns != nullptr && !mount_ns->path.empty() && !spec.mounts.empty()) {
    return fail(Errc::kUnsupported, "mounts in a joined mount namespace (linux.namespaces, mount)");
  }
  if (!spec.linux_.time_offsets.empty() && !has_new(spec, NamespaceKind::kTime)) {
    return fail(Errc::kInvalid, "linux.timeOffsets need a new time namespace");
  }
  const oci::Namespace* user = spec.find_namespace(NamespaceKind::kUser);
  if (user != nullptr && user->path.empty() &&
      (spec.linux_.uid_mappings.empty() || spec.linux_.gid_mappings.empty())) {
    return fail(Errc::kInvalid,
                "a new user namespace needs linux.uidMappings and linux.gidMappings");
  }
  if (user == nullptr && (!spec.linux_.uid_mappings.empty() || !spec.linux_.gid_mappings.empty())) {
    return fail(Errc::kInvalid, "linux.uidMappings and gidMappings need a user namespace");
  }
  TRY(check_net_devices(spec));
  TRY(check_rdt(spec));
  for (const auto& [key, value] : spec.linux_.sysctl) TRY(check_sysctl(spec, key));
  for (const oci::Mount& mount : spec.mounts) TRY(check_mount(mount));
  return {};
}

}  // namespace amphora::setup
