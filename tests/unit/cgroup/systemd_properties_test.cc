// SPDX-License-Identifier: Apache-2.0
// The spec's limits in systemd's words.
#include "executor/cgroup/systemd_properties.h"

#include <gtest/gtest.h>

namespace amphora::cgroup {
namespace {

constexpr const char* kDevices =
    "Character devices:\n  1 mem\n  4 tty\n136 pts\n137 pts\n\nBlock devices:\n136 other\n  8 sd\n";

std::string text_of(const UnitProperty& property) {
  std::string out = property.name + "=";
  if (const auto* flag = std::get_if<bool>(&property.value)) out += *flag ? "yes" : "no";
  if (const auto* number = std::get_if<uint64_t>(&property.value)) {
    out += *number == UINT64_MAX ? "infinity" : std::to_string(*number);
  }
  if (const auto* text = std::get_if<std::string>(&property.value)) out += *text;
  if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&property.value)) {
    for (const uint8_t byte : *bytes) out += std::to_string(byte) + ",";
  }
  if (const auto* pairs = std::get_if<StringPairs>(&property.value)) {
    for (const auto& [first, second] : *pairs) out += first + " " + second + ";";
  }
  return out;
}

std::vector<std::string> limits(const oci::Resources& resources, bool v2, unsigned version = 252) {
  const auto properties = limit_properties(resources, {v2, version, {}});
  if (!properties) return {"error: " + properties.error().what()};
  std::vector<std::string> out;
  for (const UnitProperty& property : *properties) out.push_back(text_of(property));
  return out;
}
using Lines = std::vector<std::string>;

oci::Resources everything() {
  oci::Resources resources;
  auto& cpu = resources.cpu.emplace();
  cpu.shares = 512;
  cpu.quota = 12345;
  cpu.period = 50000;
  cpu.cpus = "0-1,9";
  cpu.mems = "0";
  auto& memory = resources.memory.emplace();
  memory.limit = 1000;
  memory.reservation = 500;
  memory.swap = 1500;
  resources.pids_limit = 0;
  resources.block_io.emplace().weight = 10;
  return resources;
}

TEST(UnitProperties, V2) {
  EXPECT_EQ(limits(everything(), true),
            (Lines{"CPUWeight=59", "CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=250000",
                   "AllowedCPUs=3,2,", "AllowedMemoryNodes=1,", "MemoryMax=1000", "MemoryLow=500",
                   "MemorySwapMax=500", "TasksMax=1", "IOWeight=1"}));
}

TEST(UnitProperties, V1) {
  EXPECT_EQ(limits(everything(), false),
            (Lines{"CPUShares=512", "CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=250000",
                   "MemoryLimit=1000", "TasksMax=1", "BlockIOWeight=10"}));
}

TEST(UnitProperties, OlderSystemdIsNotAskedForWhatItLacks) {
  EXPECT_EQ(limits(everything(), true, 240),
            (Lines{"CPUWeight=59", "CPUQuotaPerSecUSec=250000", "MemoryMax=1000", "MemoryLow=500",
                   "MemorySwapMax=500", "TasksMax=1", "IOWeight=1"}));
  oci::Resources idle;
  idle.cpu.emplace().idle = 1;
  idle.cpu->shares = 1024;
  EXPECT_EQ(limits(idle, true, 252), (Lines{"CPUWeight=0"}));
  EXPECT_EQ(limits(idle, true, 251), (Lines{"CPUWeight=100"}));
}

TEST(UnitProperties, Unlimited) {
  oci::Resources resources;
  resources.memory.emplace().limit = -1;
  resources.pids_limit = -1;
  resources.cpu.emplace().quota = -1;
  EXPECT_EQ(limits(resources, true), (Lines{"CPUQuotaPerSecUSec=infinity", "MemoryMax=infinity",
                                            "MemorySwapMax=infinity", "TasksMax=infinity"}));
  EXPECT_TRUE(limits({}, true).empty());
}

TEST(UnitProperties, QuotaIsRoundedUpToTenMilliseconds) {
  EXPECT_EQ(quota_per_second(100000, 100000), 1000000u);
  EXPECT_EQ(quota_per_second(50000, 0), 500000u);
  EXPECT_EQ(quota_per_second(1, 100000), 10000u);
  EXPECT_EQ(quota_per_second(33333, 100000), 340000u);
  EXPECT_EQ(quota_per_second(-1, 5), UINT64_MAX);
  EXPECT_EQ(quota_per_second(INT64_MAX, 1), UINT64_MAX);
}

TEST(UnitProperties, MasksAndVersions) {
  EXPECT_EQ(*cpu_mask("0"), std::vector<uint8_t>{1});
  EXPECT_EQ(*cpu_mask("7-8"), (std::vector<uint8_t>{0x80, 1}));
  for (const char* bad : {"x", "3-1", "1-", "99999", "-1"}) {
    EXPECT_EQ(cpu_mask(bad).error().what(),
              std::string("\"") + bad + "\" is no list of cpus or nodes");
  }
  EXPECT_EQ(parse_systemd_version("252.39-1~deb12u2"), 252u);
  EXPECT_EQ(parse_systemd_version("v257~rc1"), 257u);
  EXPECT_EQ(parse_systemd_version("none"), 0u);
}

TEST(UnitProperties, DevicesOfTheDefaultAndOfThePrivilegedContainer) {
  const auto lines = [](const std::vector<oci::DeviceRule>& rules) {
    const auto properties = device_properties(rules, {true, 252, kDevices});
    return properties ? text_of((*properties)[0]) + " " + text_of((*properties)[1])
                      : properties.error().what();
  };
  EXPECT_EQ(lines({{false, 'a', {}, {}, "rwm"}, {true, 'b', 8, {}, "r"}}),
            "DevicePolicy=strict DeviceAllow=block-sd r;char-* m;block-* m;/dev/char/1:3 rwm;"
            "/dev/char/1:5 rwm;/dev/char/1:7 rwm;/dev/char/1:8 rwm;/dev/char/1:9 rwm;"
            "/dev/char/5:0 rwm;/dev/char/5:2 rwm;char-pts rwm;/dev/char/10:200 rwm;");
  EXPECT_EQ(lines({{true, 'a', {}, {}, "rwm"}, {false, 'b', 8, 0, "w"}}),
            "DevicePolicy=auto DeviceAllow=");
}

}  // namespace
}  // namespace amphora::cgroup
