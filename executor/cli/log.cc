// SPDX-License-Identifier: Apache-2.0
// The log's two line formats and its spdlog backend. See log.h. The only user of spdlog here.
#include "executor/cli/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wswitch-enum"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#include <spdlog/formatter.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#pragma GCC diagnostic pop

#include "executor/oci/json_writer.h"

namespace amphora::cli {
namespace {

const char* name_of(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      return "error";
  }
  return "error";
}

/// logrus leaves words of these alone and quotes the rest.
bool needs_quotes(std::string_view text) {
  if (text.empty()) return true;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._/@^+").find(c) != std::string_view::npos;
    if (!plain) return true;
  }
  return false;
}

/// As Go's %q for what is UTF-8 anyway: control characters escaped, the rest as it is.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (byte < 0x20 || byte == 0x7f) {
          constexpr char kHex[] = "0123456789abcdef";
          out += "\\x";
          out += kHex[byte >> 4];
          out += kHex[byte & 15];
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

std::string rfc3339(time_t seconds) {
  tm local{};
  localtime_r(&seconds, &local);
  char text[40];
  size_t const length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local);
  // strftime writes +0200, RFC 3339 wants +02:00, and Go writes Z for none.
  std::string out(text, length);
  if (out.ends_with("+0000")) return out.replace(out.size() - 5, 5, "Z");
  return out.insert(out.size() - 2, ":");
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

Level level_of(spdlog::level::level_enum level) {
  if (level >= spdlog::level::err) return Level::kError;
  if (level == spdlog::level::warn) return Level::kWarning;
  return level == spdlog::level::info ? Level::kInfo : Level::kDebug;
}

class LineFormatter : public spdlog::formatter {
 public:
  explicit LineFormatter(bool json) : json_(json) {}
  void format(const spdlog::details::log_msg& msg, spdlog::memory_buf_t& dest) override {
    const std::string time = rfc3339(spdlog::log_clock::to_time_t(msg.time));
    const std::string_view text(msg.payload.data(), msg.payload.size());
    std::string line = json_ ? json_line(level_of(msg.level), time, text)
                             : text_line(level_of(msg.level), time, text);
    line += '\n';
    dest.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<LineFormatter>(json_);
  }

 private:
  bool json_;
};

/// One write per line: O_APPEND files shared with other commands never mix two lines.
class FdSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  FdSink(int fd, bool json) : base_sink(std::make_unique<LineFormatter>(json)), fd_(fd) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    spdlog::memory_buf_t line;
    formatter_->format(msg, line);
    // A log that cannot be written is no reason to fail the command.
    static_cast<void>(write_all(fd_, {line.data(), line.size()}));
  }
  void flush_() override {}

 private:
  int fd_;
};

}  // namespace

std::string text_line(Level level, std::string_view time, std::string_view message) {
  std::string line = "time=" + quoted(time) + " level=" + name_of(level) + " msg=";
  line += needs_quotes(message) ? quoted(message) : std::string(message);
  return line;
}

std::string json_line(Level level, std::string_view time, std::string_view message) {
  oci::JsonWriter json;
  json.open("", '{');
  json.text("level", name_of(level));
  json.text("msg", message);
  json.text("time", time);
  json.close('}');
  return std::move(json).take();
}

struct Log::Backend {
  spdlog::logger logger;
};

Log::Log(Options options) : options_(std::move(options)) {}
Log::~Log() = default;

Result<void> Log::open() {
  if (options_.file.empty()) return {};
  TRY_ASSIGN(file_, open_at(AT_FDCWD, options_.file, O_WRONLY | O_APPEND | O_CREAT, 0644));
  return {};
}

void Log::write(Level level, std::string_view message) {
  if (!backend_) {
    const int fd = file_ ? file_.get() : STDERR_FILENO;
    backend_.reset(
        new Backend{spdlog::logger("amphora", std::make_shared<FdSink>(fd, options_.json))});
    backend_->logger.set_level(spdlog::level::debug);
  }
  backend_->logger.log(spdlog_level(level), spdlog::string_view_t(message.data(), message.size()));
}

void Log::debug(std::string_view message) {
  if (options_.debug) write(Level::kDebug, message);
}

void Log::warning(std::string_view message) { write(Level::kWarning, message); }

void Log::fatal(std::string_view message) {
  write(Level::kError, message);
  if (file_) static_cast<void>(write_all(STDERR_FILENO, std::string(message) + "\n"));
}

}  // namespace amphora::cli
