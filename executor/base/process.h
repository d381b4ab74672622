// SPDX-License-Identifier: Apache-2.0
// A process as a value (pid, pidfd, start time) and its exit status. Nothing in amphora holds a bare
// pid across time: pids are reused, pidfds are not. Not here: creating processes (setup/launch).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora {

/// How a process ended, as wait reports it. `code()` is what shells and containerd expect:
/// the exit code, or 128 + signal.
class ExitStatus {
 public:
  static ExitStatus exited(int code) noexcept { return ExitStatus(code & 0xff, 0); }
  static ExitStatus signaled(int signal) noexcept { return ExitStatus(0, signal); }
  int code() const noexcept { return signal_ != 0 ? 128 + signal_ : code_; }
  int signal() const noexcept { return signal_; }  ///< 0 if it exited by itself

 private:
  ExitStatus(int code, int signal) noexcept : code_(code), signal_(signal) {}
  int code_;
  int signal_;
};

struct Process {
  pid_t pid = 0;            ///< in our pid namespace
  UniqueFd pidfd;           ///< may be empty for a process known only from a state file and gone
  uint64_t start_time = 0;  ///< field 22 of /proc/PID/stat (clock ticks since boot)
};

/// Reads the start time of a process from /proc/PID/stat; kNotFound when there is none. `keep` as for read_record_at.
Result<uint64_t> start_time_of(pid_t pid, std::vector<UniqueFd>* keep = nullptr);
/// The process with this pid if it is still the one that started at `start_time`; kNotFound else.
/// A zombie counts as gone. `keep` as for read_record_at.
Result<Process> find_process(pid_t pid, uint64_t start_time, std::vector<UniqueFd>* keep = nullptr);

/// Sends a signal by pidfd. kNotFound when the process has exited.
Result<void> send_signal(const Process& process, int signal);

/// Waits for a child of ours to end and reaps it (waitid P_PIDFD, __WALL).
Result<ExitStatus> wait_for(const Process& process);
/// Reaps it if it has ended, nullopt if it still runs.
Result<std::optional<ExitStatus>> try_wait(const Process& process);

/// The children that somebody in this process waits for by pidfd. A subreaper must not reap these
/// when it clears away adopted orphans. Creating a child and registering it happens under `mutex`.
class Children {
 public:
  std::mutex& mutex() noexcept { return mutex_; }
  void add_locked(pid_t pid) { own_.insert(pid); }
  void remove_locked(pid_t pid) { own_.erase(pid); }
  void remove(pid_t pid) {
    const std::lock_guard lock(mutex_);
    own_.erase(pid);
  }
  /// Reaps every ended child of this process that is not registered; returns their pids. None while a
  /// Coming lives: they are then cleared away when the last one ends.
  std::vector<pid_t> reap_orphans();

  /// Lives while a child may appear that is known by its own message only (a step kFork makes one with
  /// CLONE_PARENT): it may have ended before it can be registered, and is no orphan.
  class Coming {
   public:
    explicit Coming(Children& children);
    ~Coming();
    Coming(const Coming&) = delete;
    Coming& operator=(const Coming&) = delete;

   private:
    Children& children_;
  };

 private:
  std::mutex mutex_;
  std::set<pid_t> own_;
  int coming_ = 0;
  bool put_off_ = false;  ///< orphans that were not looked for because of coming_
};

}  // namespace amphora
