// SPDX-License-Identifier: Apache-2.0
// See id_maps.h.
#include "executor/setup/id_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <expected>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/oci/spec.h"
#include "executor/setup/host.h"
#include "executor/setup/user_namespace.h"

namespace amphora::setup {
namespace {

/// By absolute path: whoever sets our PATH does not choose what runs (CVE-2026-84042).
constexpr std::array kHelperDirs = {"/usr/bin/", "/usr/local/bin/", "/bin/"};

std::string find_helper(const char* name) {
  for (const char* dir : kHelperDirs) {
    std::string path = std::string(dir) + name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

struct Actions {
  posix_spawn_file_actions_t actions;
  Actions() { ::posix_spawn_file_actions_init(&actions); }
  ~Actions() { ::posix_spawn_file_actions_destroy(&actions); }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
};

Result<Process> spawn(const std::string& path, const std::vector<std::string>& args, int error_fd,
                      Children& children) {
  Actions setup;
  ::posix_spawn_file_actions_addopen(&setup.actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&setup.actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_adddup2(&setup.actions, error_fd, 2);
  std::vector<char*> argv;
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  char* const environment[] = {nullptr};
  const std::lock_guard lock(children.mutex());
  Process process;
  const int err =
      ::posix_spawn(&process.pid, path.c_str(), &setup.actions, nullptr, argv.data(), environment);
  if (err != 0) return fail_errno(err, "start " + path);
  children.add_locked(process.pid);
  process.pidfd.reset(sys::pidfd_open(process.pid, 0));
  return process;
}

Result<void> run_helper(const char* name, pid_t pid, const std::vector<oci::IdMapping>& map,
                        Children& children) {
  const std::string path = find_helper(name);
  if (path.empty()) {
    return fail(Errc::kUnsupported, std::string(name) +
                                        " is missing (package uidmap): without CAP_SETUID a user "
                                        "namespace gets more than the caller's own id only by it");
  }
  std::vector<std::string> args{name, std::to_string(pid)};
  for (const oci::IdMapping& m : map) {
    for (const uint32_t number : {m.container_id, m.host_id, m.size}) {
      args.push_back(std::to_string(number));
    }
  }
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
  const UniqueFd ours(fds[0]);
  UniqueFd theirs(fds[1]);
  TRY_ASSIGN(const Process process, spawn(path, args, theirs.get(), children));
  theirs.reset();
  auto words = read_all(ours.get(), 4096);
  auto status = wait_for(process);
  children.remove(process.pid);
  TRY_ASSIGN(const ExitStatus ended, std::move(status));
  if (ended.code() == 0) return {};
  std::string text = words ? *words : std::string();
  text.resize(std::min(text.find('\n'), text.size()));
  if (text.empty()) text = path + " ended with " + std::to_string(ended.code());
  return std::unexpected(Error(Errc::kInvalid, std::move(text))
                             .hint("the ranges a user may map are in /etc/subuid and /etc/subgid"));
}

Result<void> write_map(const Host& host, pid_t pid, const char* file, const char* helper,
                       const std::vector<oci::IdMapping>& map, MapWriter writer,
                       Children& children) {
  Result<void> done =
      writer == MapWriter::kHelper
          ? run_helper(helper, pid, map, children)
          : write_file_at(host.proc_fd.get(), std::to_string(pid) + "/" + file, mappings_text(map));
  if (done) return {};
  return std::unexpected(std::move(done).error().context(std::string("set the ") + file +
                                                         " of the container's user namespace"));
}

}  // namespace

MapWriter map_writer(const std::vector<oci::IdMapping>& map, uint32_t own, bool capable) noexcept {
  if (capable) return MapWriter::kKernelFile;
  const bool own_only = map.size() == 1 && map[0].size == 1 && map[0].host_id == own;
  return own_only ? MapWriter::kOwnId : MapWriter::kHelper;
}

Result<void> write_id_maps(const Host& host, pid_t pid, const IdMaps& maps, Children& children) {
  const MapWriter uids = map_writer(maps.uids, host.euid, has_capability(host, CAP_SETUID));
  const MapWriter gids = map_writer(maps.gids, host.egid, has_capability(host, CAP_SETGID));
  // user_namespaces(7): who may not give groups may not take them away either, which setgroups would
  // (CVE-2014-8989). newgidmap decides the same for its caller.
  if (gids == MapWriter::kOwnId) {
    TRY(write_file_at(host.proc_fd.get(), std::to_string(pid) + "/setgroups", "deny"));
  }
  TRY(write_map(host, pid, "uid_map", "newuidmap", maps.uids, uids, children));
  return write_map(host, pid, "gid_map", "newgidmap", maps.gids, gids, children);
}

}  // namespace amphora::setup
