// SPDX-License-Identifier: Apache-2.0
// pty copy. See console.h.
#include "shim/console.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "shim/loop.h"

namespace amphora::shim {
namespace {

// Data written just before the last close reaches the master by a kernel worker; what is still
// missing after this long will not come: a descendant keeps the terminal open.
constexpr std::chrono::milliseconds kGrace{200};
// After so many chunks the loop gets its turn.
constexpr int kChunks = 16;

bool would_block() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

Console::Console(Loop& loop, UniqueFd master, UniqueFd in, UniqueFd out)
    : loop_(loop),
      master_(std::move(master)),
      in_(std::move(in)),
      out_(std::move(out)),
      grace_(loop) {
  ::fcntl(master_.get(), F_SETFL, ::fcntl(master_.get(), F_GETFL) | O_NONBLOCK);
  master_watch_ = std::make_unique<FdWatch>(loop_, master_.get());
  master_watch_->readable([this] { pump_out(); });
  if (in_) {
    in_watch_ = std::make_unique<FdWatch>(loop_, in_.get());
    in_watch_->readable([this] { pump_in(); });
  }
}

bool Console::write_pending() {
  while (!pending_.empty() && out_) {
    const ssize_t sent = ::write(out_.get(), pending_.data(), pending_.size());
    if (sent < 0 && would_block()) {
      if (!out_watch_) out_watch_ = std::make_unique<FdWatch>(loop_, out_.get());
      out_watch_->writable([this] { pump_out(); });
      return false;
    }
    if (sent < 0) out_watch_.reset(), out_.reset();  // nobody will ever read it: drop, do not stall
    if (sent > 0) pending_.erase(0, static_cast<size_t>(sent));
  }
  pending_.clear();
  return true;
}

void Console::pump_out() {
  std::array<char, 8192> buffer;
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    if (!write_pending()) return;
    if (!master_) break;
    const ssize_t got = ::read(master_.get(), buffer.data(), buffer.size());
    if (got > 0) {
      pending_.assign(buffer.data(), static_cast<size_t>(got));
      continue;
    }
    if (got < 0 && would_block() && !grace_over_) break;
    close_master();  // EIO: the last holder of the terminal is gone
  }
  if (master_) {
    master_watch_->readable([this] { pump_out(); });
    return;
  }
  if (pending_.empty()) out_watch_.reset(), out_.reset();
  report_done();
}

void Console::await_writable_master() {
  if (!master_write_watch_) {
    master_write_.reset(::fcntl(master_.get(), F_DUPFD_CLOEXEC, 0));
    if (!master_write_) return;
    master_write_watch_ = std::make_unique<FdWatch>(loop_, master_write_.get());
  }
  master_write_watch_->writable([this] { pump_in(); });
}

void Console::pump_in() {
  if (!master_) return;
  std::array<char, 4096> buffer;
  while (true) {
    while (!typed_.empty()) {
      const ssize_t sent = ::write(master_.get(), typed_.data(), typed_.size());
      if (sent < 0) {
        if (would_block()) await_writable_master();
        return;
      }
      typed_.erase(0, static_cast<size_t>(sent));
    }
    const ssize_t got = ::read(in_.get(), buffer.data(), buffer.size());
    if (got < 0 && would_block()) break;
    if (got <= 0) return;
    typed_.assign(buffer.data(), static_cast<size_t>(got));
  }
  in_watch_->readable([this] { pump_in(); });
}

Result<void> Console::resize(uint16_t columns, uint16_t rows) {
  winsize size{};
  size.ws_col = columns;
  size.ws_row = rows;
  if (master_ && ::ioctl(master_.get(), TIOCSWINSZ, &size) != 0) {
    return fail_errno(errno, "set the size of the terminal");
  }
  return {};
}

void Console::close_master() {
  master_watch_.reset();
  master_write_watch_.reset();
  in_watch_.reset();
  master_.reset();
  master_write_.reset();
  in_.reset();
}

void Console::finish(Callback done) {
  done_ = std::move(done);
  if (!master_ && pending_.empty()) return report_done();
  grace_.expires_after(kGrace);
  grace_.async_wait([this](boost::system::error_code error) {
    if (error) return;
    // What waits for a slow client goes on behind the process's end, and stops when all is out.
    grace_over_ = true;
    if (pending_.empty()) return pump_out();
    report_done();
  });
  if (pending_.empty()) pump_out();
}

void Console::report_done() {
  if (!done_) return;
  grace_.cancel();
  std::exchange(done_, nullptr)();
}

}  // namespace amphora::shim
