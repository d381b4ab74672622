// SPDX-License-Identifier: Apache-2.0
// The command's log: logrus text (time="..." level=error msg="...") or one JSON object a line, to
// stderr or appended to a file, as containerd, podman and people's scripts read it. The backend is
// built when the first line is logged: most commands log none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::cli {

enum class Level : uint8_t { kDebug, kInfo, kWarning, kError };

/// One line without its end, in logrus' text or JSON form; `time` is RFC 3339.
std::string text_line(Level level, std::string_view time, std::string_view message);
std::string json_line(Level level, std::string_view time, std::string_view message);

class Log {
 public:
  struct Options {
    std::string file;  ///< empty: stderr
    bool json = false;
    bool debug = false;
  };
  explicit Log(Options options);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// Opens the log file if there is one, so that a wrong path is known before anything is done.
  Result<void> open();
  bool debug_enabled() const noexcept { return options_.debug; }
  void debug(std::string_view message);
  void warning(std::string_view message);
  /// Logs the reason why the command fails; when the log is a file, plainly on stderr too.
  void fatal(std::string_view message);

 private:
  struct Backend;
  void write(Level level, std::string_view message);

  Options options_;
  UniqueFd file_;
  std::unique_ptr<Backend> backend_;
};

}  // namespace amphora::cli
