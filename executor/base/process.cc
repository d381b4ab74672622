// SPDX-License-Identifier: Apache-2.0
// Processes as values. See process.h.
#include "executor/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace amphora {
namespace {

struct Stat {
  char state = '?';
  uint64_t start_time = 0;
};

/// /proc/PID/stat: the command (field 2) is in parentheses and may hold anything, so fields are
/// counted from the last ')'. Field 3 is the state, field 22 the start time (proc(5)).
Result<Stat> read_stat(pid_t pid, std::vector<UniqueFd>* keep = nullptr) {
  const std::string name = "/proc/" + std::to_string(pid) + "/stat";
  auto text = read_record_at(AT_FDCWD, name, 1 << 20, keep);
  if (!text) {
    const int err = text.error().sys_errno();
    if (err == ENOENT || err == ESRCH) {
      return fail(Errc::kNotFound, "process " + std::to_string(pid) + " does not exist");
    }
    return std::unexpected(std::move(text).error());
  }
  const size_t close = text->rfind(')');
  if (close == std::string::npos || close + 2 >= text->size()) {
    return fail(Errc::kInternal, name + ": malformed");
  }
  Stat stat;
  stat.state = (*text)[close + 2];
  size_t at = close + 2;
  for (int field = 3; field < 22; ++field) {
    at = text->find(' ', at);
    if (at == std::string::npos) return fail(Errc::kInternal, name + ": malformed");
    ++at;
  }
  std::from_chars(text->data() + at, text->data() + text->size(), stat.start_time);
  return stat;
}

ExitStatus status_of(const siginfo_t& info) noexcept {
  return info.si_code == CLD_EXITED ? ExitStatus::exited(info.si_status)
                                    : ExitStatus::signaled(info.si_status);
}

Result<std::optional<ExitStatus>> wait_pidfd(const Process& process, int options) {
  siginfo_t info{};
  for (;;) {
    // __WALL: init is cloned without an exit signal where CLONE_PARENT wants it so.
    if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(process.pidfd.get()), &info,
                 WEXITED | __WALL | options) == 0) {
      break;
    }
    if (errno != EINTR) {
      return fail_errno(errno, "wait for process " + std::to_string(process.pid));
    }
  }
  if (info.si_pid == 0) return std::optional<ExitStatus>();
  return std::optional<ExitStatus>(status_of(info));
}

}  // namespace

Result<uint64_t> start_time_of(pid_t pid, std::vector<UniqueFd>* keep) {
  TRY_ASSIGN(const Stat stat, read_stat(pid, keep));
  return stat.start_time;
}

Result<Process> find_process(pid_t pid, uint64_t start_time, std::vector<UniqueFd>* keep) {
  const std::string noun = "process " + std::to_string(pid);
  if (pid <= 0) return fail(Errc::kNotFound, "no process");
  UniqueFd pidfd(sys::pidfd_open(pid, 0));
  if (!pidfd) {
    if (errno == ESRCH || errno == EINVAL) return fail(Errc::kNotFound, noun + " does not exist");
    return fail_errno(errno, "open " + noun);
  }
  // Read after the pidfd is held: the pid cannot be reused between the two without us seeing it.
  TRY_ASSIGN(const Stat stat, read_stat(pid, keep));
  if (stat.start_time != start_time || stat.state == 'Z' || stat.state == 'X') {
    return fail(Errc::kNotFound, noun + " has ended");
  }
  return Process{pid, std::move(pidfd), start_time};
}

Result<void> send_signal(const Process& process, int signal) {
  if (sys::pidfd_send_signal(process.pidfd.get(), signal) == 0) return {};
  const int err = errno;
  auto error = Error::from_errno(
      err, "signal " + std::to_string(signal) + " to process " + std::to_string(process.pid));
  if (err == ESRCH) return std::unexpected(std::move(error).as(Errc::kNotFound));
  if (err == EINVAL) return std::unexpected(std::move(error).as(Errc::kInvalid));
  return std::unexpected(std::move(error));
}

Result<ExitStatus> wait_for(const Process& process) {
  TRY_ASSIGN(const std::optional<ExitStatus> status, wait_pidfd(process, 0));
  if (!status) return fail(Errc::kInternal, "wait returned without a status");
  return *status;
}

Result<std::optional<ExitStatus>> try_wait(const Process& process) {
  return wait_pidfd(process, WNOHANG);
}

Children::Coming::Coming(Children& children) : children_(children) {
  const std::lock_guard lock(children_.mutex_);
  ++children_.coming_;
}

Children::Coming::~Coming() {
  {
    const std::lock_guard lock(children_.mutex_);
    if (--children_.coming_ > 0 || !std::exchange(children_.put_off_, false)) return;
  }
  children_.reap_orphans();
}

std::vector<pid_t> Children::reap_orphans() {
  const std::lock_guard lock(mutex_);
  std::vector<pid_t> reaped;
  if (coming_ > 0) {
    put_off_ = true;
    return reaped;
  }
  // The main thread's list is enough: a child subreaper adopts to its first thread (proc(5)).
  const auto list =
      read_file_at(AT_FDCWD, "/proc/self/task/" + std::to_string(::getpid()) + "/children");
  if (!list) return reaped;
  const char* at = list->data();
  const char* const end = at + list->size();
  while (at < end) {
    pid_t pid = 0;
    const auto [next, error] = std::from_chars(at, end, pid);
    if (error != std::errc()) break;
    at = next;
    while (at < end && *at == ' ') ++at;
    if (own_.contains(pid)) continue;
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | __WALL) == 0 &&
        info.si_pid != 0) {
      reaped.push_back(pid);
    }
  }
  return reaped;
}

}  // namespace amphora
