// SPDX-License-Identifier: Apache-2.0
// Standing in front of a container's process: its signals, its terminal, its exit code. Used by run
// and exec when not detached.
#pragma once

#include "executor/base/process.h"
#include "executor/cli/console.h"
#include "executor/cli/notify.h"

namespace amphora::cli {

enum class Subreaper : bool { kNo = false, kYes = true };

class Foreground {
 public:
  /// From here on signals wait for `wait`, none is lost while the container is being made.
  Result<void> prepare(Subreaper subreaper);
  TerminalRelay& terminal() noexcept { return terminal_; }
  /// Forwards signals and copies the terminal until the process has ended; reaps it.
  /// `notify` (may be null) is passed on meanwhile; we are the service's main process then.
  Result<ExitStatus> wait(const Process& process, Children& children, Notify* notify = nullptr);

 private:
  void take_signals(const Process& process, Children& children);

  UniqueFd signals_;
  TerminalRelay terminal_;
  bool subreaper_ = false;
};

}  // namespace amphora::cli
