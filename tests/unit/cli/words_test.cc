// SPDX-License-Identifier: Apache-2.0
// Words that people type: signals, sizes, durations, and what update makes of them.
#include <signal.h>

#include <gtest/gtest.h>

#include "executor/cli/signals.h"
#include "executor/cli/units.h"
#include "executor/cli/update_resources.h"

namespace amphora::cli {
namespace {

TEST(Signals, NumbersAndNamesInAnyDress) {
  for (const char* text : {"9", "KILL", "SIGKILL", "kill", "SigKill"}) {
    const auto signal = parse_signal(text);
    ASSERT_TRUE(signal) << text;
    EXPECT_EQ(*signal, SIGKILL) << text;
  }
  EXPECT_EQ(parse_signal("0").value(), 0);
  EXPECT_EQ(parse_signal("WINCH").value(), SIGWINCH);
  EXPECT_EQ(parse_signal("CLD").value(), SIGCHLD);
  EXPECT_EQ(parse_signal("RTMIN+3").value(), SIGRTMIN + 3);
  EXPECT_EQ(parse_signal("SIGRTMAX-1").value(), SIGRTMAX - 1);
}

TEST(Signals, UnknownOnesAreQuoted) {
  for (const std::string text :
       {"", "SIG", "NOPE", "-9", "65", "9x", "RTMIN+99", "RTMIN-1", "RTMIN+-1"}) {
    const auto signal = parse_signal(text);
    ASSERT_FALSE(signal) << text;
    EXPECT_EQ(signal.error().what(), "unknown signal \"" + text + "\"");
  }
}

TEST(Units, SizesArePowersOf1024) {
  EXPECT_EQ(parse_size("0"), 0);
  EXPECT_EQ(parse_size("-1"), -1);
  EXPECT_EQ(parse_size("1048576"), 1048576);
  EXPECT_EQ(parse_size("64k"), 65536);
  EXPECT_EQ(parse_size("64KB"), 65536);
  EXPECT_EQ(parse_size("1.5g"), 1610612736);
  EXPECT_EQ(parse_size("10MiB"), 10485760);
  EXPECT_EQ(parse_size("10 m"), 10485760);
  EXPECT_EQ(parse_size("7b"), 7);
  for (const char* wrong :
       {"", "k", "-2", "1x", "1kk", "1bb", "9223372036854775807k", "0x10", "1.2.3"}) {
    EXPECT_EQ(parse_size(wrong), std::nullopt) << wrong;
  }
}

TEST(Units, DurationsAreGos) {
  using namespace std::chrono_literals;
  EXPECT_EQ(parse_duration("5s"), 5s);
  EXPECT_EQ(parse_duration("1m30s"), 90s);
  EXPECT_EQ(parse_duration("1.5h"), 90min);
  EXPECT_EQ(parse_duration("250ms"), 250ms);
  EXPECT_EQ(parse_duration("0"), 0s);
  for (const char* wrong : {"", "5", "s", "5x", "-5s", "9999999999h"}) {
    EXPECT_EQ(parse_duration(wrong), std::nullopt) << wrong;
  }
}

TEST(Update, OnlyWhatIsNamedIsSet) {
  UpdateLine line;
  line.cpu_quota = 50000;
  const auto resources = resources_of(line);
  ASSERT_TRUE(resources);
  ASSERT_TRUE(resources->cpu);
  EXPECT_EQ(resources->cpu->quota, 50000);
  EXPECT_FALSE(resources->cpu->period);
  EXPECT_FALSE(resources->memory);
  EXPECT_FALSE(resources->pids_limit);
  EXPECT_FALSE(resources->block_io);
}

TEST(Update, SizesTakeUnits) {
  UpdateLine line;
  line.memory = "64m";
  line.memory_swap = "-1";
  const auto resources = resources_of(line);
  ASSERT_TRUE(resources);
  EXPECT_EQ(resources->memory->limit, 64 << 20);
  EXPECT_EQ(resources->memory->swap, -1);
}

TEST(Update, WrongValuesAreNamed) {
  UpdateLine memory;
  memory.memory = "lots";
  EXPECT_EQ(resources_of(memory).error().what(), "invalid value for memory: invalid size: 'lots'");
  UpdateLine shares;
  shares.cpu_share = -5;
  EXPECT_EQ(resources_of(shares).error().what(), "invalid value for cpu-share: -5");
  UpdateLine weight;
  weight.blkio_weight = 70000;
  EXPECT_EQ(resources_of(weight).error().what(), "invalid value for blkio-weight: 70000");
}

}  // namespace
}  // namespace amphora::cli
