// SPDX-License-Identifier: Apache-2.0
// Reaping. See reaper.h.
#include "shim/reaper.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "executor/base/process.h"
#include "shim/loop.h"

namespace amphora::shim {
namespace {
constexpr std::chrono::milliseconds kLongestPause{250};
}  // namespace

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
  auto watch = std::make_unique<Watch>(loop_, process, std::move(ended));
  watch->fd.readable([this, &watch = *watch, &process] { reap(watch, process); });
  return watch;
}

void Reaper::reap(Watch& watch, const Process& process) {
  const auto status = try_wait(process);
  if (status && !*status) {
    // It is dead, but somebody traces it (criu, gdb): it is its parent's to reap when the tracer lets go, of
    // which nothing tells that we would not miss.
    watch.pause.expires_after(watch.next_pause);
    watch.next_pause = std::min(2 * watch.next_pause, kLongestPause);
    watch.pause.async_wait([this, &watch, &process](boost::system::error_code error) {
      if (!error) reap(watch, process);
    });
    return;
  }
  children_.remove(process.pid);
  // Moved: the callback may end the watch. A process that somebody else reaped is an accident; 255 is
  // containerd's word for unknown.
  std::exchange(watch.ended, {})(status ? **status : ExitStatus::exited(255));
}

}  // namespace amphora::shim
