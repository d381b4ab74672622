// SPDX-License-Identifier: Apache-2.0
// The config.json that `amphora spec` writes: member for member what runc 1.1 writes, so that
// bundles and the scripts that edit them are interchangeable. ociVersion is the lowest release that
// knows all members used, so that older runtimes take the bundle too.
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "executor/oci/spec.h"

namespace amphora::oci {

namespace {

using Json = nlohmann::ordered_json;

Json process() {
  const Json capabilities = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  return {
      {"terminal", true},
      {"user", {{"uid", 0}, {"gid", 0}}},
      {"args", Json::array({"sh"})},
      {"env", Json::array({"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                           "TERM=xterm"})},
      {"cwd", "/"},
      // Nothing inheritable (CVE-2022-29162), and so nothing ambient either, as in runc since 1.2.
      {"capabilities",
       {{"bounding", capabilities}, {"effective", capabilities}, {"permitted", capabilities}}},
      {"rlimits", Json::array({Json{{"type", "RLIMIT_NOFILE"}, {"hard", 1024}, {"soft", 1024}}})},
      {"noNewPrivileges", true}};
}

Json mount(const char* destination, const char* type, const char* source, Json options = Json()) {
  Json out = {{"destination", destination}, {"type", type}, {"source", source}};
  if (!options.is_null()) out["options"] = std::move(options);
  return out;
}

Json mounts(bool rootless) {
  const auto list = [](std::initializer_list<const char*> options) {
    Json out = Json::array();
    for (const char* option : options) out.push_back(option);
    return out;
  };
  // Without privilege gid 5 is not mapped, and sysfs needs a network namespace of the container's
  // own.
  Json pts = list({"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"});
  if (!rootless) pts.push_back("gid=5");
  return Json::array(
      {mount("/proc", "proc", "proc"),
       mount("/dev", "tmpfs", "tmpfs", list({"nosuid", "strictatime", "mode=755", "size=65536k"})),
       mount("/dev/pts", "devpts", "devpts", std::move(pts)),
       mount("/dev/shm", "tmpfs", "shm",
             list({"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"})),
       mount("/dev/mqueue", "mqueue", "mqueue", list({"nosuid", "noexec", "nodev"})),
       rootless ? mount("/sys", "none", "/sys", list({"rbind", "nosuid", "noexec", "nodev", "ro"}))
                : mount("/sys", "sysfs", "sysfs", list({"nosuid", "noexec", "nodev", "ro"})),
       mount("/sys/fs/cgroup", "cgroup", "cgroup",
             list({"nosuid", "noexec", "nodev", "relatime", "ro"}))});
}

Json linux_object(const std::optional<Ids>& rootless, CgroupNamespace cgroups) {
  Json out = Json::object();
  if (rootless) {
    const auto own = [](uint32_t id) {
      return Json::array({Json{{"containerID", 0}, {"hostID", id}, {"size", 1}}});
    };
    out["uidMappings"] = own(rootless->uid);
    out["gidMappings"] = own(rootless->gid);
  } else {
    out["resources"]["devices"] = Json::array({Json{{"allow", false}, {"access", "rwm"}}});
  }
  Json namespaces = Json::array();
  for (const char* kind : {"pid", "network", "ipc", "uts", "mount", "cgroup", "user"}) {
    const std::string_view name = kind;
    if (name == (rootless ? "network" : "user")) continue;
    if (name == "cgroup" && cgroups == CgroupNamespace::kNo) continue;
    namespaces.push_back(Json{{"type", kind}});
  }
  out["namespaces"] = std::move(namespaces);
  out["maskedPaths"] = {"/proc/acpi",        "/proc/asound",        "/proc/kcore",
                        "/proc/keys",        "/proc/latency_stats", "/proc/timer_list",
                        "/proc/timer_stats", "/proc/sched_debug",   "/sys/firmware",
                        "/proc/scsi"};
  out["readonlyPaths"] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return out;
}

}  // namespace

std::string default_spec_json(const std::optional<Ids>& rootless, CgroupNamespace cgroups) {
  const Json spec = {{"ociVersion", "1.0.2"},
                     {"process", process()},
                     {"root", {{"path", "rootfs"}, {"readonly", true}}},
                     {"hostname", "runc"},
                     {"mounts", mounts(rootless.has_value())},
                     {"linux", linux_object(rootless, cgroups)}};
  return spec.dump(1, '\t');
}

}  // namespace amphora::oci
