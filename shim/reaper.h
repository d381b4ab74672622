// SPDX-License-Identifier: Apache-2.0
// The shim's only caller of wait: watches the pidfd of each process we made, reaps it and says how
// it ended; and clears away the orphans that a subreaper inherits.
#pragma once

#include <functional>
#include <memory>

#include <boost/asio/signal_set.hpp>

#include "executor/base/process.h"
#include "shim/loop.h"

namespace amphora::shim {

class Reaper {
 public:
  /// Starts listening for SIGCHLD, which is only needed for orphans.
  Reaper(Loop& loop, Children& children);
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  /// Keeps waiting while it lives.
  class Watch {
   public:
    Watch(Loop& loop, const Process& process, std::move_only_function<void(ExitStatus)>&& on_end)
        : fd(loop, process.pidfd.get()), pause(loop), ended(std::move(on_end)) {}
    FdWatch fd;
    asio::steady_timer pause;
    std::chrono::milliseconds next_pause{1};
    std::move_only_function<void(ExitStatus)> ended;
  };
  /// Calls `ended` once, after the process was reaped. `process` must outlive the watch.
  std::unique_ptr<Watch> watch(const Process& process,
                               std::move_only_function<void(ExitStatus)> ended);

 private:
  void reap(Watch& watch, const Process& process);
  void clear_orphans();

  Loop& loop_;
  Children& children_;
  asio::signal_set child_signal_;
};

}  // namespace amphora::shim
