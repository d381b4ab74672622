// SPDX-License-Identifier: Apache-2.0
// See console.h.
#include "executor/cli/console.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::cli {
namespace {

/// A quarter of a second in all, for a socket that is just being made.
constexpr int kConnectTries = 25;
constexpr useconds_t kConnectPauseUs = 10000;

/// What runc calls the master; receivers show it, none opens it.
constexpr char kMasterName[] = "/dev/ptmx";

int first_terminal() {
  for (int fd = 0; fd < 3; ++fd) {
    if (isatty(fd) == 1) return fd;
  }
  return -1;
}

/// read with EINTR retried; 0 at the end of the stream, -1 when there is nothing now.
ssize_t read_some(int fd, char* buffer, size_t size) {
  ssize_t n = 0;
  do {
    n = read(fd, buffer, size);
  } while (n < 0 && errno == EINTR);
  // A pty master whose slaves are all closed answers EIO: that is its end of file.
  if (n < 0 && errno != EAGAIN) return 0;
  return n;
}

/// Removes from `text` what could be written. False: the other side is gone.
bool write_some(int fd, std::string& text) {
  ssize_t n = 0;
  do {
    n = write(fd, text.data(), text.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) return errno == EAGAIN;
  text.erase(0, static_cast<size_t>(n));
  return true;
}

}  // namespace

Result<UniqueFd> connect_unix(const std::string& path, const char* what) {
  const std::string noun = std::string(what) + " " + path;
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket for " + noun);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string usable = path;
  UniqueFd opened;
  if (path.size() >= sizeof address.sun_path) {
    // Longer than an address may be: by way of a descriptor of it.
    TRY_ASSIGN(opened, open_at(AT_FDCWD, path, O_PATH));
    usable = "/proc/self/fd/" + std::to_string(opened.get());
  }
  std::memcpy(address.sun_path, usable.c_str(), usable.size() + 1);
  // The caller starts whoever listens right before us, and we are quick: it gets some moments.
  for (int left = kConnectTries;; --left) {
    // SAFETY: the sockets interface takes every address family through this one type.
    if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      return socket;
    }
    if ((errno != ENOENT && errno != ECONNREFUSED) || left == 0) {
      return fail_errno(errno, "connect to " + noun);
    }
    usleep(kConnectPauseUs);
  }
}

Result<void> send_console(UniqueFd socket, const UniqueFd& master) {
  const int fds[] = {master.get()};
  auto sent = send_with_fds(socket.get(), kMasterName, fds);
  if (!sent) return std::unexpected(std::move(sent).error().context("console socket"));
  return {};
}

TerminalRelay::~TerminalRelay() {
  if (raw_) tcsetattr(terminal_, TCSADRAIN, &saved_);
}

Result<void> TerminalRelay::attach(UniqueFd master) {
  master_ = std::move(master);
  if (fcntl(master_.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
    return fail_errno(errno, "console master O_NONBLOCK");
  }
  // As runc: lines end with a bare newline, so that output into a file is the program's own. The
  // caller's terminal adds the carriage return itself (OPOST stays on below).
  termios settings{};
  if (tcgetattr(master_.get(), &settings) == 0) {
    settings.c_oflag &= ~static_cast<tcflag_t>(ONLCR);
    tcsetattr(master_.get(), TCSANOW, &settings);
  }
  terminal_ = first_terminal();
  if (terminal_ < 0 || tcgetattr(terminal_, &saved_) != 0) return {};
  resize();
  termios raw = saved_;
  cfmakeraw(&raw);
  raw.c_oflag |= OPOST;
  if (tcsetattr(terminal_, TCSANOW, &raw) != 0) return fail_errno(errno, "set the terminal raw");
  raw_ = true;
  return {};
}

void TerminalRelay::resize() {
  winsize size{};
  if (terminal_ >= 0 && ioctl(terminal_, TIOCGWINSZ, &size) == 0 && size.ws_row != 0) {
    ioctl(master_.get(), TIOCSWINSZ, &size);
  }
}

void TerminalRelay::fill(pollfd (&polled)[kPolled]) const {
  short on_master = 0;
  if (master_open_ && to_output_.empty()) on_master |= POLLIN;
  if (master_open_ && !to_master_.empty()) on_master |= POLLOUT;
  polled[0] = {on_master != 0 ? master_.get() : -1, on_master, 0};
  const bool want_input = attached() && input_open_ && master_open_ && to_master_.empty();
  polled[1] = {want_input ? STDIN_FILENO : -1, POLLIN, 0};
  polled[2] = {output_open_ && !to_output_.empty() ? STDOUT_FILENO : -1, POLLOUT, 0};
}

void TerminalRelay::move(const pollfd (&polled)[kPolled]) {
  if ((polled[0].revents & POLLOUT) != 0) write_master();
  if ((polled[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && to_output_.empty()) read_master();
  if (polled[1].revents != 0) read_input();
  if (polled[2].revents != 0) write_output();
}

void TerminalRelay::read_input() {
  char buffer[kBuffer];
  const ssize_t n = read_some(STDIN_FILENO, buffer, sizeof buffer);
  if (n == 0) input_open_ = false;
  if (n > 0) to_master_.append(buffer, static_cast<size_t>(n));
}

void TerminalRelay::read_master() {
  char buffer[kBuffer];
  const ssize_t n = read_some(master_.get(), buffer, sizeof buffer);
  if (n == 0) master_open_ = false;
  // With nobody left to read it the container still must not block on its terminal.
  if (n > 0 && output_open_) to_output_.append(buffer, static_cast<size_t>(n));
}

void TerminalRelay::write_output() {
  if (!write_some(STDOUT_FILENO, to_output_)) {
    output_open_ = false;
    to_output_.clear();
  }
}

void TerminalRelay::write_master() {
  if (!write_some(master_.get(), to_master_)) to_master_.clear();
}

void TerminalRelay::drain() {
  // What was in the pty's buffers when the last process went; they hold some kilobytes.
  for (int rounds = 0; attached() && master_open_ && rounds < 64; ++rounds) {
    const size_t before = to_output_.size();
    char buffer[kBuffer];
    const ssize_t n = read_some(master_.get(), buffer, sizeof buffer);
    if (n <= 0) break;
    to_output_.append(buffer, static_cast<size_t>(n));
    if (to_output_.size() == before) break;
  }
  if (output_open_ && !to_output_.empty()) static_cast<void>(write_all(STDOUT_FILENO, to_output_));
  to_output_.clear();
}

}  // namespace amphora::cli
