// SPDX-License-Identifier: Apache-2.0
// The walk: one loop, one switch. What each operation does and why stands above its function in
// mounts.cc, nodes.cc, process.cc and handshake.cc. May not: allocate, throw, log, format, or call
// anything but system calls (tests/lint/child_symbols.sh).
#include "executor/init/init.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdint>

#include "executor/init/context.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

/// One step. 0 or -errno.
// NOLINTNEXTLINE(readability-function-size): a line or two for each operation that there is
long perform(const Context& c, const Step& s, uint16_t index) noexcept {
  switch (s.op) {
    case Op::kNop:
    case Op::kHandOver:
      return 0;
    case Op::kJoinCgroup:
      return join_cgroup(c, s);
    // The raw call gives the size of the kernel's mask.
    case Op::kAffinity: {
      const long result = call(SYS_sched_setaffinity, 0, s.n, c.text(s.a));
      return result < 0 ? result : 0;
    }
    case Op::kAwait:
      return await(c, s);
    case Op::kRendezvous:
      return rendezvous(c, s, index);
    // setns(2), unshare(2): order and reasons are make_plan's.
    case Op::kSetNamespace:
      return call(SYS_setns, c.fd(s), s.n);
    case Op::kUnshare:
      return call(SYS_unshare, s.n);
    case Op::kEnterTimeNamespace:
      return enter_time_namespace(c, s);
    case Op::kSession: {
      // A session leader already (the shim's child may be): no failure, setsid(2) EPERM.
      const long result = call(SYS_setsid);
      return result < 0 && result != -EPERM ? result : 0;
    }
    case Op::kBecomeRoot:
      return become_root(c, s);
    case Op::kLoopbackUp:
      return loopback_up(c, s);
    case Op::kPropagation:
      return call(SYS_mount, nullptr, c.text(s.a), nullptr, s.n, nullptr);
    case Op::kAttachRoot:
      return attach_root(c, s);
    case Op::kEnterDir:
      return enter_dir(c, s);
    case Op::kOpenTree:
      return open_tree(c, s, index);
    case Op::kDumpable:
      return call(SYS_prctl, PR_SET_DUMPABLE, s.n, 0, 0, 0);
    case Op::kMountFs:
      return mount_fs(c, s);
    case Op::kMountOver:
      return mount_over(c, s);
    case Op::kMountProc:
      return mount_proc(c, s);
    case Op::kBind:
      return bind(c, s);
    case Op::kAttachInDir:
      return attach_in_dir(c, s);
    case Op::kRemount:
      return remount(c, s);
    case Op::kTargetPropagation:
      return target_propagation(c, s);
    case Op::kDeviceNode:
      return device_node(c, s);
    case Op::kDeviceBind:
      return bind(c, s);
    case Op::kSymlink:
      return make_symlink(c, s);
    case Op::kDetach:
      return detach(c, s);
    case Op::kPivot:
      return pivot(c, s);
    case Op::kMask:
      return mask(c, s);
    case Op::kReadonlyPath:
      return readonly_path(c, s);
    case Op::kRemountRoot:
      return remount_root(c, s);
    case Op::kView:
      return keep_view(c, s);
    case Op::kHostname:
      return call(SYS_sethostname, c.text(s.a), s.n);
    case Op::kDomainname:
      return call(SYS_setdomainname, c.text(s.a), s.n);
    case Op::kWriteProc:
      return write_proc(c, s);
    case Op::kSessionKeyring:
      return session_keyring(c, s);
    case Op::kConsole:
      return console(c, s);
    case Op::kStdio:
      return stdio(c, s);
    case Op::kOwnStdio:
      return own_stdio(c, s);
    case Op::kUmask:
      call(SYS_umask, s.n);
      return 0;
    case Op::kRlimit:
      return rlimit(c, s);
    case Op::kNoNewPrivs:
      return call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case Op::kSeccomp:
      return seccomp(c, s);
    case Op::kScheduler:
      return call(SYS_sched_setattr, 0, c.text(s.a), 0);
    // IOPRIO_WHO_PGRP as runc has it: the group of a new session's leader is the container's init.
    case Op::kIoPriority:
      return call(SYS_ioprio_set, 2, 0, s.n);
    case Op::kPersonality: {
      const long result = call(SYS_personality, s.n);
      return result < 0 ? result : 0;
    }
    case Op::kMemoryPolicy:
      return call(SYS_set_mempolicy, s.n, s.m != 0 ? c.text(s.a) : nullptr, s.m);
    case Op::kDropBounding:
      return drop_bounding(c, s);
    case Op::kKeepCaps:
      return call(SYS_prctl, PR_SET_KEEPCAPS, s.n, 0, 0, 0);
    case Op::kSetGroups:
      return set_groups(c, s);
    case Op::kSetGid:
      return call(SYS_setresgid, s.n, s.n, s.n);
    case Op::kSetUid:
      return call(SYS_setresuid, s.n, s.n, s.n);
    case Op::kSetCaps:
      return set_caps(c, s);
    case Op::kRaiseAmbient:
      return raise_ambient(c, s);
    case Op::kChdir:
      return change_dir(c, s);
    case Op::kFindExe:
      return find_exe(c, s);
    case Op::kFork:
      return fork(c, s, index);
    case Op::kTidy:
      return tidy(c, s);
    case Op::kReady:
      return ready(c, index);
    case Op::kAwaitStart:
      return await_start(c, s);
    case Op::kHook:
      return hook(c, s);
    case Op::kCloseFds:
      return close_fds(c, s);
    case Op::kExec:
      return exec(c, s);
  }
  return -ENOSYS;
}

