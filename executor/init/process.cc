// SPDX-License-Identifier: Apache-2.0
// Operations on the child itself: credentials, limits, labels, filters, working directory, finding
// and executing the program, hooks that run inside.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "executor/base/missing.h"
#include "executor/init/context.h"
#include "executor/init/init.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

/// Makes pointers of a table of text offsets, in place: the block is the child's own copy.
/// SAFETY: the block is writable memory of this process (see View); offsets come from our builder.
char** pointers(const Context& c, uint32_t offset) noexcept {
  auto* entry = reinterpret_cast<uint64_t*>(const_cast<char*>(c.text(offset)));
  auto** table = reinterpret_cast<char**>(entry);
  for (; *entry != 0; ++entry) {
    *entry = reinterpret_cast<uint64_t>(c.text(static_cast<uint32_t>(*entry)));
  }
  return table;
}

uint64_t word(const char* text) noexcept {
  uint64_t value = 0;
  for (uint32_t i = 0; i < sizeof value; ++i) {
    reinterpret_cast<char*>(&value)[i] = text[i];
  }
  return value;
}

long proc_open(int proc_fd, const char* path, uint64_t flags) noexcept {
  // Beneath our own handle and on its one mount: nothing mounted over a file below is ever written
  // (CVE-2025-52881).
  return open_how(proc_fd, path, flags | O_CLOEXEC, 0,
                  RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

}  // namespace

/// Who moves another process pays an RCU grace period, milliseconds; a single thread that moves itself
/// does not (cgroup v1, file tasks).
long join_cgroup(const Context& c, const Step& s) noexcept {
  const long written = call(SYS_write, c.fd(s), "0", 1);
  return written < 0 ? written : 0;
}

/// time_namespaces(7): offsets were written by the parent while nobody was inside; unshare only set
/// what children get, so this process enters by hand.
long enter_time_namespace(const Context& c, const Step& s) noexcept {
  const LocalFd ns(call(SYS_openat, c.fd(s), "self/ns/time_for_children", O_RDONLY | O_CLOEXEC, 0));
  return ns.ok() ? call(SYS_setns, ns.get(), CLONE_NEWTIME) : ns.error();
}

/// user_namespaces(7): after the maps are written, become the namespace's root. Groups are dropped
/// where setgroups is allowed at all (denied for unprivileged maps).
long become_root(const Context&, const Step&) noexcept {
  long result = call(SYS_setgroups, 0, nullptr);
  if (result < 0 && result != -EPERM) return result;
  result = call(SYS_setresgid, 0, 0, 0);
  return result < 0 ? result : call(SYS_setresuid, 0, 0, 0);
}

long loopback_up(const Context&, const Step&) noexcept {
  const LocalFd socket(call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.ok()) return socket.error();
  struct ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  return call(SYS_ioctl, socket.get(), SIOCSIFFLAGS, &request);
}

long write_proc(const Context& c, const Step& s) noexcept {
  const LocalFd file(proc_open(c.fd(s), c.text(s.a), O_WRONLY));
  if (!file.ok()) return file.error();
  const long written = call(SYS_write, file.get(), c.text(s.b), s.n);
  return written < 0 ? written : 0;
}

/// session-keyring(7). A full quota or a kernel without keys is no reason to fail a container.
long session_keyring(const Context& c, const Step& s) noexcept {
  const long result = call(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, c.text(s.a));
  if (result == -EDQUOT || result == -ENOSYS || result == -EPERM) return 0;
  return result < 0 ? result : 0;
}

long rlimit(const Context& c, const Step& s) noexcept {
  const struct rlimit64 limit{s.m, word(c.text(s.d))};
  return call(SYS_prlimit64, 0, s.n, &limit, nullptr);
}

long seccomp(const Context& c, const Step& s) noexcept {
  const struct sock_fprog program{
      static_cast<unsigned short>(s.n),
      reinterpret_cast<struct sock_filter*>(const_cast<char*>(c.text(s.a)))};
  const long result = call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, s.m, &program);
  if (result < 0 || (s.m & SECCOMP_FILTER_FLAG_NEW_LISTENER) == 0) return result;
  const LocalFd listener(result);
  return send(c.walk, Message{MessageKind::kSeccomp, 0, 0, listener.get()}, nullptr, 0,
              listener.get());
}

