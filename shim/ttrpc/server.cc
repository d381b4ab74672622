// SPDX-License-Identifier: Apache-2.0
// ttrpc server. See server.h; the rules for bad frames are those of containerd's own server.
#include "shim/ttrpc/server.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common.pb.h"
#include "executor/base/fd.h"
#include "shim/status.h"
#include "shim/ttrpc/frame.h"
#include "ttrpc.pb.h"

namespace amphora::ttrpc {

namespace pb = amphora::proto;

namespace {

// A peer that does not read its replies may not fill our memory.
constexpr size_t kMaxQueued = 16U << 20;

/// Half of what we may open. One client has one connection for each of its containers.
size_t connections_allowed() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
  return std::max<size_t>(files.rlim_cur / 2, 16);
}

bool peer_is_own_user(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == ::geteuid() && peer.gid == ::getegid();
}

}  // namespace

/// One client. Owned by the server's set while open; handlers in flight hold it weakly.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Server& server, asio::local::stream_protocol::socket socket, uint64_t number)
      : server_(server), socket_(std::move(socket)), number_(number) {}

  void start() { wait_readable(); }
  /// It has never said anything.
  bool is_silent() const noexcept { return silent_; }
  /// How many came before it.
  uint64_t number() const noexcept { return number_; }
  /// Closed by us: nobody's look whether we live.
  void dismiss() {
    silent_ = false;
    close();
  }
  /// The server is going away; late answers of others must not reach it.
  void detach() {
    boost::system::error_code ignored;
    socket_.close(ignored);
    closed_ = true;
  }

  void reply(uint32_t stream, std::string_view payload) {
    pb::RpcResponse response;
    response.set_payload(payload.data(), payload.size());
    if (payload.size() + kHeaderSize > kMaxData) {
      reply(stream, Status{Code::kResourceExhausted, "response is larger than 4 MiB"});
      return;
    }
    send(encode_frame(stream, FrameType::kResponse, response.SerializeAsString()));
  }

  void reply(uint32_t stream, const Status& status) {
    pb::RpcResponse response;
    response.mutable_status()->set_code(static_cast<int32_t>(status.code));
    response.mutable_status()->set_message(status.message);
    send(encode_frame(stream, FrameType::kResponse, response.SerializeAsString()));
  }

 private:
  void wait_readable() {
    socket_.async_wait(asio::local::stream_protocol::socket::wait_read,
                       [self = weak_from_this()](boost::system::error_code error) {
                         if (const auto alive = self.lock(); alive && !error) alive->read();
                       });
  }

  void read() {
    // On the stack and not per connection: a pod has many idle connections.
    std::array<char, 16384> buffer;
    const ssize_t got = ::recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return wait_readable();
    if (got <= 0) return close();
    silent_ = false;
    decoder_.feed({buffer.data(), static_cast<size_t>(got)}, [this](Frame&& frame) {
      on_frame(std::move(frame));
      return !closed_;
    });
    if (!closed_) wait_readable();
  }

  void on_frame(Frame&& frame) {
    const uint32_t stream = frame.header.stream;
    const auto refuse = [&](Code code, const char* why) { reply(stream, Status{code, why}); };
    if (frame.oversize) return refuse(Code::kResourceExhausted, "message is larger than 4 MiB");
    switch (static_cast<FrameType>(frame.header.type)) {
      case FrameType::kRequest:
        break;
      case FrameType::kData:
        return refuse(Code::kInvalidArgument, "data for an unknown stream");
      case FrameType::kResponse:
      default:
        return;  // not for a server; unknown types are ignored by the protocol's rule
    }
    if (stream % 2 == 0) return refuse(Code::kInvalidArgument, "stream id must be odd");
    if (stream <= last_stream_) return refuse(Code::kInvalidArgument, "stream id must increase");
    last_stream_ = stream;
    pb::RpcRequest request;
    if (!request.ParseFromString(frame.data)) {
      return refuse(Code::kInvalidArgument, "request cannot be decoded");
    }
    dispatch(stream, std::move(request));
  }

  void dispatch(uint32_t stream, pb::RpcRequest&& request) {
    // This is one of the three doors where others' exceptions stop.
    try {
      server_.handler_(
          Request{std::move(*request.mutable_service()), std::move(*request.mutable_method()),
                  std::move(*request.mutable_payload())},
          Responder(weak_from_this(), stream));
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
      // The Responder answered kInternal when the handler let go of it.
    }
  }

  void send(std::string frame) {
    if (closed_) return;
    if (!queue_.empty()) {
      queued_ += frame.size();
      queue_.push_back(std::move(frame));
      if (queued_ > kMaxQueued) close();
      return;
    }
    const ssize_t sent =
        ::send(socket_.native_handle(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(frame.size())) return;
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return close();
    offset_ = sent > 0 ? static_cast<size_t>(sent) : 0;
    queued_ = frame.size();
    queue_.push_back(std::move(frame));
    wait_writable();
  }

  void wait_writable() {
    socket_.async_wait(asio::local::stream_protocol::socket::wait_write,
                       [self = weak_from_this()](boost::system::error_code error) {
                         if (const auto alive = self.lock(); alive && !error) alive->flush();
                       });
  }

  void flush() {
    while (!queue_.empty()) {
      const std::string& front = queue_.front();
      const ssize_t sent = ::send(socket_.native_handle(), front.data() + offset_,
                                  front.size() - offset_, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return wait_writable();
      if (sent < 0) return close();
      offset_ += static_cast<size_t>(sent);
      if (offset_ < front.size()) continue;
      queued_ -= front.size();
      offset_ = 0;
      queue_.pop_front();
    }
  }

  void close() {
    if (closed_) return;
    detach();
    server_.forget(shared_from_this(), silent_);
  }

  Server& server_;
  asio::local::stream_protocol::socket socket_;
  Decoder decoder_;
  uint64_t number_;
  uint32_t last_stream_ = 0;
  std::deque<std::string> queue_;  // frames not yet written; the first one from offset_ on
  size_t offset_ = 0, queued_ = 0;
  bool closed_ = false, silent_ = true;
};

// Memory that ran out here ends the process, as it does everywhere.
// NOLINTNEXTLINE(bugprone-exception-escape)
Responder::~Responder() {
  if (connection_.expired()) return;
  fail(Status{Code::kInternal, "the request was dropped"});
}

void Responder::ok(const google::protobuf::MessageLite& message) {
  if (const auto connection = connection_.lock()) {
    connection->reply(stream_, message.SerializeAsString());
  }
  connection_.reset();
}

void Responder::fail(const Status& status) {
  if (const auto connection = connection_.lock()) connection->reply(stream_, status);
  connection_.reset();
}

Server::Server(Loop& loop, UniqueFd listener, Handler handler)
    : loop_(loop),
      acceptor_(loop, asio::local::stream_protocol(), listener.release()),
      accept_pause_(loop),
      handler_(std::move(handler)),
      most_connections_(connections_allowed()) {
  acceptor_.non_blocking(true);
  accept();
}

Server::~Server() {
  for (const auto& connection : connections_) connection->detach();
}

void Server::close_listener() {
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  accept_pause_.cancel();
}

void Server::accept() {
  acceptor_.async_wait(
      asio::local::stream_protocol::acceptor::wait_read, [this](boost::system::error_code error) {
        if (error) return;
        // accept4 by hand: asio's accept cannot set close-on-exec in the same call.
        UniqueFd fd(
            ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (fd && peer_is_own_user(fd.get()) && make_room()) {
          asio::local::stream_protocol::socket socket(loop_, asio::local::stream_protocol(),
                                                      fd.release());
          auto connection = std::make_shared<Connection>(*this, std::move(socket), ++accepted_);
          connections_.insert(connection);
          connection->start();
        } else if (!fd && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
          // The waiting peer stays readable: without a pause this would spin.
          accept_pause_.expires_after(std::chrono::milliseconds(100));
          accept_pause_.async_wait([this](boost::system::error_code stopped) {
            if (!stopped) accept();
          });
          return;
        }
        accept();
      });
}

/// At the bound, who has waited longest without a word gives way; where all have spoken, nobody does.
bool Server::make_room() {
  if (connections_.size() < most_connections_) return true;
  std::shared_ptr<Connection> oldest;
  for (const auto& connection : connections_) {
    if (connection->is_silent() && (!oldest || connection->number() < oldest->number())) {
      oldest = connection;
    }
  }
  if (!oldest) return false;
  oldest->dismiss();
  return true;
}

void Server::forget(const std::shared_ptr<Connection>& connection, bool silent) {
  connections_.erase(connection);
  if (on_disconnect_) on_disconnect_(silent);
}

}  // namespace amphora::ttrpc
