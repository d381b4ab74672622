// SPDX-License-Identifier: Apache-2.0
// checkpoint: a running container's processes into a directory, by CRIU. What comes from outside of the
// container (bind mounts, cgroups, masks, stdio, a joined network) is named, not dumped.
#include "executor/runtime/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <charconv>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/process.h"
#include "executor/criu/client.h"
#include "executor/criu/wire.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/parts.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/host.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_options.h"
#include "executor/store/store.h"

namespace amphora {
namespace {

using runtime::External;
using runtime::ImageRecord;

/// `path` as the container resolves it: without links. Empty when there is nothing.
std::string resolved_in(int root_fd, const std::string& path, struct stat* st) {
  auto fd = open_in_root(root_fd, path, O_PATH);
  if (!fd || ::fstat(fd->get(), st) != 0) return "";
  char target[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd->get());
  const ssize_t n = ::readlink(link.c_str(), target, sizeof target);
  return n > 0 && static_cast<size_t>(n) < sizeof target && target[0] == '/'
             ? std::string(target, static_cast<size_t>(n))
             : std::string();
}

/// What the container shows of the host, by the spec it was made from.
Result<std::vector<External>> externals_of(const oci::Spec& spec, const setup::Host& host,
                                           int root_fd) {
  std::vector<External> out;
  struct stat st{};
  const auto add = [&](std::string key, const std::string& path) {
    std::string inside = resolved_in(root_fd, path, &st);
    if (!inside.empty()) out.push_back({std::move(key), std::move(inside)});
  };
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    const oci::Mount& mount = spec.mounts[i];
    const std::string target = path::clean("/" + mount.destination);
    if (mount.type == "cgroup" || mount.type == "cgroup2") {
      if (host.cgroup_mode == setup::CgroupMode::kUnified) add("cgroup-unified", target);
      for (const setup::Hierarchy& hierarchy : host.hierarchies) {
        const std::string base(path::base_name(hierarchy.mount_point));
        add("cgroup-" + base, target + "/" + base);
      }
      continue;
    }
    TRY_ASSIGN(const setup::MountOptions options, setup::parse_mount_options(mount));
    if (options.bind) add("mount-" + std::to_string(i), target);
  }
  size_t masks = 0;
  for (const std::string& masked : spec.linux_.masked_paths) {
    const std::string inside = resolved_in(root_fd, masked, &st);
    if (inside.empty() || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) continue;
    out.push_back({"null-" + std::to_string(masks++), inside});
  }
  return out;
}

/// CRIU's name of what a descriptor of init leads to outside of the container; empty: nothing, or
/// something that CRIU restores by itself.
std::string outside_name(const setup::Host& host, pid_t pid, int fd, std::string_view mounts) {
  const std::string place = std::to_string(pid) + "/fd/" + std::to_string(fd);
  char target[PATH_MAX];
  const ssize_t n = ::readlinkat(host.proc_fd.get(), place.c_str(), target, sizeof target);
  if (n <= 0) return "";
  const std::string_view link(target, static_cast<size_t>(n));
  if (link.starts_with("pipe:[")) return std::string(link);
  if (!link.starts_with('/')) return "";
  // A file or device: the container's own, or one on a mount that only its creator has.
  const auto info =
      read_file_at(host.proc_fd.get(), std::to_string(pid) + "/fdinfo/" + std::to_string(fd));
  if (!info) return "";
  const size_t at = info->find("mnt_id:");
  if (at == std::string::npos) return "";
  unsigned id = 0;
  const size_t digits = info->find_first_of("0123456789", at);
  std::from_chars(info->data() + digits, info->data() + info->size(), id);
  if (mounts.find("\n" + std::to_string(id) + " ") != std::string_view::npos) return "";
  struct stat st{};
  if (::fstatat(host.proc_fd.get(), place.c_str(), &st, 0) != 0 || S_ISCHR(st.st_mode)) {
    if (major(st.st_rdev) >= 136 && major(st.st_rdev) <= 143) return "";  // a pty: shell_job's
  }
  char name[64];
  std::snprintf(name, sizeof name, "file[%x:%llx]", id, static_cast<unsigned long long>(st.st_ino));
  return name;
}

Result<uint64_t> inode_of(const std::string& path) {
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0) return fail_errno(errno, "stat " + path);
  return st.st_ino;
}

/// Namespaces that are somebody else's, a pod's: CRIU can leave a network and a pid namespace out. Of ipc and uts
/// it writes a copy, from which a restore makes new ones.
Result<void> add_joined_namespaces(const oci::Spec& spec, criu::Writer& w) {
  for (const oci::Namespace& ns : spec.linux_.namespaces) {
    if (ns.path.empty()) continue;
    if (ns.kind == oci::NamespaceKind::kIpc || ns.kind == oci::NamespaceKind::kUts) continue;
    const bool net = ns.kind == oci::NamespaceKind::kNetwork;
    if (!net && ns.kind != oci::NamespaceKind::kPid) {
      return fail(Errc::kUnsupported, std::string("the container has joined the ") +
                                          setup::to_string(ns.kind) + " namespace " + ns.path +
                                          ", which criu cannot leave out");
    }
    TRY_ASSIGN(const uint64_t inode, inode_of(ns.path));
    w.text(criu::kExternal, (net ? "net[" : "pid[") + std::to_string(inode) +
                                (net ? "]:extRootNetNS" : "]:extRootPidNS"));
  }
  return {};
}

