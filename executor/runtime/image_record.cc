// SPDX-License-Identifier: Apache-2.0
// What is kept beside CRIU's images, and the checks of a restore against its spec. See checkpoint.h.
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/criu/client.h"
#include "executor/criu/wire.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/checkpoint.h"
#include "executor/setup/caps.h"
#include "executor/setup/host.h"
#include "executor/setup/mount_options.h"

namespace amphora::runtime {
namespace {

constexpr std::string_view kHeader = "amphora checkpoint 1\n";

bool is_plain(std::string_view text) {
  return text.find('\n') == std::string_view::npos && text.find("]:") == std::string_view::npos;
}

/// "Name:\tvalue" of a status file; empty when it is absent.
std::string_view value_of(std::string_view status, std::string_view name) {
  for (size_t at = 0; at < status.size();) {
    const size_t end = std::min(status.find('\n', at), status.size());
    std::string_view line = status.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(name) || line.size() <= name.size() || line[name.size()] != ':') continue;
    line.remove_prefix(name.size() + 1);
    while (line.starts_with('\t') || line.starts_with(' ')) line.remove_prefix(1);
    return line;
  }
  return {};
}

Result<uint64_t> number_of(std::string_view status, std::string_view name, int base) {
  const std::string_view text = value_of(status, name);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end == text.data()) {
    return fail(Errc::kInternal, "/proc/PID/status has no " + std::string(name));
  }
  return value;
}

Result<std::string> source_of_mount(size_t index, const External& external, const oci::Spec& spec,
                                    const std::string& bundle) {
  if (index < spec.mounts.size()) {
    const oci::Mount& mount = spec.mounts[index];
    TRY_ASSIGN(const setup::MountOptions options, setup::parse_mount_options(mount));
    if (options.bind) {
      return mount.source.starts_with('/') ? mount.source : path::join(bundle, mount.source);
    }
  }
  return fail(Errc::kInvalid, "the checkpoint has a mount on " + external.inside +
                                  " which is no bind mount of this config.json (mounts[" +
                                  std::to_string(index) + "])");
}

}  // namespace

Result<std::string> to_text(const ImageRecord& record) {
  std::string text(kHeader);
  for (const External& external : record.externals) {
    if (!is_plain(external.inside)) {
      return fail(
          Errc::kInvalid,
          "a mount point with a line feed or \"]:\" cannot be checkpointed: " + external.inside);
    }
    text += "mount " + external.key + " " + external.inside + "\n";
  }
  for (size_t i = 0; i < record.stdio.size(); ++i) {
    if (!record.stdio[i].empty())
      text += "stdio " + std::to_string(i) + " " + record.stdio[i] + "\n";
  }
  return text;
}

Result<ImageRecord> parse_image_record(std::string_view text) {
  const auto broken = [] {
    return fail(Errc::kInvalid, std::string(kImageRecord) + " of the checkpoint cannot be read");
  };
  if (!text.starts_with(kHeader)) return broken();
  text.remove_prefix(kHeader.size());
  ImageRecord record;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return broken();
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const size_t first = line.find(' ');
    const size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
    if (second == std::string_view::npos) return broken();
    const std::string_view kind = line.substr(0, first);
    const std::string_view key = line.substr(first + 1, second - first - 1);
    const std::string_view rest = line.substr(second + 1);
    if (kind == "mount" && rest.starts_with('/') && is_plain(rest) && is_plain(key) &&
        !key.empty()) {
      record.externals.push_back({std::string(key), std::string(rest)});
    } else if (kind == "stdio" && key.size() == 1 && key[0] >= '0' && key[0] <= '2' &&
               !rest.empty()) {
      record.stdio[static_cast<size_t>(key[0] - '0')] = rest;
    } else {
      return broken();
    }
  }
  return record;
}

