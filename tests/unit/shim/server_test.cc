// SPDX-License-Identifier: Apache-2.0
// The ttrpc server against a client that follows no rules.
#include "shim/ttrpc/server.h"

#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "task.pb.h"
#include "tests/unit/shim/support.h"

namespace amphora::ttrpc {
namespace {

using shim::test::HandClient;

class ServerTest : public testing::Test {
 protected:
  ServerTest()
      : server_(loop_, shim::test::listen_on(path_), [this](Request&& request, Responder to) {
          if (request.method == "Park") {
            parked_.push_back(std::make_unique<Responder>(std::move(to)));
          } else if (request.method == "Throw") {
            throw std::runtime_error("handler's own trouble");
          } else if (request.method == "Fail") {
            to.fail(Error(Errc::kPrecondition, "not now"));
          } else if (request.method == "Big") {
            proto::StateResponse response;
            response.set_id(std::string(kMaxData, 'b'));
            to.ok(response);
          } else {
            proto::StateResponse response;
            response.set_id(request.service + "/" + request.method + ":" + request.payload);
            to.ok(response);
          }
        }) {}

  std::string id_of(const HandClient::Answer& answer) {
    proto::StateResponse response;
    EXPECT_TRUE(response.ParseFromString(answer.payload));
    return response.id();
  }

  shim::test::ScratchDir dir_;
  std::string path_ = dir_ / "s";
  shim::Loop loop_;
  std::vector<std::unique_ptr<Responder>> parked_;
  Server server_;
};

TEST_F(ServerTest, AnswersOnTheStreamOfTheRequest) {
  HandClient client(loop_, path_);
  client.send_request(1, "svc", "Echo", "hello");
  const auto answer = client.next();
  EXPECT_EQ(answer.stream, 1U);
  EXPECT_EQ(answer.code, 0) << answer.message;
  EXPECT_EQ(id_of(answer), "svc/Echo:hello");
}

TEST_F(ServerTest, AParkedRequestDelaysNobody) {
  HandClient client(loop_, path_);
  for (uint32_t i = 0; i < 1000; ++i) client.send_request(1 + 2 * i, "svc", "Park", "");
  client.send_request(2001, "svc", "Echo", "now");
  EXPECT_EQ(client.next().stream, 2001U);
  ASSERT_EQ(parked_.size(), 1000U);
  parked_[500]->ok(proto::StateResponse());
  EXPECT_EQ(client.next().stream, 1001U);
}

TEST_F(ServerTest, BrokenRulesHaveTheirCodesAndTheConnectionLives) {
  HandClient client(loop_, path_);
  client.send_request(4, "svc", "Echo", "");
  auto answer = client.next();
  EXPECT_EQ(answer.code, 3);
  EXPECT_EQ(answer.message, "stream id must be odd");
  client.send_request(5, "svc", "Echo", "");
  EXPECT_EQ(client.next().code, 0);
  client.send_request(5, "svc", "Echo", "");
  answer = client.next();
  EXPECT_EQ(answer.code, 3);
  EXPECT_EQ(answer.message, "stream id must increase");
  client.send_bytes(encode_frame(7, FrameType::kRequest, "\xff\xff\xff"));
  answer = client.next();
  EXPECT_EQ(answer.code, 3);
  EXPECT_EQ(answer.message, "request cannot be decoded");
  client.send_bytes(encode_frame(9, FrameType::kData, "x"));
  EXPECT_EQ(client.next().message, "data for an unknown stream");
  client.send_bytes(encode_frame(11, static_cast<FrameType>(77), "x"));  // ignored
  client.send_request(13, "svc", "Echo", "still here");
  EXPECT_EQ(id_of(client.next()), "svc/Echo:still here");
}

TEST_F(ServerTest, FiveMebibytesAreRefusedAndTheConnectionLives) {
  HandClient client(loop_, path_);
  const uint32_t size = 5U << 20;
  const auto header = encode_header({.length = size, .stream = 1, .type = 1, .flags = 0});
  client.send_bytes(std::string(header.begin(), header.end()) + std::string(size, 'x'));
  const auto answer = client.next();
  EXPECT_EQ(answer.stream, 1U);
  EXPECT_EQ(answer.code, 8);
  client.send_request(3, "svc", "Echo", "");
  EXPECT_EQ(client.next().code, 0);
}

TEST_F(ServerTest, TooLargeAReplyBecomesAnError) {
  HandClient client(loop_, path_);
  client.send_request(1, "svc", "Big", "");
  EXPECT_EQ(client.next().message, "response is larger than 4 MiB");
}

TEST_F(ServerTest, ManySilentClientsGiveWayToThoseWhoSpeak) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit few{64, files.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const std::string path = dir_ / "few";
  Server server(loop_, shim::test::listen_on(path),
                [](Request&&, Responder to) { to.ok(proto::StateResponse()); });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  HandClient first(loop_, path);
  first.send_request(1, "svc", "Echo", "");
  EXPECT_EQ(first.next().code, 0);
  std::vector<std::unique_ptr<HandClient>> silent;
  for (size_t i = 0; i < 100; ++i) {
    silent.push_back(std::make_unique<HandClient>(loop_, path));
    loop_.restart();
    loop_.poll();  // who connects is there at once
    ASSERT_EQ(server.connections(), std::min<size_t>(i + 2, 32));
  }
  HandClient last(loop_, path);
  last.send_request(1, "svc", "Echo", "");
  EXPECT_EQ(last.next().code, 0);
  EXPECT_EQ(server.connections(), 32U) << "half of the descriptors";
  first.send_request(3, "svc", "Echo", "");
  EXPECT_EQ(first.next().code, 0) << "who has spoken stays";
}

TEST_F(ServerTest, ErrorsCarryCodeAndText) {
  HandClient client(loop_, path_);
  client.send_request(1, "svc", "Fail", "");
  const auto answer = client.next();
  EXPECT_EQ(answer.code, 9);
  EXPECT_EQ(answer.message, "not now: failed precondition");
}

TEST_F(ServerTest, AHandlersExceptionIsInternalAndNobodyDies) {
  HandClient client(loop_, path_);
  client.send_request(1, "svc", "Throw", "");
  EXPECT_EQ(client.next().code, 13);
  client.send_request(3, "svc", "Echo", "");
  EXPECT_EQ(client.next().code, 0);
}

TEST_F(ServerTest, ADroppedDutyIsAnswered) {
  HandClient client(loop_, path_);
  client.send_request(1, "svc", "Park", "");
  ASSERT_TRUE(shim::test::run_until(loop_, [&] { return parked_.size() == 1; }));
  parked_.clear();
  EXPECT_EQ(client.next().message, "the request was dropped");
}

TEST_F(ServerTest, AnswersToAGoneClientVanish) {
  int silent = 0, loud = 0;
  server_.on_disconnect([&](bool was_silent) { ++(was_silent ? silent : loud); });
  {
    HandClient client(loop_, path_);
    client.send_request(1, "svc", "Park", "");
    ASSERT_TRUE(shim::test::run_until(loop_, [&] { return parked_.size() == 1; }));
  }
  ASSERT_TRUE(shim::test::run_until(loop_, [&] { return loud == 1; }));
  EXPECT_TRUE(parked_[0]->peer_is_gone());
  parked_[0]->ok(proto::StateResponse());
  {
    HandClient prober(loop_, path_);
  }
  EXPECT_TRUE(shim::test::run_until(loop_, [&] { return silent == 1; }));
  EXPECT_EQ(server_.connections(), 0U);
}

}  // namespace
}  // namespace amphora::ttrpc