/// One prctl per capability: the kernel has no call for a mask.
long drop_bounding(const Context&, const Step& s) noexcept {
  for (uint64_t cap = 0; cap <= s.m; ++cap) {
    if ((s.n >> cap & 1) != 0) continue;
    const long result = call(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0);
    if (result < 0 && result != -EINVAL) return result;
  }
  return 0;
}

long set_groups(const Context& c, const Step& s) noexcept {
  return call(SYS_setgroups, s.n, s.n != 0 ? c.text(s.a) : nullptr);
}

long set_caps(const Context& c, const Step& s) noexcept {
  const uint64_t inheritable = word(c.text(s.a));
  struct __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const struct __user_cap_data_struct data[2] = {
      {static_cast<uint32_t>(s.n), static_cast<uint32_t>(s.m), static_cast<uint32_t>(inheritable)},
      {static_cast<uint32_t>(s.n >> 32), static_cast<uint32_t>(s.m >> 32),
       static_cast<uint32_t>(inheritable >> 32)}};
  return call(SYS_capset, &header, &data);
}

long raise_ambient(const Context&, const Step& s) noexcept {
  for (uint64_t cap = 0; cap < 64; ++cap) {
    if ((s.n >> cap & 1) == 0) continue;
    const long result = call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    if (result < 0) return result;
  }
  return 0;
}

/// Entered before the user changes, tried again after it (a directory that only the user may enter,
/// on a filesystem that squashes root). The kernel's own getcwd says when it lies outside the root,
/// as /proc/self/fd/N of a leaked host directory would (CVE-2024-21626).
long change_dir(const Context& c, const Step& s) noexcept {
  if (c.walk.in_cwd) return 0;
  const char* path = c.text(s.a);
  long result = call(SYS_chdir, path);
  if (result == -ENOENT && (s.flags & kCreate) != 0) {
    const LocalFd made(resolve_or_make(c.walk, path, false, 0));
    if (!made.ok()) return made.error();
    result = call(SYS_fchdir, made.get());
    call(SYS_close, made.get());  // after kTidy: a wasm guest never execs
  }
  if ((result == -EACCES || result == -EPERM) && s.n != 0) return 0;  // n: another try comes
  if (result < 0) return result;
  if (path[0] == '/' && path[1] == '\0') {
    c.walk.in_cwd = true;  // the root cannot lie outside the root
    return 0;
  }
  char cwd[kPathMax];
  const long size = call(SYS_getcwd, cwd, static_cast<uint64_t>(sizeof cwd));
  if (size < 0) return size;
  if (cwd[0] != '/') return -EXDEV;
  c.walk.in_cwd = true;
  return 0;
}

/// A filter made before 5.8 knows no faccessat2 and answers ENOSYS or EPERM; by now real and effective
/// ids are the same, so the older call says the same. Where no filter lets us ask, execve answers.
long may_execute(const char* path) noexcept {
  long result = call(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS);
  if (result != -ENOSYS && result != -EPERM) return result;
  result = call(SYS_faccessat, AT_FDCWD, path, X_OK);
  return result == -ENOSYS || result == -EPERM ? 0 : result;
}

/// As execvp(3) chooses: the first candidate that is a file and executable; EACCES is remembered and
/// outweighs ENOENT. Found now, so that a missing program fails create and not start.
long find_exe(const Context& c, const Step& s) noexcept {
  long error = -ENOENT;
  const char* path = c.text(s.a);
  while (*path != '\0') {
    struct stat st{};
    long result = 0;
    // One look is enough where the parent found a file: what came in its place since, exec refuses.
    if (s.n == 0 || path != c.text(s.a)) {
      result = call(SYS_newfstatat, AT_FDCWD, path, &st, 0);
      if (result == 0 && S_ISDIR(st.st_mode)) result = -EISDIR;
    }
    if (result == 0) result = may_execute(path);
    if (result == 0) {
      c.walk.exe = path;
      return 0;
    }
    if (result != -ENOENT && result != -ENOTDIR && error == -ENOENT) error = result;
    while (*path != '\0') ++path;
    ++path;
  }
  return error;
}

long close_fds(const Context&, const Step& s) noexcept {
  constexpr int kCloexec = 4;  // CLOSE_RANGE_CLOEXEC, 5.11
  return call(SYS_close_range, s.n, ~0U, kCloexec);
}

long exec(const Context& c, const Step& s) noexcept {
  return call(SYS_execve, c.walk.exe, pointers(c, s.b), pointers(c, s.c));
}