bool tolerated(const Step& step, long error) noexcept {
  if ((step.flags & kTolerate) != 0) return true;
  return (step.flags & kOptional) != 0 && (error == -ENOENT || error == -ENOTDIR);
}

/// The kernel's struct sigaction, which is not libc's; all zero is SIG_DFL.
struct KernelSigaction {
  uint64_t handler, flags, restorer, mask;
};

/// Signals as a fresh program expects them. CLONE_CLEAR_SIGHAND takes handlers away but leaves what is
/// ignored, and exec passes that on: SIGPIPE by the shim, SIGCHLD by the wasm host, 32 and 33 (libc's
/// own, out of reach of signal(2)) by whatever started us. Of what a caller may ignore, nohup's SIGHUP
/// and a background job's SIGINT and SIGQUIT go as well, as with runc: an engine's start is no say of the container.
void reset_signals() noexcept {
  constexpr int kIgnoredByUs[] = {SIGPIPE, SIGCHLD, 32, 33, SIGHUP, SIGINT, SIGQUIT};
  const KernelSigaction fresh{};
  const uint64_t none = 0;
  const auto size = static_cast<int>(sizeof none);
  for (const int signal : kIgnoredByUs) call(SYS_rt_sigaction, signal, &fresh, nullptr, size);
  call(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, size);
}

uint32_t length(const char* text) noexcept {
  uint32_t n = 0;
  while (text[n] != '\0') ++n;
  return n;
}

}  // namespace

void run(const View& view, Walk& walk) noexcept {
  const Context context{view, walk};
  if (walk.next == 0) {
    reset_signals();
    call(SYS_umask, 0);  // modes in the plan are exact; kUmask sets the payload's
  }
  while (walk.next < view.header->step_count) {
    const Step& step = view.steps[walk.next];
    const auto index = static_cast<uint16_t>(walk.next);
    ++walk.next;
    const long result = perform(context, step, index);
    if (result < 0 && !tolerated(step, result)) {
      const Message message{MessageKind::kFailure, index, static_cast<int32_t>(-result), 0};
      const char* what = context.text(step.what);
      const uint32_t size = length(what);
      send(walk, message, what, size < kFailureTextMax ? size : kFailureTextMax, -1);
      call(SYS_exit_group, 127);
    }
    if (step.op == Op::kHandOver) return;
  }
  fail(walk, static_cast<uint16_t>(view.header->step_count), ENOEXEC);
}

void fail(Walk& walk, uint16_t step, int err) noexcept {
  send(walk, Message{MessageKind::kFailure, step, err, 0}, nullptr, 0, -1);
  for (;;) call(SYS_exit_group, 127);
}

void fail_text(Walk& walk, int exit_code, const char* text, uint32_t size) noexcept {
  if (size > kFailureTextMax) size = kFailureTextMax;
  const auto step = static_cast<uint16_t>(walk.next > 0 ? walk.next - 1 : 0);
  send(walk, Message{MessageKind::kFailureText, step, 0, exit_code}, text, size, -1);
  for (;;) call(SYS_exit_group, exit_code);
}

}  // namespace amphora::init
