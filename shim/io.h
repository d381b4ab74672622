// SPDX-License-Identifier: Apache-2.0
// The stdio of one process as a client names it (FIFOs, files, a logging program, or a terminal on
// one of these): opened on a worker, watched on the loop. FIFOs are handed to the container as they
// are, nothing is copied; the shim keeps both ends open until the process has ended, so that a
// client may come and go, and the write end until a client has come for what is in it.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/runtime/runtime.h"
#include "shim/console.h"
#include "shim/loop.h"

namespace amphora::shim {

/// The strings of the request, echoed by State exactly as they came.
struct StdioUris {
  std::string in, out, err;
  bool terminal = false;
};

class ProcessIo {
 public:
  /// Opens everything; never waits for a peer. `id` and `name_space` are for logging programs.
  static Result<std::unique_ptr<ProcessIo>> open(const StdioUris& uris, const std::string& id,
                                                 const std::string& name_space, Children& children);
  ~ProcessIo();
  ProcessIo(const ProcessIo&) = delete;
  ProcessIo& operator=(const ProcessIo&) = delete;

  /// What Runtime gets; valid until begin().
  Stdio payload();
  /// The process exists (loop's thread): lets go of the payload's ends, starts copying a terminal.
  void begin(Loop& loop);
  /// Drops the shim's write end of stdin; the container sees the end when clients have closed, too.
  void close_stdin() { stdin_keeper_.reset(); }
  /// No terminal: nothing to do.
  Result<void> resize(uint16_t columns, uint16_t rows);
  /// The process has ended: closes the shim's ends, which is the client's end of file; a terminal is
  /// emptied first, for a bounded time.
  void finish(Callback done);
  /// False while output waits for a client that has not come yet.
  bool is_drained() const noexcept;

 private:
  ProcessIo() = default;
  Result<void> open_input(const std::string& path);
  /// The shim's own ends of an output FIFO.
  struct Keeper {
    UniqueFd read, write;
  };
  Result<UniqueFd> open_output(const std::string& uri, Keeper& keeper);
  Result<void> open_outputs(const StdioUris& uris, const std::string& id,
                            const std::string& name_space, Children& children);
  void let_go();

  bool terminal_ = false;
  std::array<UniqueFd, 3> payload_;
  UniqueFd stdin_keeper_;             // write end
  std::array<Keeper, 2> out_keeper_;  // of stdout and stderr
  UniqueFd master_;
  std::unique_ptr<Console> console_;
  Process logger_;
  Loop* loop_ = nullptr;
  std::unique_ptr<asio::steady_timer> look_;  // for a client that has not come yet
  std::chrono::milliseconds next_look_{0};
};

}  // namespace amphora::shim
