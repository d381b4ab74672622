// SPDX-License-Identifier: Apache-2.0
// sd_notify(3) through a container: a socket of our own in the container's state directory, shown to it
// read-only at /run/notify; what comes in is passed on to the service manager's socket, with the pid that
// the manager knows and a barrier. Not here: who waits and when (run, start).
#pragma once

#include <optional>
#include <string>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {

/// The lines of one message that a container may say to the service manager, ready to be sent on: its
/// own MAINPID and descriptor stores mean nothing outside. `ready` becomes true at READY=1.
std::string passed_on(std::string_view message, bool& ready);

class Notify {
 public:
  /// Nothing where $NOTIFY_SOCKET is unset or empty.
  static std::optional<Notify> from_environment();

  /// For create and run: the directory made in the state directory, its mount and $NOTIFY_SOCKET. `root`
  /// is the state root, absolute.
  void add_to(CreateOptions& options, const std::string& root, const std::string& id,
              bool bind_now);
  /// Binds the socket below the state directory; false when the container was made without one.
  Result<bool> bind(int state_dir_fd);

  /// To be polled for POLLIN in the foreground; -1: not bound.
  int fd() const noexcept { return socket_.get(); }
  /// Takes one message and passes it on; `main_pid` (0: none) goes with the first READY=1. True once that has
  /// been said.
  Result<bool> take(pid_t main_pid);
  /// Until the container is ready, or has ended, or the manager has seen all that we sent.
  Result<void> wait_ready(const Process& init);

 private:
  explicit Notify(std::string host) : host_(std::move(host)) {}
  Result<UniqueFd> connect_host() const;
  Result<void> send_barrier() const;

  std::string host_;  ///< the service manager's socket: a path, or @name
  UniqueFd socket_;
  bool ready_ = false;
};

}  // namespace amphora::cli