Result<void> add_page_server(const std::string& address, criu::Writer& w) {
  const size_t colon = address.rfind(':');
  int port = 0;
  const char* const end = address.data() + address.size();
  if (colon == std::string::npos ||
      std::from_chars(address.data() + colon + 1, end, port).ptr != end || port <= 0) {
    return fail(Errc::kInvalid, "--page-server " + address + ": wanted is ADDRESS:PORT");
  }
  criu::Writer server;
  server.text(1, address.substr(0, colon)).signed_number(2, port);
  w.message(criu::kPageServer, server);
  return {};
}

/// Where CRIU freezes everybody at once instead of one after the other; empty: nowhere.
std::string freezer_of(const oci::State& state, const setup::Host& host) {
  for (const setup::Hierarchy& hierarchy : host.hierarchies) {
    const auto found = state.cgroup_dirs.find(hierarchy.controllers);
    if (hierarchy.controllers == "freezer" && found != state.cgroup_dirs.end()) {
      return hierarchy.mount_point + found->second;
    }
  }
  const auto unified = state.cgroup_dirs.find("");
  if (host.cgroup_mode != setup::CgroupMode::kUnified || unified == state.cgroup_dirs.end())
    return "";
  return host.unified_mount + unified->second;
}

}  // namespace

Result<void> Runtime::checkpoint(const std::string& id, const CheckpointOptions& options) {
  auto done = checkpoint_inner(id, options);
  if (!done) return std::unexpected(std::move(done).error().context("checkpoint " + id));
  return done;
}

Result<void> Runtime::checkpoint_inner(const std::string& id, const CheckpointOptions& options) {
  TRY_ASSIGN(const Entry entry, store_.find(id));
  TRY_ASSIGN(const oci::State state, entry.load());
  const oci::Status status = runtime::status_of(entry, state);
  if (status != oci::Status::kRunning && status != oci::Status::kPaused) {
    return fail(Errc::kPrecondition, std::string("container cannot be checkpointed in ") +
                                         oci::to_string(status) + " state");
  }
  if (state.kind != "native") {
    return fail(Errc::kUnsupported,
                "a wasm guest cannot be checkpointed: its host maps files that lie in no mount");
  }
  TRY_ASSIGN(const Process init, find_process(state.pid, state.start_time));
  TRY_ASSIGN(const oci::Spec spec, oci::load_spec(entry.dir_fd()));
  TRY_ASSIGN(const UniqueFd images, runtime::open_directory(options.image_path));
  UniqueFd work;
  if (!options.work_path.empty()) {
    TRY_ASSIGN(work, runtime::open_directory(options.work_path));
  }

  criu::Writer w =
      runtime::common_options(options, images.get(), work.get(), "dump.log", state.rootfs);
  w.signed_number(criu::kPid, state.pid);
  w.flag(criu::kLeaveRunning, options.leave_running || options.pre_dump);
  w.flag(criu::kTcpSkipInFlight, options.tcp_skip_in_flight);
  w.flag(criu::kLinkRemap, options.link_remap).flag(criu::kTrackMemory, options.pre_dump);
  if (!options.parent_path.empty()) w.text(criu::kParentImage, options.parent_path);
  if (!options.page_server.empty()) TRY(add_page_server(options.page_server, w));
  if (options.status_fd >= 0) w.signed_number(criu::kStatusFd, options.status_fd);
  if (const std::string freezer = freezer_of(state, host_); !freezer.empty()) {
    w.text(criu::kFreezeCgroup, freezer);
  }
  TRY(add_joined_namespaces(spec, w));
  ImageRecord record;
  const std::string pid = std::to_string(state.pid);
  TRY_ASSIGN(const UniqueFd root,
             open_at(host_.proc_fd.get(), pid + "/root", O_PATH | O_DIRECTORY));
  TRY_ASSIGN(record.externals, externals_of(spec, host_, root.get()));
  TRY_ASSIGN(const std::string mounts,
             read_file_at(host_.proc_fd.get(), pid + "/mountinfo", 16 << 20));
  for (int fd = 0; fd < 3; ++fd) {
    auto& name = record.stdio[static_cast<size_t>(fd)];
    name = outside_name(host_, state.pid, fd, "\n" + mounts);
    if (name.starts_with("file[")) w.text(criu::kExternal, name);
  }
  TRY_ASSIGN(const std::string text, runtime::to_text(record));
  for (const External& external : record.externals) {
    w.text(criu::kExternal, "mnt[" + external.inside + "]:" + external.key);
  }
  TRY(replace_file_at(images.get(), runtime::kImageRecord, text));
  TRY_ASSIGN(criu::Client client, criu::Client::start({}, children_));
  auto dumped =
      client.call(options.pre_dump ? criu::Request::kPreDump : criu::Request::kDump, w, {});
  if (!dumped) {
    const std::string& where = options.work_path.empty() ? options.image_path : options.work_path;
    return std::unexpected(std::move(dumped).error().hint("details: " + where + "/dump.log"));
  }
  if (!options.leave_running && !options.pre_dump && !runtime::wait_for_end(init)) {
    return fail(Errc::kSystem, "the container still runs after its checkpoint");
  }
  return {};
}

}  // namespace amphora
