// SPDX-License-Identifier: Apache-2.0
// A fork whose child belongs to our parent (CLONE_PARENT) and which glibc does not notice to have
// happened behind its back: its cached thread id and its robust mutex list are those of the child.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace amphora::wasm {

/// What glibc's struct pthread keeps about the calling thread and a raw clone would leave stale.
struct LibcThread {
  int* tid = nullptr;    ///< struct pthread's tid, which raise() and mutexes use
  int* clear = nullptr;  ///< what glibc gave set_tid_address: the same word, or since 2.43 another
  void* robust = nullptr;  ///< its robust list head, forgotten by the kernel in a new process
  unsigned long robust_size = 0;
};

/// Finds them through the kernel, to which glibc has told both at start (set_tid_address,
/// set_robust_list). False when the kernel does not say or the values do not fit together.
bool find_libc_thread(LibcThread* thread) noexcept;

/// Clones this single-threaded process: 0 in the child, its pid here, -1 with errno. All signals are
/// blocked in the child. pthread_atfork handlers do not run (docs/wasm.md tells engines).
pid_t clone_for_parent(const LibcThread& thread, uint64_t flags, int cgroup_fd,
                       int* pidfd) noexcept;

}  // namespace amphora::wasm
