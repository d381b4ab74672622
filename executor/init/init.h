// SPDX-License-Identifier: Apache-2.0
// The child: walks the steps of a frozen plan with system calls and nothing else. Compiled alone
// without exceptions and RTTI; it may not allocate, throw, log, format or touch libc state
// (tests/lint/child_symbols.sh compares its undefined symbols with a list).
#pragma once

#include "executor/init/step.h"

namespace amphora::init {

/// What libc keeps about the calling thread and a raw clone would leave stale (wasm host only; a native
/// program's libc starts with its exec).
struct LibcWords {
  int* tid = nullptr;
  int* clear = nullptr;
  void* robust = nullptr;
  unsigned long robust_size = 0;
};

/// What the child carries from step to step.
struct Walk {
  int status_fd;                ///< SOCK_SEQPACKET to the parent; after kAwaitStart, to the starter
  int root_fd = -1;             ///< the container's root
  int dir_fd = -1;              ///< what kEnterDir opened
  int kept_fd = -1;             ///< what a kEnterDir opened for another one
  bool in_cwd = false;          ///< a kChdir has worked
  int view_root = -1;           ///< of kView: its "/",
  int view_cwd = -1;            ///< the working directory in it, if that could be opened already,
  int view_ns = -1;             ///< and the mount namespace, which ends with this descriptor
  bool null_attached = false;   ///< the first kMask of a file used up the detached tree
  bool empty_attached = false;  ///< the same for directories
  const char* null_name = nullptr;   ///< the first masked file in the working directory
  const char* empty_name = nullptr;  ///< the same for directories
  uint32_t early = 0;  ///< kProceeds of the parent's own share, read while waiting for another
  uint32_t next = 0;   ///< the step to go on with; run() resumes here after a kHandOver
  const char* exe = nullptr;  ///< what kFindExe found
  LibcWords libc{};           ///< for kFork
};

/// Walks all steps. Ends the process with _exit(127) after sending a Failure, or by exec; returns
/// only at kHandOver (wasm host), with walk.status_fd still open and close-on-exec, and walk.next
/// behind it.
/// SAFETY: called in a fresh child between clone and exec, where only async-signal-safe code may run.
void run(const View& view, Walk& walk) noexcept;

/// Closes every descriptor but 0-2, the status socket, the plan's and `preserve` ones from 3 on: a
/// container that waits for start must not keep its creator's sockets open.
void keep_only(const View& view, const Walk& walk, uint32_t preserve) noexcept;

/// Sends a Failure for `step` and ends the process.
[[noreturn]] void fail(Walk& walk, uint16_t step, int err) noexcept;
/// Sends a FailureText (cut to kFailureTextMax) and ends the process with `exit_code`; for the wasm
/// host, whose reasons are more than an errno.
[[noreturn]] void fail_text(Walk& walk, int exit_code, const char* text, uint32_t size) noexcept;

}  // namespace amphora::init
