// SPDX-License-Identifier: Apache-2.0
// ttrpc server on a listening unix socket: accepts peers of our own user, cuts frames, hands each
// request to one handler and sends replies in whatever order they come. A request may stay
// unanswered for a container's whole life (Wait): it is then a parked Responder, nothing else. Clients
// are bounded: half of the descriptors stay for containers. Not here: what methods mean (task_service).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

#include <boost/asio/local/stream_protocol.hpp>

#include "executor/base/fd.h"
#include "shim/loop.h"
#include "shim/status.h"
#include "shim/ttrpc/frame.h"

namespace google::protobuf {
class MessageLite;
}

namespace amphora::ttrpc {

using shim::Loop;
namespace asio = boost::asio;

class Connection;

/// The duty to answer one request, once. Dropped unanswered it answers kInternal. Answers to a
/// connection that is gone vanish.
class Responder {
 public:
  Responder(std::weak_ptr<Connection> connection, uint32_t stream)
      : connection_(std::move(connection)), stream_(stream) {}
  Responder(Responder&& other) noexcept = default;
  Responder& operator=(Responder&&) = delete;
  ~Responder();

  void ok(const google::protobuf::MessageLite& message);
  void fail(const Status& status);
  void fail(const Error& error) { fail(to_status(error)); }
  bool peer_is_gone() const { return connection_.expired(); }
  const std::weak_ptr<Connection>& connection() const { return connection_; }

 private:
  std::weak_ptr<Connection> connection_;
  uint32_t stream_;
};

struct Request {
  std::string service, method, payload;
};
using Handler = std::function<void(Request&&, Responder)>;

class Server {
 public:
  /// Takes over a listening socket.
  Server(Loop& loop, UniqueFd listener, Handler handler);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Stops accepting; open connections live on.
  void close_listener();
  size_t connections() const noexcept { return connections_.size(); }
  /// Called after a connection has ended; `silent` when it never sent a frame (somebody who only
  /// looked whether we live).
  void on_disconnect(std::function<void(bool silent)> callback) {
    on_disconnect_ = std::move(callback);
  }

 private:
  friend class Connection;
  void accept();
  void forget(const std::shared_ptr<Connection>& connection, bool silent);
  bool make_room();

  Loop& loop_;
  asio::local::stream_protocol::acceptor acceptor_;
  asio::steady_timer accept_pause_;
  Handler handler_;
  std::unordered_set<std::shared_ptr<Connection>> connections_;
  size_t most_connections_;
  uint64_t accepted_ = 0;
  std::function<void(bool)> on_disconnect_;
};

}  // namespace amphora::ttrpc
