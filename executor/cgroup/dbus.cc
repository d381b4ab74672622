// SPDX-License-Identifier: Apache-2.0
// The connection. See dbus.h.
#include "executor/cgroup/dbus.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cgroup/dbus_message.h"
#include "executor/cgroup/files.h"

namespace amphora::cgroup::dbus {
namespace {

constexpr size_t kHead = 16;
constexpr size_t kMostKept = 4096;  // signals of a busy manager that nobody asked for

std::string unescape(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    const auto digit = [&](size_t i) {
      const std::string_view digits = "0123456789abcdef";
      return digits.find(static_cast<char>(text[i] | 0x20));
    };
    if (text[at] == '%' && at + 2 < text.size() && digit(at + 1) < 16 && digit(at + 2) < 16) {
      out.push_back(static_cast<char>(digit(at + 1) * 16 + digit(at + 2)));
      at += 2;
    } else {
      out.push_back(text[at]);
    }
  }
  return out;
}

UniqueFd connect_to(const std::string& name) noexcept {
  struct sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return UniqueFd();
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  // The length tells where an abstract name ends; a path is ended by its NUL as well.
  const auto length =
      static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + name.size() + (name[0] != 0));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // SAFETY: sockaddr_un is what AF_UNIX takes.
  if (fd && ::connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), length) != 0) {
    const int err = errno;
    fd.reset();
    errno = err;
  }
  return fd;
}

std::string shown(const std::string& name) { return name[0] == 0 ? "@" + name.substr(1) : name; }

}  // namespace

std::vector<std::string> socket_names(std::string_view address_list) {
  std::vector<std::string> names;
  while (!address_list.empty()) {
    std::string_view one = address_list.substr(0, address_list.find(';'));
    address_list.remove_prefix(std::min(address_list.size(), one.size() + 1));
    if (!one.starts_with("unix:")) continue;
    one.remove_prefix(5);
    while (!one.empty()) {
      const std::string_view pair = one.substr(0, one.find(','));
      one.remove_prefix(std::min(one.size(), pair.size() + 1));
      const size_t equals = pair.find('=');
      if (equals == std::string_view::npos) continue;
      const std::string value = unescape(pair.substr(equals + 1));
      if (pair.substr(0, equals) == "path" && !value.empty()) names.push_back(value);
      if (pair.substr(0, equals) == "abstract") names.push_back(std::string(1, '\0') + value);
    }
  }
  return names;
}

Result<Connection> Connection::open(const std::vector<std::string>& sockets, int64_t deadline_ms) {
  Error last(Errc::kUnsupported, "no d-bus address");
  for (const std::string& name : sockets) {
    UniqueFd fd = connect_to(name);
    if (!fd) {
      last = Error::from_errno(errno, "connect to " + shown(name));
      continue;
    }
    Connection connection(std::move(fd));
    auto done = connection.authenticate(deadline_ms);
    if (done) return connection;
    last = std::move(done).error().context(shown(name));
  }
  return std::unexpected(std::move(last));
}

Result<void> Connection::wait(short events, int64_t deadline_ms) {
  for (;;) {
    const int64_t left = deadline_ms - now_ms();
    struct pollfd poll_fd{fd_.get(), events, 0};
    const int n =
        left > 0 ? ::poll(&poll_fd, 1, static_cast<int>(std::min<int64_t>(left, 60000))) : 0;
    if (n > 0) return {};
    if (n < 0 && errno != EINTR) return fail_errno(errno, "poll d-bus");
    if (left <= 0) return fail_errno(ETIMEDOUT, "wait for an answer");
  }
}

Result<void> Connection::fill(int64_t deadline_ms) {
  for (;;) {
    char chunk[4096];
    const ssize_t n = ::recv(fd_.get(), chunk, sizeof chunk, 0);
    if (n > 0) {
      buffer_.append(chunk, static_cast<size_t>(n));
      return {};
    }
    if (n == 0) return fail_errno(ECONNRESET, "read from d-bus");
    if (errno == EAGAIN) {
      TRY(wait(POLLIN, deadline_ms));
    } else if (errno != EINTR) {
      return fail_errno(errno, "read from d-bus");
    }
  }
}

Result<std::string> Connection::line(int64_t deadline_ms) {
  constexpr size_t kLongest = 4096;
  for (;;) {
    const size_t end = buffer_.find("\r\n");
    if (end != std::string::npos) {
      std::string text = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return text;
    }
    if (buffer_.size() > kLongest) return fail(Errc::kInternal, "d-bus: no handshake");
    TRY(fill(deadline_ms));
  }
}

Result<void> Connection::authenticate(int64_t deadline_ms) {
  const auto say = [&](std::string_view text) -> Result<void> {
    const ssize_t n = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (n != static_cast<ssize_t>(text.size()))
      return fail_errno(n < 0 ? errno : EIO, "d-bus handshake");
    return {};
  };
  // No identity is claimed, the server takes the socket's: a uid of a user namespace would mean
  // nothing to it.
  TRY(say(std::string_view("\0AUTH EXTERNAL\r\n", 16)));
  for (int step = 0; step < 3; ++step) {
    TRY_ASSIGN(const std::string answer, line(deadline_ms));
    if (answer.starts_with("OK ") || answer == "OK") return say("BEGIN\r\n");
    if (answer != "DATA" && answer != "DATA ") {
      return fail(Errc::kSystem, "d-bus: not let in: " + answer);
    }
    TRY(say("DATA\r\n"));
  }
  return fail(Errc::kInternal, "d-bus: no handshake");
}

Result<uint32_t> Connection::send(const Call& call, int64_t deadline_ms) {
  const uint32_t serial = ++serial_;
  const std::string bytes = encode(call, serial);
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const ssize_t n = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n > 0) {
      rest.remove_prefix(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      TRY(wait(POLLOUT, deadline_ms));
    } else if (errno != EINTR) {
      return fail_errno(errno, "write to d-bus");
    }
  }
  return serial;
}

Result<Message> Connection::receive(int64_t deadline_ms) {
  size_t size = 0;
  while (buffer_.size() < kHead || buffer_.size() < (size = message_size(buffer_))) {
    if (buffer_.size() >= kHead && size == 0) break;
    TRY(fill(deadline_ms));
  }
  if (size == 0) return fail(Errc::kInternal, "d-bus: a message that cannot be read");
  auto message = decode(std::string_view(buffer_).substr(0, size));
  buffer_.erase(0, size);
  return message;
}

Result<Message> Connection::reply(uint32_t serial, int64_t deadline_ms) {
  for (;;) {
    const auto found = std::find_if(replies_.begin(), replies_.end(),
                                    [&](const Message& m) { return m.reply_serial == serial; });
    if (found != replies_.end()) {
      Message message = std::move(*found);
      replies_.erase(found);
      return message;
    }
    TRY_ASSIGN(Message message, receive(deadline_ms));
    if (message.type == Type::kReturn || message.type == Type::kError) {
      replies_.push_back(std::move(message));
    } else if (message.type == Type::kSignal && signals_.size() < kMostKept) {
      signals_.push_back(std::move(message));
    }
  }
}

Result<Message> Connection::signal(int64_t deadline_ms) {
  for (;;) {
    if (!signals_.empty()) {
      Message message = std::move(signals_.front());
      signals_.pop_front();
      return message;
    }
    TRY_ASSIGN(Message message, receive(deadline_ms));
    if (message.type == Type::kSignal) return message;
    if (message.type == Type::kReturn || message.type == Type::kError) {
      replies_.push_back(std::move(message));
    }
  }
}

}  // namespace amphora::cgroup::dbus
