// SPDX-License-Identifier: Apache-2.0
// The stdio of one process as a client names it (FIFOs, files, a logging program, or a terminal on
// one of these): opened on a worker, watched on the loop. A container's FIFOs are handed to it as they
// are, nothing is copied; the shim keeps both ends open until the process has ended, so that a
// client may come and go, and the write end until a client has come for what is in it.
// An exec's output is copied (relay.h): what an exec leaves behind would keep the FIFO open, and its
// client waits for the end of file after Delete.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/runtime/runtime.h"
#include "shim/console.h"
#include "shim/loop.h"
#include "shim/options.h"
#include "shim/relay.h"

namespace amphora::shim {

/// The strings of the request, echoed by State exactly as they came.
struct StdioUris {
  std::string in, out, err;
  bool terminal = false;
};

/// How output reaches a client's FIFO.
enum class Output { kPassed, kCopied };
/// What AMPHORA_STDIO ("pass" or "copy") asks for, else `usual`.
Output output_mode(Output usual);

class ProcessIo {
 public:
  /// Opens everything; never waits for a peer. `id` and `name_space` are for logging programs.
  static Result<std::unique_ptr<ProcessIo>> open(const StdioUris& uris, const std::string& id,
                                                 const std::string& name_space, Children& children,
                                                 Output output = Output::kPassed);
  ~ProcessIo();
  ProcessIo(const ProcessIo&) = delete;
  ProcessIo& operator=(const ProcessIo&) = delete;

  /// Makes somebody else the owner of the FIFOs and pipes that the process gets. Inside a user namespace
  /// nobody could do it, and their owner alone may open them by name (/dev/stdout).
  Result<void> give_to(const IoOwner& owner);
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
  /// The shim's own ends of an output FIFO; when output is copied, of the pipe that it comes from.
  struct Keeper {
    UniqueFd read, write, source;
    std::unique_ptr<Relay> relay;
    bool is_copying() const noexcept { return source || (relay && !relay->is_drained()); }
  };
  Result<UniqueFd> open_output(const std::string& uri, Keeper& keeper);
  Result<void> open_outputs(const StdioUris& uris, const std::string& id,
                            const std::string& name_space, Children& children);
  void let_go();

  bool terminal_ = false;
  bool ended_ = false;  // the process has
  Output output_ = Output::kPassed;
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
