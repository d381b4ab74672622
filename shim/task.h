// SPDX-License-Identifier: Apache-2.0
// A task as the shim remembers it: its init process, its execs and where each is in its life. Data
// and the rules of which step may follow which; what the steps do is the supervisor's. Only the
// loop's thread touches these.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "executor/base/process.h"
#include "executor/oci/spec.h"
#include "shim/backend.h"
#include "shim/io.h"
#include "shim/reaper.h"
#include "shim/workers.h"

namespace amphora::shim {

/// Wall clock, as protobuf's Timestamp has it. The default is Go's zero time: "not yet".
struct Time {
  int64_t seconds = -62135596800;
  int32_t nanos = 0;
  static Time now();
};

struct Exit {
  uint32_t status = 0;
  Time at;
};

/// Create is under way: to clients the task does not exist yet.
struct Creating {};
struct CreatedPhase {};
struct Running {};
struct Paused {};
struct Stopped {
  Exit exit;
};
using Phase = std::variant<Creating, CreatedPhase, Running, Paused, Stopped>;

struct Waiter {
  Done<Exit> done;
  std::function<bool()> is_gone;  ///< nobody listens to `done` any more
};

/// Init or an exec.
struct TaskProcess {
  std::string exec_id;  ///< empty: init
  StdioUris stdio;
  Phase phase = Creating{};
  bool starting = false;           ///< Start is under way on a worker
  bool stdin_closed = false;       ///< CloseIO came; before Start there is nothing to close yet
  std::optional<Exit> early_exit;  ///< ended while starting: told after TaskStart was
  Process process;                 ///< pid 0 until there is one
  std::unique_ptr<Reaper::Watch> watch;
  std::unique_ptr<ProcessIo> io;
  std::optional<oci::Process> spec;  ///< exec only
  std::vector<Waiter> waiters;

  template <class T>
  bool is() const noexcept {
    return std::holds_alternative<T>(phase);
  }
  bool is_alive() const noexcept { return is<CreatedPhase>() || is<Running>() || is<Paused>(); }
  uint32_t pid() const noexcept { return static_cast<uint32_t>(process.pid); }
  Exit exit() const { return is<Stopped>() ? std::get<Stopped>(phase).exit : Exit{}; }
  /// Parks a waiter, clearing away those whose clients have left.
  void park(Waiter waiter);
  void answer_waiters();
};

/// What Start needs to make a container of a checkpoint; until then there is no process.
struct Restore {
  CreateOptions create;
  RestoreOptions criu;
};

struct Task {
  std::string id, bundle;
  IoOwner io_owner;
  TaskBackend* backend = nullptr;
  TaskProcess init;
  std::map<std::string, std::shared_ptr<TaskProcess>> execs;
  std::optional<Restore> restore;  ///< created of a checkpoint and not started yet
  bool own_pid_namespace = false;
  bool has_rootfs_mounts = false;
  bool ending = false;     ///< init was reaped: nothing new may start
  bool exit_said = false;  ///< init's TaskExit has been published
  bool deleting = false;
  std::shared_ptr<cgroup::Cgroup> cgroup;
  UniqueFd oom_fd;
  std::unique_ptr<FdWatch> oom_watch;
  uint64_t oom_kills = 0;  ///< as far as published
  std::shared_ptr<Workers::Queue> verbs = Workers::make_queue();
  std::shared_ptr<Workers::Queue> questions = Workers::make_queue();
  std::vector<Callback> on_created;  ///< requests that came while Creating

  /// Whether the step is allowed now; kPrecondition says why not.
  Result<void> can_start() const;
  Result<void> can_add_exec() const;
  Result<void> can_start_exec(const TaskProcess& exec) const;
  Result<void> can_pause() const;
  Result<void> can_resume() const;
  Result<void> can_update() const;
  Result<void> can_checkpoint() const;
  Result<void> can_delete() const;
  bool has_live_execs() const;
};

/// "created", "running", ... for messages.
const char* to_string(const Phase& phase) noexcept;

}  // namespace amphora::shim
