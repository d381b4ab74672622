// SPDX-License-Identifier: Apache-2.0
// Reaping. See reaper.h.
#include "shim/reaper.h"

#include <signal.h>

namespace amphora::shim {

Reaper::Reaper(Loop& loop, Children& children)
    : loop_(loop), children_(children), child_signal_(loop, SIGCHLD) {
  clear_orphans();
}

void Reaper::clear_orphans() {
  child_signal_.async_wait([this](boost::system::error_code error, int /*signal*/) {
    if (error) return;
    children_.reap_orphans();
    clear_orphans();
  });
}

std::unique_ptr<Reaper::Watch> Reaper::watch(const Process& process,
                                             std::move_only_function<void(ExitStatus)> ended) {
  auto watch = std::make_unique<Watch>(loop_, process);
  watch->fd.readable([this, &process, call = std::move(ended)]() mutable {
    const auto status = try_wait(process);
    children_.remove(process.pid);
    // A process that somebody else reaped is an accident; 255 is containerd's word for unknown.
    call(status && *status ? **status : ExitStatus::exited(255));
  });
  return watch;
}

}  // namespace amphora::shim
