// SPDX-License-Identifier: Apache-2.0
// What several of the shim's tests use: a scratch folder, turning the loop until something is true,
// a ttrpc client that sends raw bytes.
#pragma once

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "executor/base/fd.h"
#include "shim/loop.h"
#include "shim/ttrpc/frame.h"
#include "ttrpc.pb.h"

namespace amphora::shim::test {

class ScratchDir {
 public:
  ScratchDir() {
    char name[] = "/tmp/amphora-shim-test-XXXXXX";
    if (::mkdtemp(name) != nullptr) path_ = name;
  }
  ~ScratchDir() { [[maybe_unused]] const int code = ::system(("rm -rf " + path_).c_str()); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Runs the loop until `done()` or the time is up; says which.
template <class Condition>
bool run_until(Loop& loop, Condition done,
               std::chrono::milliseconds limit = std::chrono::seconds(10)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    loop.restart();
    loop.run_one_for(std::chrono::milliseconds(5));
  }
  return true;
}

inline sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return address;
}

inline UniqueFd listen_on(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto address = address_of(path);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0)
      << strerror(errno);
  EXPECT_EQ(::listen(fd.get(), 16), 0);
  return fd;
}

inline UniqueFd connect_to(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto address = address_of(path);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0)
      << strerror(errno);
  return fd;
}

/// A client that turns the server's loop while it waits.
class HandClient {
 public:
  HandClient(Loop& loop, const std::string& path) : loop_(loop), fd_(connect_to(path)) {}

  void send_bytes(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n =
          ::send(fd_.get(), bytes.data() + sent, bytes.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<size_t>(n);
      if (n < 0 && errno != EAGAIN) return;
      loop_.restart();
      loop_.poll();
    }
  }
  void send_request(uint32_t stream, const std::string& service, const std::string& method,
                    const std::string& payload) {
    proto::RpcRequest request;
    request.set_service(service);
    request.set_method(method);
    request.set_payload(payload);
    send_bytes(
        ttrpc::encode_frame(stream, ttrpc::FrameType::kRequest, request.SerializeAsString()));
  }
  struct Answer {
    uint32_t stream = 0;
    int code = -1;
    std::string message, payload;
  };
  /// The next response, or code -1 when the server closed or said nothing.
  Answer next() {
    run_until(
        loop_, [this] { return take() || !frames_.empty() || closed_; }, std::chrono::seconds(5));
    if (frames_.empty()) return {};
    ttrpc::Frame frame = std::move(frames_.front());
    frames_.erase(frames_.begin());
    proto::RpcResponse response;
    EXPECT_TRUE(response.ParseFromString(frame.data));
    return {frame.header.stream, response.status().code(), response.status().message(),
            response.payload()};
  }
  bool has_answer() {
    take();
    return !frames_.empty();
  }
  void close() { fd_.reset(); }

 private:
  bool take() {
    char buffer[65536];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got == 0) closed_ = true;
    if (got <= 0) return false;
    decoder_.feed({buffer, static_cast<size_t>(got)}, [this](ttrpc::Frame&& frame) {
      frames_.push_back(std::move(frame));
      return true;
    });
    return false;
  }

  Loop& loop_;
  UniqueFd fd_;
  ttrpc::Decoder decoder_;
  std::vector<ttrpc::Frame> frames_;
  bool closed_ = false;
};

}  // namespace amphora::shim::test
