// SPDX-License-Identifier: Apache-2.0
// See signals.h. Handlers here may call what signal-safety(7) lists, and the engine's interrupt, which
// promises the same.
#include "wasm/host/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <initializer_list>

namespace amphora::wasm {
namespace {

// What a handler needs has to be reachable without an argument.
std::atomic<void (*)(int)> g_interrupt{nullptr};
std::atomic<bool> g_asked{false};
static_assert(std::atomic<void (*)(int)>::is_always_lock_free);

/// The first signal lets an engine that can do so finish in order; the next one does not wait.
void on_signal(int signal) {
  void (*const interrupt)(int) = g_interrupt.load();
  const bool orderly = signal == SIGTERM || signal == SIGINT || signal == SIGQUIT;
  if (interrupt != nullptr && orderly && !g_asked.exchange(true)) {
    interrupt(signal);
    return;
  }
  ::_exit(128 + signal);
}

void install_if_default(int signal, void (*handler)(int)) noexcept {
  struct sigaction present{};
  if (::sigaction(signal, nullptr, &present) != 0) return;
  if ((present.sa_flags & SA_SIGINFO) != 0 || present.sa_handler != SIG_DFL) return;
  struct sigaction action{};
  action.sa_handler = handler;
  // The guest's stack may be near its end when the signal comes; an alternate one is used if the
  // engine has set one up. Blocking system calls of the engine go on after an orderly interrupt.
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void install_signal_handlers(const amphora_engine& engine) noexcept {
  const bool has_interrupt = engine.size > offsetof(amphora_engine, interrupt);
  g_interrupt.store(has_interrupt ? engine.interrupt : nullptr);
  // A guest is told of a closed pipe by EPIPE; a signal is nothing WASI knows.
  ::signal(SIGPIPE, SIG_IGN);
  const bool is_init = ::getpid() == 1;
  if (!is_init && g_interrupt.load() == nullptr) return;  // the kernel's defaults do
  for (const int signal : {SIGTERM, SIGINT, SIGQUIT}) install_if_default(signal, on_signal);
  if (!is_init) return;
  for (const int signal : {SIGHUP, SIGABRT, SIGUSR1, SIGUSR2, SIGALRM, SIGSTKFLT, SIGXCPU, SIGXFSZ,
                           SIGVTALRM, SIGPROF, SIGIO, SIGPWR}) {
    install_if_default(signal, on_signal);
  }
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) install_if_default(signal, on_signal);
  // Orphans of a pid namespace are given to its init (an exec'd native shell may leave some); ignoring
  // SIGCHLD lets the kernel clear them away.
  install_if_default(SIGCHLD, SIG_IGN);
}

}  // namespace amphora::wasm
