// SPDX-License-Identifier: Apache-2.0
// Stats as messages: the right type, the right numbers, and no holes where consumers look unchecked.
#include "shim/metrics.h"

#include <gtest/gtest.h>

#include "cgroups_v1.pb.h"
#include "cgroups_v2.pb.h"
#include "common.pb.h"

namespace amphora::shim {
namespace {

namespace v1 = ::io::containerd::cgroups::v1;
namespace v2 = ::io::containerd::cgroups::v2;

cgroup::Stats sample() {
  cgroup::Stats stats;
  stats.pids = cgroup::PidsStats{.current = 3, .limit = UINT64_MAX};
  stats.cpu = cgroup::CpuStats{};
  stats.cpu->usage = 5'000'000;
  stats.cpu->per_cpu = {2'000'000, 3'000'000};
  stats.memory = cgroup::MemoryStats{};
  stats.memory->usage = {.usage = 4096, .limit = 65536, .max = 8192, .failcnt = 1};
  stats.memory->stat = {{"total_inactive_file", 7},
                        {"inactive_file", 8},
                        {"anon", 9},
                        {"pgfault", 10},
                        {"total_rss", 11}};
  stats.oom = cgroup::OomEvents{};
  stats.oom->oom_kill = 2;
  return stats;
}

template <class Metrics>
Metrics encoded(const cgroup::Stats& stats, const char* type) {
  proto::Any any;
  encode_stats(stats, any);
  EXPECT_EQ(any.type_url(), type);
  Metrics metrics;
  EXPECT_TRUE(metrics.ParseFromString(any.value()));
  return metrics;
}

TEST(Metrics, V1) {
  const auto metrics = encoded<v1::Metrics>(sample(), "io.containerd.cgroups.v1.Metrics");
  EXPECT_EQ(metrics.pids().current(), 3U);
  EXPECT_EQ(metrics.pids().limit(), 0U);
  EXPECT_EQ(metrics.cpu().usage().total(), 5'000'000U);
  EXPECT_EQ(metrics.cpu().usage().per_cpu_size(), 2);
  EXPECT_TRUE(metrics.cpu().has_throttling());
  EXPECT_EQ(metrics.memory().usage().usage(), 4096U);
  EXPECT_EQ(metrics.memory().total_inactive_file(), 7U);
  EXPECT_EQ(metrics.memory().total_rss(), 11U);
  EXPECT_TRUE(metrics.memory().has_swap());
  EXPECT_TRUE(metrics.memory().has_kernel());
  EXPECT_TRUE(metrics.memory().has_kernel_tcp());
  EXPECT_EQ(metrics.memory_oom_control().oom_kill(), 2U);
}

TEST(Metrics, V2) {
  auto stats = sample();
  stats.v2 = true;
  stats.io = cgroup::IoStats{};
  stats.io->service_bytes = {{.major = 8, .minor = 0, .op = "rbytes", .value = 100},
                             {.major = 8, .minor = 0, .op = "wbytes", .value = 200}};
  stats.io->serviced = {{.major = 8, .minor = 0, .op = "rios", .value = 5}};
  const auto metrics = encoded<v2::Metrics>(stats, "io.containerd.cgroups.v2.Metrics");
  EXPECT_EQ(metrics.pids().limit(), UINT64_MAX);
  EXPECT_EQ(metrics.cpu().usage_usec(), 5000U);
  EXPECT_EQ(metrics.memory().usage(), 4096U);
  EXPECT_EQ(metrics.memory().usage_limit(), 65536U);
  EXPECT_EQ(metrics.memory().inactive_file(), 8U);
  EXPECT_EQ(metrics.memory().anon(), 9U);
  EXPECT_EQ(metrics.memory().pgfault(), 10U);
  EXPECT_EQ(metrics.memory_events().oom_kill(), 2U);
  ASSERT_EQ(metrics.io().usage_size(), 1);
  EXPECT_EQ(metrics.io().usage(0).rbytes(), 100U);
  EXPECT_EQ(metrics.io().usage(0).wbytes(), 200U);
  EXPECT_EQ(metrics.io().usage(0).rios(), 5U);
}

TEST(Metrics, AbsentControllersAreAbsent) {
  const auto metrics = encoded<v1::Metrics>({}, "io.containerd.cgroups.v1.Metrics");
  EXPECT_FALSE(metrics.has_cpu());
  EXPECT_FALSE(metrics.has_memory());
  EXPECT_FALSE(metrics.has_pids());
}

}  // namespace
}  // namespace amphora::shim
