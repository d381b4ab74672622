// SPDX-License-Identifier: Apache-2.0
// Workers: order within a queue, independence between queues, no threads when idle.
#include "shim/workers.h"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/shim/support.h"

namespace amphora::shim {
namespace {

using test::run_until;

TEST(Workers, OneQueueKeepsItsOrder) {
  Loop loop;
  Workers workers(loop);
  const auto queue = Workers::make_queue();
  std::vector<int> order;
  std::atomic<int> running = 0, most = 0;
  for (int i = 0; i < 50; ++i) {
    workers.run(
        queue,
        [&, i]() -> Result<int> {
          most = std::max<int>(most, ++running);
          std::this_thread::sleep_for(std::chrono::microseconds(i % 3 * 100));
          --running;
          return i;
        },
        [&](Result<int> result) { order.push_back(*result); });
  }
  ASSERT_TRUE(run_until(loop, [&] { return order.size() == 50; }));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  EXPECT_EQ(most, 1);
}

TEST(Workers, ASlowQueueDelaysNoOther) {
  Loop loop;
  Workers workers(loop);
  std::atomic<bool> release = false;
  int slow = 0, quick = 0;
  for (int i = 0; i < 10; ++i) {
    workers.run(
        Workers::make_queue(),
        [&]() -> Result<void> {
          while (!release) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          return {};
        },
        [&](Result<void>) { ++slow; });
  }
  workers.run(
      Workers::make_queue(), []() -> Result<void> { return {}; }, [&](Result<void>) { ++quick; });
  EXPECT_TRUE(run_until(loop, [&] { return quick == 1; }));
  EXPECT_EQ(slow, 0);
  release = true;
  EXPECT_TRUE(run_until(loop, [&] { return slow == 10; }));
}

TEST(Workers, MoreQueuesThanThreadsAllGetTheirTurn) {
  Loop loop;
  Workers workers(loop);
  int done = 0;
  std::atomic<unsigned> most = 0;
  for (int i = 0; i < 300; ++i) {
    workers.run(
        Workers::make_queue(),
        [&]() -> Result<void> {
          most = std::max<unsigned>(most, workers.threads());
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          return {};
        },
        [&](Result<void>) { ++done; });
  }
  EXPECT_TRUE(run_until(loop, [&] { return done == 300; }));
  EXPECT_LE(most, Workers::kMaxThreads);
}

TEST(Workers, AnIdleShimHasNoThreads) {
  Loop loop;
  Workers workers(loop);
  bool done = false;
  workers.run(
      Workers::make_queue(), []() -> Result<void> { return {}; },
      [&](Result<void>) { done = true; });
  ASSERT_TRUE(run_until(loop, [&] { return done; }));
  EXPECT_TRUE(run_until(loop, [&] { return workers.threads() == 0; }));
}

TEST(Workers, AnExceptionIsAnInternalError) {
  Loop loop;
  Workers workers(loop);
  std::string what;
  workers.run(
      Workers::make_queue(), []() -> Result<void> { throw std::runtime_error("no memory"); },
      [&](Result<void> result) { what = result.error().what(); });
  ASSERT_TRUE(run_until(loop, [&] { return !what.empty(); }));
  EXPECT_EQ(what, "no memory");
}

}  // namespace
}  // namespace amphora::shim
