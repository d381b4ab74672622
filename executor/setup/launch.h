// SPDX-License-Identifier: Apache-2.0
// Launching a plan: the init process is made (by clone3 or by the executor's spawner) and the
// parent's half of the handshake runs until the child is ready. A failed launch leaves no process.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/setup/exec_plan.h"
#include "executor/setup/host.h"
#include "executor/setup/plan.h"

namespace amphora::setup {

struct LaunchRequest {
  Plan& plan;  ///< its sources are open
  const Host& host;
  const cgroup::Cgroup* cgroup;  ///< asked why a child died without a word; null: none
  Children& children;
  bool place = false;   ///< the parent places the child in `cgroup` (a new systemd scope)
  int clone_into = -1;  ///< unified cgroup to be born in (borrowed); -1: none. The rest of the
                        ///< cgroups is the plan's (join-cgroup)
  Spawner* spawner = nullptr;  ///< null: clone3 of this process
  int preserve_fds = 0;
  bool wait_for_exec = false;  ///< exec: return when the program runs, not when it is ready
  /// Takes what the launch no longer needs, for the caller to close with its own; null: closed here.
  std::vector<UniqueFd>* spent = nullptr;
  /// Called once the process exists and before it may go on: the state with its pid is saved here,
  /// so that a killed creator leaves something that can be cleaned.
  std::function<Result<void>(const Process&)> on_spawned = nullptr;
  /// The state object for hooks that run inside, given the pid they see.
  std::function<std::string(pid_t)> hook_state = nullptr;
  std::function<Result<void>(const Process&)> run_hooks = nullptr;  ///< prestart, createRuntime
  std::function<Result<void>(UniqueFd)> on_console = nullptr;
  std::function<Result<void>(UniqueFd, const Process&)> on_seccomp = nullptr;
};

/// The init (or exec) process, registered with `children` and reaped by nobody yet. On failure the
/// process has been killed and reaped; the error is the child's own, by step.
Result<Process> launch(const LaunchRequest& request);

/// The text of a Failure or FailureText datagram: "mount proc on /proc: operation not permitted".
Error failure_of(std::string_view datagram);

}  // namespace amphora::setup
