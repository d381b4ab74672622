// SPDX-License-Identifier: Apache-2.0
// See libc_clone.h. glibc's own fork() cannot take CLONE_PARENT or namespaces; what it does beside the
// system call is, in a process with one thread and no POSIX timers or queues: the thread id through
// CLONE_CHILD_SETTID, set_tid_address and set_robust_list. All are done here the same way.
#include "wasm/host/libc_clone.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

namespace amphora::wasm {

bool find_libc_thread(LibcThread* thread) noexcept {
  if (::syscall(SYS_get_robust_list, 0, &thread->robust, &thread->robust_size) != 0) return false;
  if (thread->robust == nullptr) return false;
  const auto self = static_cast<int>(::syscall(SYS_gettid));
  // struct pthread has { pid_t tid; pid_t unused; void* robust_prev; robust_head } on 64-bit glibc
  // since 2.25. Before 2.43 the tid was also what set_tid_address got; the value tells in either case
  // whether it is so.
  int* const near_robust = reinterpret_cast<int*>(static_cast<char*>(thread->robust) - 16);
  // COMPAT(CONFIG_CHECKPOINT_RESTORE off): the kernel does not tell; then it is taken for the tid.
  if (::prctl(PR_GET_TID_ADDRESS, &thread->clear, 0, 0, 0) != 0) thread->clear = near_robust;
  thread->tid = thread->clear != nullptr && *thread->clear == self ? thread->clear : near_robust;
  return *thread->tid == self;
}

pid_t clone_for_parent(const LibcThread& thread, uint64_t flags, int cgroup_fd,
                       int* pidfd) noexcept {
  struct clone_args args{};
  // The child shares our parent; exit_signal must be 0 then, and the zygote's own (SIGCHLD) is used.
  args.flags = flags | CLONE_PARENT | CLONE_PIDFD | CLONE_CHILD_SETTID;
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.child_tid = reinterpret_cast<uint64_t>(thread.tid);
  if (cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup_fd);
  }
  // A handler must not run in the child before its libc is whole.
  uint64_t all = ~uint64_t{0};
  uint64_t before = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
  if (pid == 0) {
    ::syscall(SYS_set_tid_address, thread.clear);
    // The list is empty here: the zygote holds no robust mutex.
    ::syscall(SYS_set_robust_list, thread.robust, thread.robust_size);
    return 0;
  }
  const int err = errno;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof before);
  errno = err;
  return pid;
}

}  // namespace amphora::wasm
