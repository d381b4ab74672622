// SPDX-License-Identifier: Apache-2.0
// The publisher. See events.h.
#include "shim/events.h"

#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <utility>

#include <google/protobuf/message_lite.h>
#include <spdlog/logger.h>

#include "common.pb.h"
#include "events.pb.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "shim/loop.h"
#include "shim/status.h"

namespace amphora::shim {
namespace {

using std::chrono::milliseconds;
constexpr size_t kMaxQueued = 2048;
constexpr milliseconds kCallTimeout{5000};
constexpr milliseconds kFirstBackoff{50};
constexpr milliseconds kLongestBackoff{10000};
constexpr const char* kService = "containerd.services.events.ttrpc.v1.Events";

}  // namespace

Publisher::Publisher(Loop& loop, Target target, std::shared_ptr<spdlog::logger> log)
    : target_(std::move(target)),
      log_(std::move(log)),
      client_(loop, target_.ttrpc_address),
      backoff_timer_(loop),
      drain_timer_(loop),
      backoff_(kFirstBackoff),
      loop_(loop) {}

void Publisher::publish(const char* topic, const google::protobuf::MessageLite& event) {
  containerd::events::ForwardRequest request;
  auto& envelope = *request.mutable_envelope();
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  envelope.mutable_timestamp()->set_seconds(now.tv_sec);
  envelope.mutable_timestamp()->set_nanos(static_cast<int32_t>(now.tv_nsec));
  envelope.set_namespace_(target_.name_space);
  envelope.set_topic(topic);
  envelope.mutable_event()->set_type_url(event.GetTypeName());
  envelope.mutable_event()->set_value(event.SerializeAsString());
  Item item{topic, {}, {}};
  if (target_.ttrpc_address.empty()) {
    item.event = envelope.event().SerializeAsString();
  } else {
    item.request = request.SerializeAsString();
  }
  if (queue_.size() >= kMaxQueued) {
    log_->warn("containerd is not reading events: dropped one of topic {}", queue_[1].topic);
    queue_.erase(queue_.begin() + 1);  // the front may be in flight
  }
  queue_.push_back(std::move(item));
  pump();
}

void Publisher::pump() {
  if (busy_) return;
  if (queue_.empty()) return notify_drained();
  busy_ = true;
  if (target_.ttrpc_address.empty()) {
    run_command(queue_.front());
  } else {
    forward(queue_.front());
  }
}

void Publisher::forward(const Item& item) {
  client_.call(kService, "Forward", item.request, kCallTimeout,
               [this](Result<ttrpc::Client::Reply> reply) {
                 if (!reply) return retry_later(reply.error().what());
                 if (reply->status.code != ttrpc::Code::kOk) {
                   // containerd has seen it and will not like it better the next time.
                   log_->warn("event {} refused: {}", queue_.front().topic, reply->status.message);
                 }
                 sent();
               });
}

void Publisher::run_command(const Item& item) {
  if (target_.publish_binary.empty()) return sent();
  const UniqueFd input(sys::memfd_create("event", 1U /* MFD_CLOEXEC */));
  if (!input || !write_all(input.get(), item.event) || ::lseek(input.get(), 0, SEEK_SET) != 0) {
    return retry_later("no memory file for containerd publish");
  }
  std::string words[] = {target_.publish_binary,
                         "--address",
                         target_.grpc_address,
                         "publish",
                         "--namespace",
                         target_.name_space,
                         "--topic",
                         item.topic};
  char* argv[std::size(words) + 1] = {};
  for (size_t i = 0; i < std::size(words); ++i) argv[i] = words[i].data();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t all;
  ::sigfillset(&all);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int err = ::posix_spawn(&pid, argv[0], &actions, &attributes, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (err != 0) return retry_later("start " + target_.publish_binary);
  // Reaped with the orphans; here only its end matters.
  command_.reset(sys::pidfd_open(pid, 0));
  if (!command_) return sent();
  command_watch_ = std::make_unique<FdWatch>(loop_, command_.get());
  command_watch_->readable([this] {
    asio::post(loop_, [watch = std::move(command_watch_), fd = std::move(command_)] {});
    sent();
  });
}

void Publisher::sent() {
  if (failing_) log_->info("containerd takes events again");
  failing_ = false;
  backoff_ = kFirstBackoff;
  queue_.pop_front();
  busy_ = false;
  pump();
}

void Publisher::retry_later(const std::string& why) {
  if (!failing_) log_->warn("publish {}: {}; trying again", queue_.front().topic, why);
  failing_ = true;
  backoff_timer_.expires_after(backoff_);
  backoff_ = std::min(backoff_ * 2, kLongestBackoff);
  backoff_timer_.async_wait([this](boost::system::error_code error) {
    if (error) return;
    busy_ = false;
    pump();
  });
}

void Publisher::drain(milliseconds timeout, Callback done) {
  drained_ = std::move(done);
  if (queue_.empty()) return notify_drained();
  drain_timer_.expires_after(timeout);
  drain_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) notify_drained();
  });
}

void Publisher::notify_drained() {
  if (!drained_) return;
  drain_timer_.cancel();
  std::exchange(drained_, nullptr)();
}

}  // namespace amphora::shim
