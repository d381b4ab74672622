// SPDX-License-Identifier: Apache-2.0
// The child's half of the handshake: messages on the status socket, and the start socket.
#include <errno.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

#include "executor/base/missing.h"
#include "executor/init/context.h"
#include "executor/init/init.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {

/// The parent's end closed means that it gave up or died: so do we, and nothing is left behind. The
/// parent tells of its own share whenever that is done, so such a message may come while we wait for
/// an answer; it is counted, not taken for one.
long await_proceed(Walk& walk, int32_t where) noexcept {
  if (where == 0 && walk.early > 0) {
    --walk.early;
    return 0;
  }
  for (;;) {
    Message message{};
    const long n = call(SYS_read, walk.status_fd, &message, static_cast<uint64_t>(sizeof message));
    if (n == -EINTR) continue;
    if (n <= 0) call(SYS_exit_group, 127);
    if (message.kind != MessageKind::kProceed) return -EPROTO;
    if (message.value == where) return 0;
    if (message.value != 0) return -EPROTO;
    ++walk.early;
  }
}

namespace {

/// Closes all descriptors above `below` that `kept` does not name. `next_kept(above)` gives the
/// lowest kept one above a number, or INT64_MAX: ascending selection needs no buffer that a large
/// plan could overflow, and the lists are short.
template <class NextKept>
void close_all_but(int64_t below, NextKept next_kept) noexcept {
  for (;;) {
    const int64_t next = next_kept(below);
    const uint32_t last = next == INT64_MAX ? ~0U : static_cast<uint32_t>(next - 1);
    if (last >= static_cast<uint64_t>(below + 1)) {
      call(SYS_close_range, static_cast<uint32_t>(below + 1), last, 0);
    }
    if (next == INT64_MAX) return;
    below = next;
  }
}

void take(int64_t fd, int64_t above, int64_t& next) noexcept {
  if (fd > above && fd < next) next = fd;
}

}  // namespace

void keep_only(const View& view, const Walk& walk, uint32_t preserve) noexcept {
  close_all_but(2 + static_cast<int64_t>(preserve), [&](int64_t above) noexcept {
    int64_t next = INT64_MAX;
    take(walk.status_fd, above, next);
    for (uint32_t i = 0; i < view.fd_count; ++i) take(view.fds[i], above, next);
    return next;
  });
}

/// The steps before left descriptors open on purpose: one call here is cheaper than a close each, and
/// what waits for start must hold nothing of the host.
long tidy(const Context& c, const Step& s) noexcept {
  close_all_but(static_cast<int64_t>(s.n) - 1, [&](int64_t above) noexcept {
    int64_t next = INT64_MAX;
    take(c.walk.status_fd, above, next);
    take(c.walk.root_fd, above, next);
    const int views[] = {c.walk.view_root, c.walk.view_cwd, c.walk.view_ns};
    for (const int fd : views) take(fd, above, next);
    for (uint32_t i = c.walk.next; i < c.view.header->step_count; ++i) {
      const Step& later = c.view.steps[i];
      take(c.fd(later), above, next);
      if (later.op != Op::kHandOver) continue;
      for (uint64_t k = 1; k < later.m; ++k) {
        take(c.fd_at(later.fd + static_cast<int64_t>(k)), above, next);
      }
    }
    return next;
  });
  c.walk.dir_fd = -1;
  c.walk.kept_fd = -1;
  return 0;
}

long send(const Walk& walk, const Message& message, const char* text, uint32_t size,
          int fd) noexcept {
  struct iovec parts[2] = {{const_cast<Message*>(&message), sizeof message},
                           {const_cast<char*>(text), size}};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = size > 0 ? 2 : 1;
  if (fd >= 0) {
    auto* rights = reinterpret_cast<struct cmsghdr*>(control);
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    *reinterpret_cast<int*>(CMSG_DATA(rights)) = fd;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
  }
  const long n = call(SYS_sendmsg, walk.status_fd, &header, MSG_NOSIGNAL);
  return n < 0 ? n : 0;
}

/// The parent's share that runs beside our steps (placing us in v1 cgroups) must be done by now.
long await(const Context& c, const Step&) noexcept { return await_proceed(c.walk, 0); }

/// A pid namespace that was joined takes in children only, and only here, with the container's root
/// and mounts around us and nothing of the host open: who may trace in there would else reach the host
/// through our root, directory and descriptors, dumpable or not (CVE-2016-9962, CVE-2024-21626). The
/// child is our parent's (CLONE_PARENT), which learns of it by kForked; this process has done its part.
long fork(const Context& c, const Step& s, uint16_t index) noexcept {
  const LibcWords& libc = c.walk.libc;
  int pidfd = -1;
  struct clone_args args{};
  args.flags = CLONE_PARENT | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  if (libc.tid != nullptr) {
    args.flags |= CLONE_CHILD_SETTID;
    args.child_tid = reinterpret_cast<uint64_t>(libc.tid);
  }
  const long pid = call(SYS_clone3, &args, static_cast<uint64_t>(sizeof args));
  if (pid < 0) return pid;
  if (pid > 0) {
    const Message message{MessageKind::kForked, index, 0, static_cast<int32_t>(pid)};
    send(c.walk, message, nullptr, 0, pidfd);
    for (;;) call(SYS_exit_group, 0);
  }
  if (libc.tid != nullptr) {
    call(SYS_set_tid_address, libc.clear);
    call(SYS_set_robust_list, libc.robust, libc.robust_size);
  }
  const long session = call(SYS_setsid);
  if (session < 0) return session;
  return s.n != 0 ? call(SYS_ioctl, 0, TIOCSCTTY, 0) : 0;
}

/// An unprivileged parent may write to our files in /proc only while we are dumpable (proc(5)); nobody
/// else is in our namespaces yet.
long rendezvous(const Context& c, const Step& s, uint16_t index) noexcept {
  const auto where = static_cast<int32_t>(s.n);
  if (s.m != 0) call(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
  const long sent = send(c.walk, Message{MessageKind::kReached, index, 0, where}, nullptr, 0, -1);
  const long done = sent < 0 ? sent : await_proceed(c.walk, where);
  return done == 0 && s.m != 0 ? call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0) : done;
}

long ready(const Context& c, uint16_t index) noexcept {
  return send(c.walk, Message{MessageKind::kReady, index, 0, 0}, nullptr, 0, -1);
}

/// Waits until somebody connects to the start socket, whose listener came with the plan. From then on
/// that connection is the status socket: a failure text goes to the starter, and its end of file
/// without one says that exec has happened (close-on-exec).
long await_start(const Context& c, const Step& s) noexcept {
  long connection = 0;
  do {
    connection = call(SYS_accept4, c.fd(s), nullptr, nullptr, SOCK_CLOEXEC);
  } while (connection == -EINTR);
  if (connection < 0) return connection;
  // Closed now, not at exec: a starter that looks for end of file must see this end alone.
  call(SYS_close, c.walk.status_fd);
  c.walk.status_fd = static_cast<int>(connection);
  return 0;
}

}  // namespace amphora::init
