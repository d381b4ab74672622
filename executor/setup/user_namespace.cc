// SPDX-License-Identifier: Apache-2.0
// The tiny child. See user_namespace.h.
#include "executor/setup/user_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "executor/oci/spec.h"

namespace amphora::setup {
namespace {

/// A child that does nothing but be in a user namespace; it ends with this object.
class Holder {
 public:
  Holder() = default;
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() {
    if (pid_ <= 0) return;
    sys::pidfd_send_signal(pidfd_.get(), SIGKILL);
    siginfo_t info{};
    // Who clears away orphans may have been quicker: ECHILD is no failure.
    while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | __WALL) != 0 &&
           errno == EINTR) {
    }
  }

  /// In a new user namespace (CLONE_NEWUSER), or (0) in that of `join`.
  Result<void> start(uint64_t flags, int join) {
    int pidfd = -1;
    struct clone_args args{};
    args.flags = flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    const pid_t parent = ::getpid();
    UniqueFd ready;
    UniqueFd told;
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    ready.reset(fds[0]);
    told.reset(fds[1]);
    const pid_t pid = sys::clone3(args);
    if (pid < 0) return fail_errno(errno, "clone into a user namespace");
    if (pid == 0) {
      // SAFETY: between clone and exit, system calls only.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(0);
      const int err = join >= 0 && ::setns(join, CLONE_NEWUSER) != 0 ? errno : 0;
      if (::write(told.get(), &err, sizeof err) != sizeof err) ::_exit(1);
      for (;;) ::pause();
    }
    pid_ = pid;
    pidfd_.reset(pidfd);
    told.reset();
    int err = 0;
    if (::read(ready.get(), &err, sizeof err) != sizeof err) {
      return fail(Errc::kSystem, "the holder of a user namespace ended");
    }
    if (err != 0) return fail_errno(err, "join the user namespace");
    return {};
  }

  std::string proc(const char* file) const { return "/proc/" + std::to_string(pid_) + "/" + file; }

 private:
  pid_t pid_ = 0;
  UniqueFd pidfd_;
};

Result<std::vector<oci::IdMapping>> parse_map(const std::string& text) {
  std::vector<oci::IdMapping> map;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&](uint32_t& out) {
    while (at < end && (*at == ' ' || *at == '\n')) ++at;
    const auto [next, error] = std::from_chars(at, end, out);
    at = next;
    return error == std::errc();
  };
  for (oci::IdMapping m; number(m.container_id);) {
    if (!number(m.host_id) || !number(m.size)) return fail(Errc::kInternal, "an odd id map");
    map.push_back(m);
  }
  return map;
}

}  // namespace

std::string mappings_text(const std::vector<oci::IdMapping>& mappings) {
  std::string text;
  for (const oci::IdMapping& m : mappings) {
    text += std::to_string(m.container_id) + " " + std::to_string(m.host_id) + " " +
            std::to_string(m.size) + "\n";
  }
  return text;
}

Result<UniqueFd> make_user_namespace(const IdMaps& maps) {
  Holder holder;
  TRY(holder.start(CLONE_NEWUSER, -1));
  TRY(write_file_at(AT_FDCWD, holder.proc("uid_map"), mappings_text(maps.uids)));
  TRY(write_file_at(AT_FDCWD, holder.proc("gid_map"), mappings_text(maps.gids)));
  return open_at(AT_FDCWD, holder.proc("ns/user"), O_RDONLY);
}

Result<IdMaps> maps_of(int user_namespace_fd) {
  Holder holder;
  TRY(holder.start(0, user_namespace_fd));
  IdMaps maps;
  TRY_ASSIGN(const std::string uids, read_file_at(AT_FDCWD, holder.proc("uid_map")));
  TRY_ASSIGN(maps.uids, parse_map(uids));
  TRY_ASSIGN(const std::string gids, read_file_at(AT_FDCWD, holder.proc("gid_map")));
  TRY_ASSIGN(maps.gids, parse_map(gids));
  return maps;
}

}  // namespace amphora::setup
