// SPDX-License-Identifier: Apache-2.0
// Publishing task events to containerd: one line, in order, one call at a time, tried again while
// containerd is away. Replies to clients never wait for it. When events happen is decided by the
// supervisor.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "executor/base/fd.h"
#include "shim/loop.h"
#include "shim/ttrpc/client.h"

namespace google::protobuf {
class MessageLite;
}
namespace spdlog {
class logger;
}

namespace amphora::shim {

/// Where events go; the tests record them instead.
class EventSink {
 public:
  virtual ~EventSink() = default;
  /// The event's full protobuf name becomes its type URL.
  virtual void publish(const char* topic, const google::protobuf::MessageLite& event) = 0;
};

class Publisher final : public EventSink {
 public:
  struct Target {
    std::string ttrpc_address;   ///< plain path; empty: the command below is used
    std::string publish_binary;  ///< containerd
    std::string grpc_address;
    std::string name_space;
  };
  Publisher(Loop& loop, Target target, std::shared_ptr<spdlog::logger> log);

  void publish(const char* topic, const google::protobuf::MessageLite& event) override;
  /// Calls back when nothing is left to send, or after `timeout`.
  void drain(std::chrono::milliseconds timeout, Callback done);
  size_t pending() const noexcept { return queue_.size(); }

 private:
  struct Item {
    std::string topic;
    std::string event;    // the Any, for the command
    std::string request;  // the ForwardRequest, for ttrpc
  };
  void pump();
  void forward(const Item& item);
  void run_command(const Item& item);
  void sent();
  void retry_later(const std::string& why);
  void notify_drained();

  Target target_;
  std::shared_ptr<spdlog::logger> log_;
  ttrpc::Client client_;
  asio::steady_timer backoff_timer_, drain_timer_;
  std::chrono::milliseconds backoff_;
  std::deque<Item> queue_;  // the front is being sent when busy_
  bool busy_ = false, failing_ = false;
  Callback drained_;
  Loop& loop_;
  UniqueFd command_;  // pidfd of a running `containerd publish`
  std::unique_ptr<FdWatch> command_watch_;
};

}  // namespace amphora::shim
