// SPDX-License-Identifier: Apache-2.0
// ttrpc client. See client.h.
#include "shim/ttrpc/client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "shim/loop.h"
#include "shim/status.h"
#include "shim/ttrpc/frame.h"
#include "ttrpc.pb.h"

namespace amphora::ttrpc {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;

Client::Client(shim::Loop& loop, std::string path)
    : path_(std::move(path)), socket_(loop), deadline_(loop) {}

Result<void> Client::connect() {
  if (socket_.is_open()) return {};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.empty() || path_.size() >= sizeof(address.sun_path)) {
    return fail(Errc::kInvalid, "connect: bad socket path '" + path_ + "'");
  }
  ::memcpy(address.sun_path, path_.data(), path_.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, "socket");
  // A unix socket connects at once or, with a full backlog, says EAGAIN: the caller tries later.
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(errno, "connect " + path_);
  }
  socket_.assign(asio::local::stream_protocol(), fd.release());
  decoder_ = Decoder();
  next_stream_ = 1;
  ++generation_;
  return {};
}

void Client::call(std::string_view service, std::string_view method, std::string_view payload,
                  std::chrono::milliseconds timeout, shim::Done<Reply> done) {
  AMPHORA_CHECK(!done_);
  done_ = std::move(done);
  if (auto connected = connect(); !connected) {
    return finish(std::unexpected(std::move(connected).error()));
  }
  proto::RpcRequest request;
  request.set_service(service.data(), service.size());
  request.set_method(method.data(), method.size());
  request.set_payload(payload.data(), payload.size());
  request.set_timeout_nano(std::chrono::nanoseconds(timeout).count());
  stream_ = next_stream_;
  next_stream_ += 2;
  out_ = encode_frame(stream_, FrameType::kRequest, request.SerializeAsString());
  deadline_.expires_after(timeout);
  deadline_.async_wait([this, mine = stream_, connection = generation_](auto error) {
    if (error || mine != stream_ || connection != generation_ || !done_) return;
    finish(fail(Errc::kSystem, path_ + ": no answer in time"));
  });
  write();
}

void Client::write() {
  while (!out_.empty()) {
    const ssize_t sent =
        ::send(socket_.native_handle(), out_.data(), out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
      socket_.async_wait(Socket::wait_write,
                         [this, mine = generation_](boost::system::error_code error) {
                           if (!error && mine == generation_ && done_) write();
                         });
      return;
    }
    if (sent < 0) return finish(fail_errno(errno, "write " + path_));
    out_.erase(0, static_cast<size_t>(sent));
  }
  wait_readable();
}

void Client::wait_readable() {
  socket_.async_wait(Socket::wait_read,
                     [this, mine = generation_](boost::system::error_code error) {
                       if (!error && mine == generation_ && done_) read();
                     });
}

void Client::read() {
  std::array<char, 4096> buffer;
  const ssize_t got = ::recv(socket_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return wait_readable();
  if (got < 0) return finish(fail_errno(errno, "read " + path_));
  if (got == 0) return finish(fail(Errc::kSystem, path_ + ": closed by the server"));
  const uint32_t asked = stream_;
  decoder_.feed({buffer.data(), static_cast<size_t>(got)}, [this](Frame&& frame) {
    on_frame(std::move(frame));
    return static_cast<bool>(done_);
  });
  // A callback that made the next call has begun the next wait as well.
  if (done_ && stream_ == asked) wait_readable();
}

void Client::on_frame(Frame&& frame) {
  if (frame.header.stream != stream_ ||
      frame.header.type != static_cast<uint8_t>(FrameType::kResponse)) {
    return;  // a late answer to a call that we gave up
  }
  proto::RpcResponse response;
  if (frame.oversize || !response.ParseFromString(frame.data)) {
    return finish(fail(Errc::kInternal, path_ + ": response cannot be decoded"));
  }
  Reply reply;
  reply.status.code = static_cast<Code>(response.status().code());
  reply.status.message = std::move(*response.mutable_status()->mutable_message());
  reply.payload = std::move(*response.mutable_payload());
  finish(std::move(reply));
}

void Client::finish(Result<Reply> result) {
  deadline_.cancel();
  if (!result) {
    boost::system::error_code ignored;
    socket_.close(ignored);
    ++generation_;
  }
  // The callback may call us again.
  if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
}

}  // namespace amphora::ttrpc
