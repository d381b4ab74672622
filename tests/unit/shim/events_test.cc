// SPDX-License-Identifier: Apache-2.0
// The publisher against a containerd that comes, goes and refuses: order kept, nothing lost.
#include "shim/events.h"

#include <sys/stat.h>

#include <memory>

#include <gtest/gtest.h>

#include "common.pb.h"
#include "events.pb.h"
#include "executor/base/process.h"
#include "shim/log.h"
#include "shim/ttrpc/server.h"
#include "tests/unit/shim/support.h"

namespace amphora::shim {
namespace {

using test::run_until;

class EventsTest : public testing::Test {
 protected:
  void serve() {
    ::unlink(path_.c_str());
    server_ = std::make_unique<ttrpc::Server>(
        loop_, test::listen_on(path_), [this](ttrpc::Request&& request, ttrpc::Responder to) {
          containerd::events::ForwardRequest forward;
          EXPECT_EQ(request.service, "containerd.services.events.ttrpc.v1.Events");
          EXPECT_EQ(request.method, "Forward");
          EXPECT_TRUE(forward.ParseFromString(request.payload));
          const auto& envelope = forward.envelope();
          EXPECT_GT(envelope.timestamp().seconds(), 1'000'000'000);
          EXPECT_EQ(envelope.namespace_(), "k8s.io");
          EXPECT_EQ(envelope.event().type_url(), "containerd.events.TaskStart");
          containerd::events::TaskStart start;
          EXPECT_TRUE(start.ParseFromString(envelope.event().value()));
          seen_.push_back(start.pid());
          if (refuse_) return to.fail({ttrpc::Code::kInvalidArgument, "no such topic"});
          if (forget_next_) {
            forget_next_ = false;
            seen_.pop_back();
            server_.reset();  // dies between reading and answering
            return;
          }
          to.ok(proto::Empty());
        });
  }
  void publish(Publisher& publisher, uint32_t pid) {
    containerd::events::TaskStart event;
    event.set_container_id("web");
    event.set_pid(pid);
    publisher.publish("/tasks/start", event);
  }
  Publisher::Target target() { return {path_, "", "", "k8s.io"}; }
  std::vector<uint32_t> up_to(uint32_t last) {
    std::vector<uint32_t> numbers;
    for (uint32_t i = 1; i <= last; ++i) numbers.push_back(i);
    return numbers;
  }

  test::ScratchDir dir_;
  std::string path_ = dir_ / "events";
  Loop loop_;
  std::shared_ptr<spdlog::logger> log_ = make_logger({}, "", true);
  std::vector<uint32_t> seen_;
  bool refuse_ = false, forget_next_ = false;
  std::unique_ptr<ttrpc::Server> server_;
};

TEST_F(EventsTest, InOrderOnOneConnection) {
  serve();
  Publisher publisher(loop_, target(), log_);
  for (uint32_t i = 1; i <= 100; ++i) publish(publisher, i);
  ASSERT_TRUE(run_until(loop_, [&] { return publisher.pending() == 0; }));
  EXPECT_EQ(seen_, up_to(100));
  EXPECT_EQ(server_->connections(), 1U);
}

TEST_F(EventsTest, WaitsForAContainerdThatIsAway) {
  Publisher publisher(loop_, target(), log_);
  for (uint32_t i = 1; i <= 5; ++i) publish(publisher, i);
  EXPECT_FALSE(
      run_until(loop_, [&] { return publisher.pending() == 0; }, std::chrono::milliseconds(200)));
  serve();
  ASSERT_TRUE(run_until(loop_, [&] { return publisher.pending() == 0; }));
  EXPECT_EQ(seen_, up_to(5));
}

TEST_F(EventsTest, AnEventWhoseAnswerWasLostIsSentAgain) {
  serve();
  Publisher publisher(loop_, target(), log_);
  publish(publisher, 1);
  ASSERT_TRUE(run_until(loop_, [&] { return publisher.pending() == 0; }));
  forget_next_ = true;
  publish(publisher, 2);
  publish(publisher, 3);
  ASSERT_TRUE(run_until(loop_, [&] { return server_ == nullptr; }));
  serve();
  ASSERT_TRUE(run_until(loop_, [&] { return publisher.pending() == 0; }));
  EXPECT_EQ(seen_, up_to(3));
}

TEST_F(EventsTest, ARefusedEventDoesNotStopTheOthers) {
  serve();
  refuse_ = true;
  Publisher publisher(loop_, target(), log_);
  publish(publisher, 1);
  publish(publisher, 2);
  ASSERT_TRUE(run_until(loop_, [&] { return publisher.pending() == 0; }));
  EXPECT_EQ(seen_, up_to(2));
}

TEST_F(EventsTest, TheQueueIsBoundedAndKeepsTheNewest) {
  Publisher publisher(loop_, target(), log_);
  for (uint32_t i = 1; i <= 3000; ++i) publish(publisher, i);
  EXPECT_EQ(publisher.pending(), 2048U);
  serve();
  ASSERT_TRUE(run_until(loop_, [&] { return publisher.pending() == 0; }));
  EXPECT_EQ(seen_.back(), 3000U);
  EXPECT_TRUE(std::is_sorted(seen_.begin(), seen_.end()));
}

TEST_F(EventsTest, DrainingEndsEitherWay) {
  Publisher publisher(loop_, target(), log_);
  bool done = false;
  publisher.drain(std::chrono::seconds(5), [&] { done = true; });
  EXPECT_TRUE(done) << "nothing to wait for";
  publish(publisher, 1);
  done = false;
  publisher.drain(std::chrono::milliseconds(50), [&] { done = true; });
  EXPECT_TRUE(run_until(loop_, [&] { return done; }, std::chrono::seconds(2)));
  EXPECT_EQ(publisher.pending(), 1U);
}

TEST_F(EventsTest, WithoutAnAddressTheCommandIsRun) {
  const std::string script = dir_ / "containerd", out = dir_ / "out";
  {
    const UniqueFd fd(::open(script.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    ASSERT_TRUE(write_all(fd.get(), "#!/bin/sh\necho \"$@\" >> " + out + "\ncat >> " + out + "\n"));
  }
  Publisher publisher(loop_, {"", script, "/run/c.sock", "k8s.io"}, log_);
  publish(publisher, 1);
  ASSERT_TRUE(run_until(loop_, [&] { return publisher.pending() == 0; }));
  const std::string text = read_file_at(AT_FDCWD, out).value_or("");
  EXPECT_EQ(
      text.rfind("--address /run/c.sock publish --namespace k8s.io --topic /tasks/start\n", 0), 0U)
      << text;
  proto::Any any;
  ASSERT_TRUE(any.ParseFromString(text.substr(text.find('\n') + 1)));
  EXPECT_EQ(any.type_url(), "containerd.events.TaskStart");
  Children().reap_orphans();
}

}  // namespace
}  // namespace amphora::shim