namespace {

long now_ms() noexcept {
  struct timespec now{};
  call(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/// 0 when the hook has ended, -errno else: ETIMEDOUT for a late one.
long wait_hook(int pidfd, uint64_t timeout_ms) noexcept {
  const long end = now_ms() + static_cast<long>(timeout_ms);
  for (;;) {
    const long left = timeout_ms == 0 ? -1 : end - now_ms();
    if (timeout_ms != 0 && left <= 0) return -ETIMEDOUT;
    struct pollfd poll{pidfd, POLLIN, 0};
    const struct timespec wait{left / 1000, left % 1000 * 1000000};
    const long n = call(SYS_ppoll, &poll, 1, left < 0 ? nullptr : &wait, nullptr, 0);
    if (n == -EINTR) continue;
    if (n < 0) return n;
    if (n > 0) return 0;
  }
}

/// Text under construction; what does not fit is left out.
struct Text {
  char bytes[kFailureTextMax];
  uint32_t size = 0;

  void add(const char* from, uint32_t n) noexcept {
    for (uint32_t i = 0; i < n && size < kFailureTextMax; ++i) bytes[size++] = from[i];
  }
  void add(const char* text) noexcept {
    uint32_t n = 0;
    while (text[n] != '\0') ++n;
    add(text, n);
  }
  void add(int number) noexcept {  // 0 to 999
    if (number >= 100) add(&"0123456789"[number / 100], 1);
    if (number >= 10) add(&"0123456789"[number / 10 % 10], 1);
    add(&"0123456789"[number % 10], 1);
  }
};

/// How a hook ended, with the end of what it said: nobody else has seen that.
[[noreturn]] void fail_hook(const Context& c, const Step& s, const siginfo_t& info,
                            int output) noexcept {
  Text text;
  text.add(c.text(s.what));
  text.add(info.si_code == CLD_EXITED ? ": exit status " : ": signal ");
  text.add(info.si_status);
  if (info.si_code != CLD_EXITED) {
    text.add(info.si_status == SIGSYS    ? " (bad system call: refused by the seccomp filter)"
             : info.si_status == SIGKILL ? " (killed)"
             : info.si_status == SIGSEGV ? " (segmentation fault)"
                                         : "");
  }
  text.add(", output: ");
  char said[256];
  const long size = call(SYS_lseek, output, 0, SEEK_END);
  const long from =
      size > static_cast<long>(sizeof said) ? size - static_cast<long>(sizeof said) : 0;
  long n = call(SYS_pread64, output, said, static_cast<uint64_t>(sizeof said),
                static_cast<uint64_t>(from));
  while (n > 0 && said[n - 1] == '\n') --n;
  if (n > 0) text.add(said, static_cast<uint32_t>(n));
  fail_text(c.walk, 1, text.bytes, text.size);
}

}  // namespace

/// A hook inside the container: its own process, stdin the state that the parent wrote to a memfd,
/// nothing of ours open, killed when late. vfork-like would share our stack; a plain clone does not.
long hook(const Context& c, const Step& s) noexcept {
  int pidfd = -1;
  const LocalFd output(call(SYS_memfd_create, "hook-output", 1 /* MFD_CLOEXEC */));
  if (!output.ok()) return output.error();
  struct clone_args args{};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const long pid = call(SYS_clone3, &args, static_cast<uint64_t>(sizeof args));
  if (pid < 0) return pid;
  if (pid == 0) {
    call(SYS_lseek, c.fd(s), 0, SEEK_SET);
    call(SYS_dup3, c.fd(s), 0, 0);
    call(SYS_dup3, output.get(), 1, 0);
    call(SYS_dup3, output.get(), 2, 0);
    call(SYS_close_range, 3, ~0U, 4);
    call(SYS_execve, c.text(s.a), pointers(c, s.b), pointers(c, s.c));
    for (;;) call(SYS_exit_group, 127);
  }
  const LocalFd held(pidfd);
  const long waited = wait_hook(pidfd, s.n);
  if (waited < 0) call(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
  siginfo_t info{};
  long reaped = 0;
  do {
    reaped = call(SYS_waitid, 3 /* P_PIDFD */, pidfd, &info, WEXITED, nullptr);
  } while (reaped == -EINTR);
  if (waited < 0) return waited;
  if (info.si_code != CLD_EXITED || info.si_status != 0) fail_hook(c, s, info, output.get());
  call(SYS_close, output.get());
  return 0;
}

}  // namespace amphora::init
