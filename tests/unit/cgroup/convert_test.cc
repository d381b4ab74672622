// SPDX-License-Identifier: Apache-2.0
// The conversions between the spec's values and cgroup files.
#include "executor/cgroup/convert.h"

#include <utility>

#include <gtest/gtest.h>

namespace amphora::cgroup {
namespace {

TEST(CpuWeight, FollowsTheTableThatAllRuntimesShare) {
  const std::pair<uint64_t, uint64_t> table[] = {
      {0, 0},      {1, 1},       {2, 1},          {100, 17},       {512, 59},          {1024, 100},
      {2048, 174}, {10240, 639}, {262144, 10000}, {262145, 10000}, {UINT64_MAX, 10000}};
  for (const auto& [shares, weight] : table)
    EXPECT_EQ(weight_from_shares(shares), weight) << shares;
}

TEST(CpuWeight, NeverFallsAndStaysInBounds) {
  uint64_t last = 1;
  for (uint64_t shares = 2; shares <= 262144; shares += 7) {
    const uint64_t weight = weight_from_shares(shares);
    ASSERT_GE(weight, last) << shares;
    ASSERT_LE(weight, 10000u) << shares;
    last = weight;
  }
}

TEST(IoWeight, MapsBothEndsAndTheUnset) {
  EXPECT_EQ(io_weight_from_blkio(0), 0u);
  EXPECT_EQ(io_weight_from_blkio(10), 1u);
  EXPECT_EQ(io_weight_from_blkio(1000), 10000u);
  EXPECT_EQ(io_weight_from_blkio(100), 910u);
}

oci::MemoryLimits memory(std::optional<int64_t> limit, std::optional<int64_t> swap) {
  oci::MemoryLimits limits;
  limits.limit = limit;
  limits.swap = swap;
  return limits;
}

std::string swap_text(std::optional<int64_t> limit, std::optional<int64_t> swap) {
  const auto value = swap_max(memory(limit, swap));
  if (!value) return "error: " + value.error().what();
  return value->value_or("nothing");
}

TEST(Swap, IsMemoryPlusSwapMinusMemory) {
  EXPECT_EQ(swap_text(100, 300), "200");
  EXPECT_EQ(swap_text(100, 100), "0");
  EXPECT_EQ(swap_text(100, {}), "nothing");
  EXPECT_EQ(swap_text({}, {}), "nothing");
  EXPECT_EQ(swap_text(100, 0), "nothing");
  EXPECT_EQ(swap_text(100, -1), "max");
  EXPECT_EQ(swap_text({}, -1), "max");
  EXPECT_EQ(swap_text(-1, {}), "max");
  EXPECT_EQ(swap_text(-1, 500), "max");
  EXPECT_EQ(swap_text(INT64_MIN, INT64_MAX), "max") << "any negative number is no limit";
  EXPECT_EQ(swap_text(-2, {}), "max");
}

TEST(Swap, RefusesWhatCannotBe) {
  EXPECT_EQ(swap_text({}, 300), "error: memory swap 300 needs a memory limit");
  EXPECT_EQ(swap_text(300, 100), "error: memory+swap limit 100 is below the memory limit 300");
}

TEST(CpuMax, NamesQuotaAndPeriod) {
  EXPECT_EQ(cpu_max_text(50000, 20000), "50000 20000");
  EXPECT_EQ(cpu_max_text(50000, {}), "50000 100000");
  EXPECT_EQ(cpu_max_text(-1, 20000), "max 20000");
  EXPECT_EQ(cpu_max_text({}, 20000), "max 20000");
}

TEST(Pids, ZeroIsALimitToo) {
  EXPECT_EQ(pids_text(-1), "max");
  EXPECT_EQ(pids_text(0), "1");
  EXPECT_EQ(pids_text(17), "17");
}

TEST(Shares, OutsideTheKernelsBoundsAreErrors) {
  EXPECT_TRUE(check_shares(0));
  EXPECT_TRUE(check_shares(2));
  EXPECT_TRUE(check_shares(262144));
  EXPECT_EQ(check_shares(1).error().what(), "cpu shares 1: the minimum allowed cpu-shares is 2");
  EXPECT_EQ(check_shares(262145).error().what(),
            "cpu shares 262145: the maximum allowed cpu-shares is 262144");
}

TEST(Rdma, NeedsAtLeastOneOfItsValues) {
  EXPECT_EQ(*rdma_text("mlx", {5, 9}), "hca_handle=5 hca_object=9");
  EXPECT_EQ(*rdma_text("mlx", {{}, 9}), "hca_object=9");
  EXPECT_EQ(rdma_text("mlx", {}).error().what(),
            "rdma limit of mlx: neither hcaHandles nor hcaObjects");
}

TEST(HasLimits, DevicesAndZerosAreNone) {
  oci::Resources resources;
  resources.devices.push_back({false, 'a', {}, {}, "rwm"});
  resources.memory.emplace().limit = 0;
  EXPECT_FALSE(has_limits(resources));
  resources.pids_limit = 0;
  EXPECT_TRUE(has_limits(resources));
}

}  // namespace
}  // namespace amphora::cgroup
