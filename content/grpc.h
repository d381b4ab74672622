// SPDX-License-Identifier: Apache-2.0
// A gRPC client for one server on a unix socket: calls with one message or a list of them each way, on
// nghttp2, one at a time. Not here: what the messages are (api).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::content {

struct Call {
  std::string path;                            ///< "/package.Service/Method"
  std::vector<std::string> requests;           ///< encoded messages
  std::map<std::string, std::string> headers;  ///< beside those of every call
};

class Grpc {
 public:
  static Result<Grpc> connect(const std::string& address);
  Grpc(Grpc&&) noexcept;
  Grpc& operator=(Grpc&&) = delete;
  ~Grpc();

  /// Sends the requests and hands every message that comes back to `use`. A status other than OK is an
  /// error of its class (kNotFound, kExists, ...) with the server's words.
  using Use = std::function<Result<void>(std::string_view message)>;
  Result<void> call(const Call& call, const Use& use);

 private:
  struct State;
  explicit Grpc(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace amphora::content
