// SPDX-License-Identifier: Apache-2.0
// The terminal of one process: copies between the pty's master and the client's FIFOs, without
// threads and with bounded buffers, until the last byte at exit. Where descriptors come from is io's
// business.
#pragma once

#include <memory>
#include <string>

#include "executor/base/fd.h"
#include "shim/loop.h"

namespace amphora::shim {

class Console {
 public:
  /// `in` and `out` are non-blocking or regular files; -1 inside: nothing to read, output is dropped.
  Console(Loop& loop, UniqueFd master, UniqueFd in, UniqueFd out);
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  Result<void> resize(uint16_t columns, uint16_t rows);
  /// The process has ended. `done` is called when its output is out, at the latest after a moment
  /// during which nothing came: somebody else may keep the terminal open, a client may not read.
  void finish(Callback done);
  /// Everything read from the terminal has been written, and it is closed.
  bool is_drained() const noexcept { return !master_ && pending_.empty(); }

 private:
  void pump_out();
  void pump_in();
  void await_writable_master();
  bool write_pending();
  void close_master();
  void report_done();

  Loop& loop_;
  UniqueFd master_, in_, out_;
  // One watch per direction: two waits on one asio descriptor would share their cancellation.
  std::unique_ptr<FdWatch> master_watch_, in_watch_, out_watch_;
  UniqueFd master_write_;  // a second descriptor of the master: epoll knows descriptors, not files
  std::unique_ptr<FdWatch> master_write_watch_;
  asio::steady_timer grace_;
  std::string pending_;      // read from the terminal, not yet taken by the client
  std::string typed_;        // read from the client, not yet taken by the terminal
  bool grace_over_ = false;  // the process has ended: an empty terminal has nothing more to say
  Callback done_;
};

}  // namespace amphora::shim
