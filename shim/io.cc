// SPDX-License-Identifier: Apache-2.0
// Stdio of processes. See io.h.
#include "shim/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/base/path.h"
#include "shim/logger.h"

namespace amphora::shim {
namespace {

enum class Scheme { kNone, kPath, kFile, kBinary, kOther };

Scheme scheme_of(const std::string& uri) {
  if (uri.empty()) return Scheme::kNone;
  if (uri.starts_with("file://")) return Scheme::kFile;
  if (uri.starts_with("binary://") || uri.starts_with("binary-v2://")) return Scheme::kBinary;
  if (uri.find("://") != std::string::npos) return Scheme::kOther;
  return Scheme::kPath;
}

/// One end of what `path_fd` (O_PATH) refers to: the same inode whatever happens to its name.
Result<UniqueFd> reopen(const UniqueFd& path_fd, const std::string& path, int flags) {
  UniqueFd fd(
      ::open(("/proc/self/fd/" + std::to_string(path_fd.get())).c_str(), flags | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "open " + path);
  return fd;
}

Result<bool> is_fifo(const UniqueFd& fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, "stat " + path);
  return S_ISFIFO(info.st_mode);
}

Result<UniqueFd> open_log_file(const std::string& uri) {
  std::string path = uri.substr(std::string_view("file://").size());
  path.resize(std::min(path.size(), path.find('?')));
  if (!path.starts_with('/')) return fail(Errc::kInvalid, uri + ": the path must be absolute");
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string dir = path.substr(0, slash);
    if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) {
      return fail_errno(errno, "create directory " + dir);
    }
  }
  return open_at(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT, 0644);
}

}  // namespace

Result<std::unique_ptr<ProcessIo>> ProcessIo::open(const StdioUris& uris, const std::string& id,
                                                   const std::string& name_space,
                                                   Children& children) {
  std::unique_ptr<ProcessIo> io(new ProcessIo);
  io->terminal_ = uris.terminal;
  TRY(io->open_input(uris.in));
  TRY(io->open_outputs(uris, id, name_space, children));
  for (auto& fd : io->payload_) {
    if (fd || uris.terminal) continue;
    TRY_ASSIGN(fd, open_at(AT_FDCWD, "/dev/null", O_RDWR));
  }
  return io;
}

ProcessIo::~ProcessIo() {
  if (logger_.pidfd && loop_ != nullptr) stop_logger(*loop_, std::move(logger_));
}

Result<void> ProcessIo::open_input(const std::string& path) {
  if (path.empty()) return {};
  if (scheme_of(path) != Scheme::kPath)
    return fail(Errc::kInvalid, "stdin " + path + ": unsupported");
  TRY_ASSIGN(const UniqueFd place, open_at(AT_FDCWD, path, O_PATH));
  TRY_ASSIGN(const bool fifo, is_fifo(place, path));
  if (!fifo) {
    TRY_ASSIGN(payload_[0], reopen(place, path, O_RDONLY));
    return {};
  }
  // Read-write never waits for a peer; while it is open, neither do the single ends.
  TRY_ASSIGN(UniqueFd both, reopen(place, path, O_RDWR | O_NONBLOCK));
  if (terminal_) {  // the console reads; a terminal's stdin has no end to tell
    payload_[0] = std::move(both);
    return {};
  }
  TRY_ASSIGN(payload_[0], reopen(place, path, O_RDONLY));
  TRY_ASSIGN(stdin_keeper_, reopen(place, path, O_WRONLY | O_NONBLOCK));
  return {};
}

Result<UniqueFd> ProcessIo::open_output(const std::string& uri, UniqueFd& keeper) {
  switch (scheme_of(uri)) {
    case Scheme::kNone:
      return UniqueFd();
    case Scheme::kFile:
      return open_log_file(uri);
    case Scheme::kPath:
      break;
    case Scheme::kBinary:
    case Scheme::kOther:
      return fail(Errc::kInvalid, "stdio " + uri + ": unsupported");
  }
  TRY_ASSIGN(const UniqueFd place, open_at(AT_FDCWD, uri, O_PATH));
  TRY_ASSIGN(const bool fifo, is_fifo(place, uri));
  if (!fifo) return reopen(place, uri, O_WRONLY | O_APPEND);
  TRY_ASSIGN(keeper, reopen(place, uri, O_RDWR | O_NONBLOCK));
  return reopen(place, uri, terminal_ ? O_WRONLY | O_NONBLOCK : O_WRONLY);
}

Result<void> ProcessIo::open_outputs(const StdioUris& uris, const std::string& id,
                                     const std::string& name_space, Children& children) {
  if (scheme_of(uris.out) == Scheme::kBinary) {
    TRY_ASSIGN(LoggerPipes pipes, start_logger(uris.out, id, name_space, children));
    logger_ = std::move(pipes.process);
    payload_[1] = std::move(pipes.out);
    if (!terminal_) payload_[2] = std::move(pipes.err);
    return {};
  }
  TRY_ASSIGN(payload_[1], open_output(uris.out, out_keeper_[0]));
  // With a terminal clients name a FIFO for stderr that does not exist.
  if (terminal_ || uris.err.empty()) return {};
  if (uris.err == uris.out) {
    TRY_ASSIGN(payload_[2], duplicate(payload_[1].get()));
    return {};
  }
  TRY_ASSIGN(payload_[2], open_output(uris.err, out_keeper_[1]));
  return {};
}

Stdio ProcessIo::payload() {
  Stdio stdio;
  if (!terminal_) {
    for (size_t i = 0; i < payload_.size(); ++i) stdio.fds[i] = payload_[i].get();
    return stdio;
  }
  stdio.on_console = [this](UniqueFd master) -> Result<void> {
    master_ = std::move(master);
    return {};
  };
  return stdio;
}

void ProcessIo::begin(Loop& loop) {
  loop_ = &loop;
  if (terminal_ && master_) {
    console_ = std::make_unique<Console>(loop, std::move(master_), std::move(payload_[0]),
                                         std::move(payload_[1]));
    return;
  }
  for (auto& fd : payload_) fd.reset();
}

Result<void> ProcessIo::resize(uint16_t columns, uint16_t rows) {
  if (!console_) return {};
  return console_->resize(columns, rows);
}

void ProcessIo::finish(Callback done) {
  stdin_keeper_.reset();
  if (!console_) {
    for (auto& fd : out_keeper_) fd.reset();
    return done();
  }
  console_->finish([this, call = std::move(done)]() mutable {
    // The console's own end stays open while a slow client has still something to read.
    for (auto& fd : out_keeper_) fd.reset();
    call();
  });
}

}  // namespace amphora::shim
