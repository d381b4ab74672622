// SPDX-License-Identifier: Apache-2.0
// One output stream that is copied and not passed on: from a pipe that the process writes to, to the
// client's FIFO, by splice(2), so that no byte enters this process. Unlike a FIFO handed to the process, the
// client's end of file can be given while somebody still holds the pipe. When to copy is io's to say.
#pragma once

#include <memory>

#include "executor/base/fd.h"
#include "shim/loop.h"

namespace amphora::shim {

class Relay {
 public:
  /// Both non-blocking; somebody holds the client's FIFO open for reading, so that an absent client is
  /// no error. `drained` is called once, from the loop, when is_drained() has come true.
  Relay(Loop& loop, UniqueFd in, UniqueFd out, Callback drained);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  /// The last writer has closed and all is with the client: both ends are closed.
  bool is_drained() const noexcept { return !in_; }

 private:
  void pump();
  void close();

  UniqueFd in_, out_;
  std::unique_ptr<FdWatch> in_watch_, out_watch_;
  Callback drained_;
};

}  // namespace amphora::shim
