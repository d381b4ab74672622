// SPDX-License-Identifier: Apache-2.0
// ttrpc client for one unix socket, with one call outstanding at a time: what publishing events
// needs. Connects when first asked and again after a failure; whether to try again is the caller's
// decision.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/local/stream_protocol.hpp>

#include "shim/loop.h"
#include "shim/status.h"
#include "shim/ttrpc/frame.h"

namespace amphora::ttrpc {

class Client {
 public:
  struct Reply {
    Status status;        ///< the server's verdict
    std::string payload;  ///< when it is kOk
  };

  Client(shim::Loop& loop, std::string path);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// An Error means the transport failed (the server may or may not have seen the call); the
  /// connection is then closed. No other call may be outstanding.
  void call(std::string_view service, std::string_view method, std::string_view payload,
            std::chrono::milliseconds timeout, shim::Done<Reply> done);

 private:
  Result<void> connect();
  void write();
  void wait_readable();
  void read();
  void on_frame(Frame&& frame);
  void finish(Result<Reply> result);

  std::string path_;
  boost::asio::local::stream_protocol::socket socket_;
  boost::asio::steady_timer deadline_;
  Decoder decoder_;
  uint32_t next_stream_ = 1, stream_ = 0;
  std::string out_;  // the rest of the request frame
  shim::Done<Reply> done_;
  uint64_t generation_ = 0;  // of the connection: waits on an older one are ignored
};

}  // namespace amphora::ttrpc
