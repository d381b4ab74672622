// SPDX-License-Identifier: Apache-2.0
#include "wasm/handover.h"

#include <gtest/gtest.h>

namespace amphora::wasm {
namespace {

Handover example() {
  Handover handover;
  handover.path = "/app.wasm";
  handover.function = "main";
  handover.cwd = "/data";
  handover.args = {"app", "", "x y"};
  handover.env = {"A=1"};
  handover.options = {"backtrace", "full"};
  handover.preopens = {"/data", "/in", "ro"};
  handover.listen = "[::1]:80";
  handover.backlog = 7;
  handover.flags = kPreopensGiven;
  handover.memory_limit = 123;
  return handover;
}

TEST(Handover, SurvivesTheJourney) {
  const std::string bytes = encode(example());
  HandoverView view;
  ASSERT_TRUE(decode(bytes, &view));
  EXPECT_STREQ(view.path, "/app.wasm");
  EXPECT_STREQ(view.function, "main");
  EXPECT_STREQ(view.cwd, "/data");
  ASSERT_EQ(view.args.size(), 4U);
  EXPECT_STREQ(view.args[1], "");
  EXPECT_STREQ(view.args[2], "x y");
  EXPECT_EQ(view.args[3], nullptr);
  ASSERT_EQ(view.env.size(), 2U);
  EXPECT_STREQ(view.options[1], "full");
  ASSERT_EQ(view.preopens.size(), 4U);
  EXPECT_STREQ(view.preopens[1], "/in");
  EXPECT_STREQ(view.listen, "[::1]:80");
  EXPECT_EQ(view.backlog, 7U);
  EXPECT_EQ(view.flags, kPreopensGiven);
  EXPECT_EQ(view.memory_limit, 123U);
}

TEST(Handover, EveryCutIsRefused) {
  const std::string bytes = encode(example());
  HandoverView view;
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode(std::string_view(bytes).substr(0, size), &view)) << size;
  }
  EXPECT_FALSE(decode(bytes + '\0', &view));
}

TEST(Handover, HugeCountIsRefusedBeforeMemoryIsAskedFor) {
  std::string bytes = encode(example());
  for (const size_t at : {8U, 12U, 16U, 20U}) {
    std::string wrong = bytes;
    wrong[at + 3] = '\x7f';
    HandoverView view;
    EXPECT_FALSE(decode(wrong, &view)) << at;
  }
}

TEST(Handover, OtherVersionIsRefused) {
  std::string bytes = encode(example());
  bytes[4] = 1;
  HandoverView view;
  EXPECT_FALSE(decode(bytes, &view));
}

}  // namespace
}  // namespace amphora::wasm
