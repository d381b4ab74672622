// SPDX-License-Identifier: Apache-2.0
// Terminals at the command's end: handing a master to whoever listens on a socket, and standing
// between the caller's terminal and the container's (raw mode, size, copying both ways).
#pragma once

#include <poll.h>
#include <termios.h>

#include <string>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::cli {

/// Connects to a UNIX stream socket of any path length; `what` names it in errors.
Result<UniqueFd> connect_unix(const std::string& path, const char* what);

/// Sends the master with runc's payload and ends the conversation.
Result<void> send_console(UniqueFd socket, const UniqueFd& master);

/// The caller's terminal joined to a container's. Restores the caller's settings when it goes.
class TerminalRelay {
 public:
  TerminalRelay() = default;
  TerminalRelay(const TerminalRelay&) = delete;
  TerminalRelay& operator=(const TerminalRelay&) = delete;
  ~TerminalRelay();

  /// Takes the master, gives it the caller's size and puts the caller's terminal into raw mode.
  Result<void> attach(UniqueFd master);
  bool attached() const noexcept { return static_cast<bool>(master_); }
  /// The caller's window has changed.
  void resize();

  /// The four descriptors to be polled, with what there is to wait for now (fd -1: nothing).
  static constexpr size_t kPolled = 3;
  void fill(pollfd (&polled)[kPolled]) const;
  /// Moves what poll said can be moved.
  void move(const pollfd (&polled)[kPolled]);
  /// What the container wrote before it ended; bounded, for a slave may be left open elsewhere.
  void drain();

 private:
  void read_input();
  void read_master();
  void write_output();
  void write_master();

  static constexpr size_t kBuffer = 4096;  // PIPE_BUF: a ready pipe takes it without blocking
  UniqueFd master_;
  termios saved_{};
  int terminal_ = -1;  // which of 0-2 is the caller's terminal
  bool raw_ = false;
  bool input_open_ = true;
  bool master_open_ = true;
  bool output_open_ = true;
  std::string to_master_, to_output_;
};

}  // namespace amphora::cli