Result<std::string> source_of(const External& external, const oci::Spec& spec,
                              const std::string& bundle, const oci::State& state,
                              const setup::Host& host) {
  std::string_view key = external.key;
  if (key.starts_with("null-")) {
    for (const std::string& masked : spec.linux_.masked_paths) {
      if (path::clean(masked) == external.inside) return std::string("/dev/null");
    }
    return fail(Errc::kInvalid, "the checkpoint masks " + external.inside +
                                    ", which is none of linux.maskedPaths in this config.json");
  }
  if (key.starts_with("cgroup-")) {
    key.remove_prefix(7);
    const auto place = [&](const std::string& hierarchy, const std::string& mount) -> std::string {
      const auto found = state.cgroup_dirs.find(hierarchy);
      return found == state.cgroup_dirs.end() ? "" : mount + found->second;
    };
    std::string source;
    if (key == "unified") source = place("", host.unified_mount);
    for (const setup::Hierarchy& hierarchy : host.hierarchies) {
      if (key == path::base_name(hierarchy.mount_point))
        source = place(hierarchy.controllers, hierarchy.mount_point);
    }
    if (!source.empty()) return source;
    return fail(Errc::kInvalid, "the checkpoint has the cgroup hierarchy " + std::string(key) +
                                    ", which this host or container lacks");
  }
  if (key.starts_with("mount-")) {
    key.remove_prefix(6);
    size_t index = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
    if (error == std::errc() && end == key.data() + key.size()) {
      return source_of_mount(index, external, spec, bundle);
    }
  }
  return fail(Errc::kInvalid, "the checkpoint has an unknown part " + external.key);
}

Result<void> check_rights(const oci::Spec& spec, const setup::Host& host, std::string_view status) {
  const auto refuse = [](const std::string& what) {
    return fail(Errc::kPrecondition,
                "the checkpoint has " + what + " than config.json allows; it is not restored");
  };
  const oci::Process& process = *spec.process;
  const uint64_t all = (uint64_t{1} << static_cast<uint32_t>(host.last_capability + 1)) - 1;
  TRY_ASSIGN(const setup::CapMasks allowed,
             setup::make_cap_masks(process.capabilities.value_or(oci::Capabilities{}), all,
                                   host.last_capability));
  for (const auto& [name, mask] :
       std::map<std::string, uint64_t>{{"CapBnd", allowed.bounding},
                                       {"CapPrm", allowed.bounding | allowed.permitted},
                                       {"CapEff", allowed.bounding | allowed.permitted},
                                       {"CapInh", allowed.inheritable | allowed.bounding},
                                       {"CapAmb", allowed.bounding | allowed.ambient}}) {
    TRY_ASSIGN(const uint64_t has, number_of(status, name, 16));
    if ((has & ~mask) != 0) return refuse("more capabilities (" + name + ")");
  }
  TRY_ASSIGN(const uint64_t no_new_privs, number_of(status, "NoNewPrivs", 10));
  if (process.no_new_privileges && no_new_privs == 0) return refuse("no no_new_privs, more rights");
  TRY_ASSIGN(const uint64_t seccomp, number_of(status, "Seccomp", 10));
  if (spec.linux_.seccomp && seccomp != 2) return refuse("no seccomp filter, more rights");
  // Ids of a user namespace are the namespace's own business.
  if (spec.find_namespace(oci::NamespaceKind::kUser) == nullptr && process.user.uid != 0) {
    TRY_ASSIGN(const uint64_t uid, number_of(status, "Uid", 10));
    if (uid == 0) return refuse("root for its user, more rights");
  }
  return {};
}

criu::Writer common_options(const CriuOptions& options, int image_fd, int work_fd,
                            const char* log_file, const std::string& root) {
  criu::Writer w;
  w.signed_number(criu::kImagesDirFd, image_fd);
  if (work_fd >= 0) w.signed_number(criu::kWorkDirFd, work_fd);
  w.number(criu::kLogLevel, 4).text(criu::kLogFile, log_file);
  w.text(criu::kRoot, root);
  w.flag(criu::kNotifyScripts, true).flag(criu::kEvasiveDevices, true);
  w.flag(criu::kExternalUnixSockets, options.external_unix_sockets);
  w.flag(criu::kTcpEstablished, options.tcp_established);
  w.flag(criu::kShellJob, options.shell_job).flag(criu::kFileLocks, options.file_locks);
  w.flag(criu::kAutoDedup, options.auto_dedup).flag(criu::kLazyPages, options.lazy_pages);
  w.flag(criu::kOrphanPtsMaster, true).flag(criu::kExternalMasters, true);
  w.flag(criu::kManageCgroups, true);
  w.number(criu::kManageCgroupsMode, static_cast<uint64_t>(options.cgroups));
  if (options.empty_namespaces != 0) w.number(criu::kEmptyNamespaces, options.empty_namespaces);
  return w;
}

}  // namespace amphora::runtime
