// SPDX-License-Identifier: Apache-2.0
// Stdio of processes. See io.h.
#include "shim/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "executor/base/directories.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/process.h"
#include "executor/runtime/runtime.h"
#include "shim/console.h"
#include "shim/logger.h"
#include "shim/loop.h"
#include "shim/options.h"
#include "shim/relay.h"

namespace amphora::shim {
namespace {

constexpr std::chrono::milliseconds kFirstLook{5};
constexpr std::chrono::milliseconds kLastLook{1000};

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
  TRY(make_directories(std::string(path::dir_name(path)), 0755, 0755));
  return open_at(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT, 0644);
}

/// Whether a FIFO's write end has nobody at the other one.
bool is_unread(int write_end) {
  pollfd poll{.fd = write_end, .events = POLLOUT, .revents = 0};
  return ::poll(&poll, 1, 0) == 1 && (poll.revents & POLLERR) != 0;
}

bool has_bytes(int pipe) {
  int bytes = 0;
  return ::ioctl(pipe, FIONREAD, &bytes) == 0 && bytes > 0;
}

}  // namespace

Output output_mode(Output usual) {
  const char* const asked = ::getenv("AMPHORA_STDIO");
  if (asked == nullptr) return usual;
  const std::string_view word(asked);
  return word == "copy" ? Output::kCopied : word == "pass" ? Output::kPassed : usual;
}

Result<std::unique_ptr<ProcessIo>> ProcessIo::open(const StdioUris& uris, const std::string& id,
                                                   const std::string& name_space,
                                                   Children& children, Output output) {
  std::unique_ptr<ProcessIo> io(new ProcessIo);
  io->terminal_ = uris.terminal;
  io->output_ = output;
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

Result<UniqueFd> ProcessIo::open_output(const std::string& uri, Keeper& keeper) {
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
  // The read end first: with it in place the write end does not wait for a client's.
  TRY_ASSIGN(keeper.read, reopen(place, uri, O_RDONLY | O_NONBLOCK));
  if (output_ == Output::kCopied && !terminal_) {
    TRY_ASSIGN(keeper.write, reopen(place, uri, O_WRONLY | O_NONBLOCK));
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "pipe for " + uri);
    keeper.source = UniqueFd(ends[0]);
    UniqueFd writer(ends[1]);
    if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return fail_errno(errno, "pipe for " + uri);
    return writer;
  }
  TRY_ASSIGN(UniqueFd payload, reopen(place, uri, terminal_ ? O_WRONLY | O_NONBLOCK : O_WRONLY));
  TRY_ASSIGN(keeper.write, duplicate(payload.get()));
  return payload;
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

Result<void> ProcessIo::give_to(const IoOwner& owner) {
  if (terminal_ || (!owner.uid && !owner.gid)) return {};
  for (const auto& fd : payload_) {
    TRY_ASSIGN(const bool fifo, is_fifo(fd, "stdio"));
    if (!fifo) continue;
    // -1 leaves as it is.
    if (::fchown(fd.get(), owner.uid.value_or(UINT32_MAX), owner.gid.value_or(UINT32_MAX)) != 0) {
      return fail_errno(errno, "give stdio to the owner that the runtime options name");
    }
  }
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
  for (auto& keeper : out_keeper_) {
    if (!keeper.source) continue;
    auto out = duplicate(keeper.write.get());
    if (!out) continue;  // no descriptor is free: the process will see a broken pipe
    keeper.relay = std::make_unique<Relay>(loop, std::move(keeper.source), std::move(*out), [this] {
      if (ended_) let_go();
    });
  }
}

Result<void> ProcessIo::resize(uint16_t columns, uint16_t rows) {
  if (!console_) return {};
  return console_->resize(columns, rows);
}

void ProcessIo::finish(Callback done) {
  stdin_keeper_.reset();
  ended_ = true;
  if (!console_) {
    let_go();
    return done();
  }
  console_->finish([this, call = std::move(done)]() mutable {
    // The console's own end stays open while a slow client has still something to read.
    let_go();
    call();
  });
}

/// Closing the last end of a FIFO throws away what is in it. A client that has not opened its end yet
/// (its open waits for a thread, or containerd is being restarted) would then wait for ever.
void ProcessIo::let_go() {
  for (auto& keeper : out_keeper_) {
    if (keeper.is_copying()) continue;  // comes back when all is out
    keeper.read.reset();
    if (keeper.write && !is_unread(keeper.write.get())) keeper.write.reset();
  }
  const bool all =
      std::ranges::none_of(out_keeper_, [](const Keeper& k) { return k.write && !k.is_copying(); });
  if (all || loop_ == nullptr) return;
  // Nothing tells when a FIFO gets a reader, so it is looked for, less and less often.
  next_look_ = next_look_.count() == 0 ? kFirstLook : std::min(2 * next_look_, kLastLook);
  if (!look_) look_ = std::make_unique<asio::steady_timer>(*loop_);
  look_->expires_after(next_look_);
  look_->async_wait([this](boost::system::error_code error) {
    if (!error) let_go();
  });
}

bool ProcessIo::is_drained() const noexcept {
  if (console_ && !console_->is_drained()) return false;
  if (std::ranges::any_of(out_keeper_, [](const Keeper& k) { return k.is_copying(); }))
    return false;
  return std::ranges::none_of(out_keeper_, [](const Keeper& keeper) {
    return keeper.write && !keeper.read && is_unread(keeper.write.get()) &&
           has_bytes(keeper.write.get());
  });
}

}  // namespace amphora::shim
