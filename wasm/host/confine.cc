// SPDX-License-Identifier: Apache-2.0
// See confine.h. The one user of libseccomp in the wasm host.
#include "wasm/host/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "executor/base/missing.h"

namespace amphora::wasm {
namespace {

constexpr uid_t kNobody = 65534;

/// An empty read-only tmpfs becomes the root and the host's mounts are detached. 0 or errno.
int empty_root() noexcept {
  const auto fs = static_cast<int>(::syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
  if (fs < 0) return errno;
  if (::syscall(SYS_fsconfig, fs, kFsSetString, "nr_inodes", "1", 0) != 0 ||
      ::syscall(SYS_fsconfig, fs, kFsCreate, nullptr, nullptr, 0) != 0) {
    return errno;
  }
  const auto mount = static_cast<int>(
      ::syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (mount < 0) return errno;
  // Private first: no mount or unmount of ours may travel back (mount_namespaces(7)).
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno;
  if (::syscall(SYS_move_mount, mount, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return errno;
  // pivot_root(2), "pivot_root(".", ".")": the old root ends up beneath the new one and is let go.
  if (::fchdir(mount) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0 ||
      ::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0) {
    return errno;
  }
  ::close(mount);
  ::close(fs);
  return 0;
}

/// Namespaces and an unprivileged user. Without root's rights a user namespace stands in; where that
/// is forbidden too, the filter below is what remains.
int leave_the_host() noexcept {
  constexpr int kOwn = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
  const bool root = ::geteuid() == 0;
  if (::unshare(root ? kOwn : kOwn | CLONE_NEWUSER) != 0) return root ? errno : 0;
  if (const int err = empty_root(); err != 0) return root ? err : 0;
  if (!root) return 0;
  if (::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 ||
      ::setresuid(kNobody, kNobody, kNobody) != 0) {
    return errno;
  }
  return 0;
}

int limit(__rlimit_resource resource, uint64_t value) noexcept {
  struct rlimit now{};
  if (::getrlimit(resource, &now) != 0) return errno;
  const rlim_t wanted = value < now.rlim_max ? value : now.rlim_max;
  const struct rlimit both{wanted, wanted};
  return ::setrlimit(resource, &both) == 0 ? 0 : errno;
}

int set_limits(const Confinement& limits) noexcept {
  int err = limit(RLIMIT_CORE, 0);
  if (err == 0) err = limit(RLIMIT_FSIZE, 0);   // the output is a pipe
  if (err == 0) err = limit(RLIMIT_NOFILE, 0);  // nothing is opened any more
  if (err == 0 && limits.cpu_seconds != 0) err = limit(RLIMIT_CPU, limits.cpu_seconds);
#ifndef __SANITIZE_ADDRESS__  // whose shadow of terabytes counts as data
  if (err == 0 && limits.memory != 0) err = limit(RLIMIT_DATA, limits.memory);
#endif
  return err;
}

/// What computing, allocating, threads and a pipe take. Everything else is answered with EPERM, and
/// what only an attacker asks for ends the process.
int allow(scmp_filter_ctx filter) noexcept {
  const int plain[] = {SCMP_SYS(read),         SCMP_SYS(readv),        SCMP_SYS(pread64),
                       SCMP_SYS(write),        SCMP_SYS(writev),       SCMP_SYS(close),
                       SCMP_SYS(fstat),        SCMP_SYS(newfstatat),   SCMP_SYS(lseek),
                       SCMP_SYS(munmap),       SCMP_SYS(mremap),       SCMP_SYS(madvise),
                       SCMP_SYS(brk),          SCMP_SYS(futex),        SCMP_SYS(exit),
                       SCMP_SYS(exit_group),   SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
                       SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),  SCMP_SYS(clock_gettime),
                       SCMP_SYS(clock_getres), SCMP_SYS(nanosleep),    SCMP_SYS(clock_nanosleep),
                       SCMP_SYS(gettimeofday), SCMP_SYS(time),         SCMP_SYS(getpid),
                       SCMP_SYS(gettid),       SCMP_SYS(sched_yield),  SCMP_SYS(sched_getaffinity),
                       SCMP_SYS(getrandom),    SCMP_SYS(rseq),         SCMP_SYS(set_robust_list),
                       SCMP_SYS(poll),         SCMP_SYS(ppoll),        SCMP_SYS(restart_syscall),
                       SCMP_SYS(getrlimit),    SCMP_SYS(uname),        SCMP_SYS(sysinfo),
                       SCMP_SYS(getcpu),       SCMP_SYS(membarrier),   SCMP_SYS(getuid),
                       SCMP_SYS(geteuid),      SCMP_SYS(getgid),       SCMP_SYS(getegid)};
  for (const int call : plain) {
    if (const int err = ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0); err != 0) return -err;
  }
  const int deadly[] = {SCMP_SYS(execve),
                        SCMP_SYS(execveat),
                        SCMP_SYS(ptrace),
                        SCMP_SYS(process_vm_readv),
                        SCMP_SYS(process_vm_writev),
                        SCMP_SYS(fork),
                        SCMP_SYS(vfork),
                        SCMP_SYS(kill),
                        SCMP_SYS(bpf)};
  for (const int call : deadly) {
    if (const int err = ::seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, call, 0); err != 0)
      return -err;
  }
  return 0;
}

int allow_with_arguments(scmp_filter_ctx filter) noexcept {
  const auto pid = static_cast<scmp_datum_t>(::getpid());
  int err = 0;
  // Memory, but no new code: a compiler writes its code to the pipe.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    if (err == 0) err = ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &no_exec);
  }
  // Threads, not processes. clone3 hides its flags from a filter; libc falls back on ENOSYS.
  const struct scmp_arg_cmp thread =
      SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM);
  if (err == 0) err = ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &thread);
  if (err == 0) err = ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  // abort() and raise() signal this process; nobody else is to be signalled.
  const struct scmp_arg_cmp self = SCMP_A0(SCMP_CMP_EQ, pid);
  if (err == 0) err = ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self);
  // Reading limits (stack size of new threads), not setting them.
  const struct scmp_arg_cmp reading = SCMP_A2(SCMP_CMP_EQ, 0);
  if (err == 0)
    err = ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, &reading);
  const struct scmp_arg_cmp naming = SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME);
  if (err == 0) err = ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, &naming);
  // Rust asks each descriptor for its flags before it uses it in debug builds.
  const struct scmp_arg_cmp asking = SCMP_A1(SCMP_CMP_EQ, F_GETFD);
  if (err == 0) err = ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, &asking);
  return -err;
}

int install_filter() noexcept {
  scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (filter == nullptr) return ENOMEM;
  ::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  int err = allow(filter);
  if (err == 0) err = allow_with_arguments(filter);
  if (err == 0) err = -::seccomp_load(filter);
  ::seccomp_release(filter);
  return err;
}

bool report(const char* what, int err, char* text, size_t capacity) noexcept {
  std::snprintf(text, capacity, "limit the compile process: %s: %s", what, std::strerror(err));
  return false;
}

}  // namespace

bool confine(const Confinement& limits, char* text, size_t capacity) noexcept {
  if (const int err = leave_the_host(); err != 0)
    return report("own namespaces", err, text, capacity);
  // After the change of user, which clears it: the compile ends with who waits for it.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return report("no_new_privs", errno, text, capacity);
  }
  if (const int err = set_limits(limits); err != 0) return report("rlimits", err, text, capacity);
  if (const int err = install_filter(); err != 0) return report("seccomp", err, text, capacity);
  return true;
}

}  // namespace amphora::wasm
