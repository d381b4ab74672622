// SPDX-License-Identifier: Apache-2.0
// See foreground.h.
#include "executor/cli/foreground.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/cli/notify.h"

namespace amphora::cli {

Result<void> Foreground::prepare(Subreaper subreaper) {
  if (subreaper == Subreaper::kYes) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
      return fail_errno(errno, "become a subreaper");
    }
    subreaper_ = true;
  }
  sigset_t wanted;
  sigfillset(&wanted);
  // Our own faults must end us; URG is what Go programs preempt their threads with.
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGURG}) {
    sigdelset(&wanted, own);
  }
  if (sigprocmask(SIG_BLOCK, &wanted, nullptr) != 0) return fail_errno(errno, "block signals");
  signals_.reset(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail_errno(errno, "signalfd");
  return {};
}

void Foreground::take_signals(const Process& process, Children& children) {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      if (subreaper_) children.reap_orphans();
    } else if (signal == SIGWINCH && terminal_.attached()) {
      terminal_.resize();
    } else if (signal != SIGPIPE) {  // PIPE is our own: whoever read our output has gone
      // It may have ended a moment ago, which the next poll shows.
      static_cast<void>(send_signal(process, signal));
    }
  }
}

Result<ExitStatus> Foreground::wait(const Process& process, Children& children, Notify* notify) {
  for (;;) {
    constexpr size_t kOwn = 3;
    pollfd polled[kOwn + TerminalRelay::kPolled] = {
        {process.pidfd.get(), POLLIN, 0},
        {signals_.get(), POLLIN, 0},
        {notify != nullptr ? notify->fd() : -1, POLLIN, 0}};
    pollfd relay[TerminalRelay::kPolled];
    terminal_.fill(relay);
    for (size_t i = 0; i < TerminalRelay::kPolled; ++i) polled[kOwn + i] = relay[i];
    const nfds_t count = terminal_.attached() ? kOwn + TerminalRelay::kPolled : kOwn;
    if (poll(polled, count, -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "poll");
    }
    for (size_t i = 0; i < TerminalRelay::kPolled; ++i) {
      relay[i].revents = polled[kOwn + i].revents;
    }
    if (terminal_.attached()) terminal_.move(relay);
    if (polled[2].revents != 0) static_cast<void>(notify->take(getpid()));
    // Nothing is left to pass signals on to, and orphans go with us.
    if (polled[0].revents != 0) break;
    if (polled[1].revents != 0) take_signals(process, children);
  }
  auto status = wait_for(process);
  children.remove(process.pid);
  terminal_.drain();
  static_cast<void>(signals_.release());  // this process ends next and takes it along
  return status;
}

}  // namespace amphora::cli
