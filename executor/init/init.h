// SPDX-License-Identifier: Apache-2.0
// The child: walks the steps of a frozen plan with system calls and nothing else. Compiled alone
// without exceptions and RTTI; it may not allocate, throw, log, format or touch libc state
// (tests/lint/child_symbols.sh compares its undefined symbols with a list).
#pragma once

#include "executor/init/step.h"

namespace amphora::init {

/// What the child carries from step to step.
struct Walk {
  int status_fd;      ///< SOCK_SEQPACKET to the parent; after kAwaitStart, to the starter
  int root_fd = -1;   ///< the attached rootfs until pivot
  const char* exe = nullptr;  ///< what kFindExe found
};

/// Walks all steps. Ends the process with _exit(127) after sending a Failure, or by exec; returns
/// only at kHandOver (wasm host), with walk.status_fd still open and close-on-exec.
/// SAFETY: called in a fresh child between clone and exec, where only async-signal-safe code may run.
void run(const View& view, Walk& walk) noexcept;

/// Sends a Failure for `step` and ends the process; for the wasm host's own failures after the
/// steps (text is looked up by the parent: `step` must exist in the plan).
[[noreturn]] void fail(Walk& walk, uint16_t step, int err) noexcept;

}  // namespace amphora::init
