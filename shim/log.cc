// SPDX-License-Identifier: Apache-2.0
// The log sink. See log.h.
#include "shim/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/sink.h>

#include "executor/base/fd.h"

namespace amphora::shim {
namespace {

const char* level_name(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
      return "trace";
    case spdlog::level::debug:
      return "debug";
    case spdlog::level::info:
      return "info";
    case spdlog::level::warn:
      return "warning";
    case spdlog::level::err:
      return "error";
    case spdlog::level::critical:
      return "fatal";
    case spdlog::level::off:
    case spdlog::level::n_levels:
      break;
  }
  return "info";
}

std::string now_text() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now.tv_nsec);
}

class LogrusSink final : public spdlog::sinks::sink {
 public:
  LogrusSink(UniqueFd fd, std::string fields) : fd_(std::move(fd)), fields_(std::move(fields)) {}

  void log(const spdlog::details::log_msg& message) override {
    if (!fd_) return;
    const std::string line =
        fmt::format("time=\"{}\" level={} msg={}{}\n", now_text(), level_name(message.level),
                    quoted({message.payload.data(), message.payload.size()}), fields_);
    // EAGAIN is the answer of a full FIFO: the line is lost, the task is not.
    [[maybe_unused]] const ssize_t written = ::write(fd_.get(), line.data(), line.size());
  }
  void flush() override {}
  void set_pattern(const std::string& /*pattern*/) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter> /*formatter*/) override {}

 private:
  UniqueFd fd_;
  std::string fields_;
};

}  // namespace

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, 3000)) {  // a line stays below PIPE_BUF: one atomic write
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

UniqueFd open_log_fifo() {
  UniqueFd fd(::open("log", O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  struct stat info{};
  if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISFIFO(info.st_mode)) return {};
  return fd;
}

std::shared_ptr<spdlog::logger> make_logger(UniqueFd fd, std::string fields, bool debug) {
  auto sink = std::make_shared<LogrusSink>(std::move(fd), std::move(fields));
  auto logger = std::make_shared<spdlog::logger>("shim", std::move(sink));
  logger->set_level(debug ? spdlog::level::debug : spdlog::level::info);
  return logger;
}

}  // namespace amphora::shim
