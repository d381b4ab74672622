// SPDX-License-Identifier: Apache-2.0
// The procfs of a pid namespace that this process has not entered and will enter last of all (kFork):
// by the option of procfs where the kernel has it (Linux 6.17), else by a helper that enters for it.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstdint>

#include "executor/base/missing.h"
#include "executor/init/context.h"
#include "executor/init/init.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

constexpr int kSocket = 0, kNamespace = 1;  // the helper's only descriptors

long clone_plain(uint64_t exit_signal) noexcept {
  struct clone_args args{};
  args.exit_signal = exit_signal;
  return call(SYS_clone3, &args, static_cast<uint64_t>(sizeof args));
}

void reap(int pid) noexcept {
  long reaped = 0;
  do {
    reaped = call(SYS_wait4, pid, nullptr, 0x40000000 /* __WALL */, nullptr);
  } while (reaped == -EINTR);
}

[[noreturn]] void leave() noexcept {
  for (;;) call(SYS_exit_group, 0);
}

/// Inside the namespace: a filesystem context remembers the pid namespace of its opener, so opening one
/// is all that has to be done here.
void answer() noexcept {
  call(SYS_close, kNamespace);
  const long fs = call(SYS_fsopen, "proc", static_cast<uint32_t>(FSOPEN_CLOEXEC));
  Walk walk{};
  walk.status_fd = kSocket;
  const Message message{MessageKind::kReady, 0, fs < 0 ? static_cast<int32_t>(-fs) : 0, 0};
  send(walk, message, nullptr, 0, static_cast<int>(fs));
}

/// Who may trace in that namespace sees its newcomers: this one stands in an empty read-only root and
/// holds a socket and the namespace, as kFork's would not yet (CVE-2016-9962).
void help(int socket, int ns, int empty) noexcept {
  long result = call(SYS_fchdir, empty);
  if (result == 0) result = call(SYS_chroot, ".");
  // Out of the way of the two numbers first.
  const long spare = call(SYS_fcntl, ns, F_DUPFD_CLOEXEC, 2);
  if (spare < 0) result = spare;
  if (result == 0) result = call(SYS_dup3, socket, kSocket, 0);
  if (result >= 0) result = call(SYS_dup3, static_cast<int>(spare), kNamespace, 0);
  if (result >= 0) result = call(SYS_close_range, 2, ~0U, 0);
  // Refused to a user namespace that joined it beforehand; then it is already our children's.
  if (result == 0) call(SYS_setns, kNamespace, CLONE_NEWPID);
  if (result == 0) result = clone_plain(SIGCHLD);
  if (result == 0) {
    answer();
    leave();
  }
  if (result > 0) {
    reap(static_cast<int>(result));
    leave();
  }
  Walk walk{};
  walk.status_fd = kSocket;
  send(walk, Message{MessageKind::kReady, 0, static_cast<int32_t>(-result), 0}, nullptr, 0, -1);
}

/// The descriptor of the one message on `socket`, or -errno: the sender's, or ESRCH for none.
long receive(int socket) noexcept {
  Message message{};
  struct iovec part{&message, sizeof message};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  long n = 0;
  do {
    n = call(SYS_recvmsg, socket, &header, MSG_CMSG_CLOEXEC);
  } while (n == -EINTR);
  if (n < 0) return n;
  if (n < static_cast<long>(sizeof message)) return -ESRCH;
  if (message.err != 0) return -message.err;
  if (header.msg_controllen < CMSG_LEN(sizeof(int))) return -ESRCH;
  return *reinterpret_cast<int*>(CMSG_DATA(reinterpret_cast<struct cmsghdr*>(control)));
}

long context_by_helper(int ns, int empty) noexcept {
  int pair[2] = {-1, -1};
  const long made = call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, &pair);
  if (made < 0) return made;
  const LocalFd ours(pair[0]);
  const long pid = clone_plain(SIGCHLD);
  if (pid < 0) return pid;
  if (pid == 0) {
    help(pair[1], ns, empty);
    leave();
  }
  call(SYS_close, pair[1]);
  const long fs = receive(ours.get());
  reap(static_cast<int>(pid));
  return fs;
}

}  // namespace

long mount_proc(const Context& c, const Step& s) noexcept {
  const LocalFd target(resolve_or_make(c.walk, c.text(s.a), false, s.flags));
  if (!target.ok()) return target.error();
  const int ns = c.fd(s);
  const LocalFd own(call(SYS_fsopen, "proc", static_cast<uint32_t>(FSOPEN_CLOEXEC)));
  if (!own.ok()) return own.error();
  int fs = own.get();
  long result = call(SYS_fsconfig, fs, kFsSetFd, "pidns", nullptr, ns);
  if (result == -EINVAL) {
    result = context_by_helper(ns, c.fd_at(static_cast<int64_t>(s.m)));
    fs = static_cast<int>(result);
  }
  if (result < 0) return result;
  call(SYS_fsconfig, fs, kFsSetString, "source", "proc", 0);
  return mount_context(c, s, fs, target.get(), 0);
}

}  // namespace amphora::init
