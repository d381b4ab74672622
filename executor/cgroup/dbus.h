// SPDX-License-Identifier: Apache-2.0
// One D-Bus connection: a UNIX socket, the EXTERNAL handshake, calls and their answers, signals kept
// until somebody asks. Blocking, with a deadline. Not here: messages' bytes (dbus_message.h), what
// systemd is asked (systemd_bus.h).
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cgroup/dbus_message.h"

namespace amphora::cgroup::dbus {

/// The socket addresses in a D-Bus address list ("unix:path=/run/x;unix:abstract=y"): paths, an
/// abstract one with a leading NUL. Other transports are left out.
std::vector<std::string> socket_names(std::string_view address_list);

class Connection {
 public:
  /// Connects to the first of `sockets` that answers and authenticates.
  static Result<Connection> open(const std::vector<std::string>& sockets, int64_t deadline_ms);

  /// Sends a call; its serial is for `reply`. Several may be on their way.
  Result<uint32_t> send(const Call& call, int64_t deadline_ms);
  /// The answer to `serial`. An error reply is returned as a message of type kError.
  Result<Message> reply(uint32_t serial, int64_t deadline_ms);
  /// The next signal, in order.
  Result<Message> signal(int64_t deadline_ms);

 private:
  explicit Connection(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<void> authenticate(int64_t deadline_ms);
  Result<std::string> line(int64_t deadline_ms);
  Result<Message> receive(int64_t deadline_ms);
  Result<void> fill(int64_t deadline_ms);
  Result<void> wait(short events, int64_t deadline_ms);

  UniqueFd fd_;
  std::string buffer_;
  std::deque<Message> replies_, signals_;
  uint32_t serial_ = 0;
};

}  // namespace amphora::cgroup::dbus
