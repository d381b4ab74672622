// SPDX-License-Identifier: Apache-2.0
// Numbers from cgroup v2 files, and hugetlb of both versions. See stats.h.
#include <dirent.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/parse.h"
#include "executor/cgroup/stats.h"

namespace amphora::cgroup {
namespace {

constexpr uint64_t kNanosecondsPerMicrosecond = 1000;

uint64_t number_or_zero(const std::string& dir, std::string_view file) {
  return read_number(dir, file).value_or(0);
}

std::optional<Pressure> pressure(const std::string& dir, std::string_view file) {
  // Kernels with PSI switched off have the file and answer EOPNOTSUPP.
  auto text = read_value(dir, file);
  if (!text) return std::nullopt;
  return parse_pressure(*text);
}

CpuStats cpu_stats(const std::string& text) {
  CpuStats stats;
  stats.usage = keyed_number(text, "usage_usec") * kNanosecondsPerMicrosecond;
  stats.user = keyed_number(text, "user_usec") * kNanosecondsPerMicrosecond;
  stats.system = keyed_number(text, "system_usec") * kNanosecondsPerMicrosecond;
  stats.periods = keyed_number(text, "nr_periods");
  stats.throttled_periods = keyed_number(text, "nr_throttled");
  stats.throttled_time = keyed_number(text, "throttled_usec") * kNanosecondsPerMicrosecond;
  stats.bursts = keyed_number(text, "nr_bursts");
  stats.burst_time = keyed_number(text, "burst_usec") * kNanosecondsPerMicrosecond;
  return stats;
}

MemoryStats memory_stats(const std::string& dir, uint64_t usage) {
  MemoryStats stats;
  stats.usage = {usage, number_or_zero(dir, "memory.max"), number_or_zero(dir, "memory.peak"), 0};
  stats.swap = {number_or_zero(dir, "memory.swap.current"), number_or_zero(dir, "memory.swap.max"),
                number_or_zero(dir, "memory.swap.peak"), 0};
  stats.stat = parse_flat_keyed(read_value(dir, "memory.stat").value_or(std::string()));
  return stats;
}

std::vector<HugetlbStats> hugetlb(const std::string& dir, std::string_view usage,
                                  std::string_view max, bool v2) {
  std::vector<HugetlbStats> all;
  for (const std::string& size : page_sizes()) {
    const auto current = read_number(dir, fmt::format("hugetlb.{}.{}", size, usage));
    if (!current) continue;
    HugetlbStats stats{size, *current, number_or_zero(dir, fmt::format("hugetlb.{}.{}", size, max)),
                       0};
    if (v2) {
      const auto events = read_value(dir, fmt::format("hugetlb.{}.events", size));
      if (events) stats.failcnt = keyed_number(*events, "max");
    } else {
      stats.failcnt = number_or_zero(dir, fmt::format("hugetlb.{}.failcnt", size));
    }
    all.push_back(std::move(stats));
  }
  return all;
}

}  // namespace

std::string page_size_from_name(std::string_view name) {
  constexpr std::string_view kPrefix = "hugepages-";
  if (!name.starts_with(kPrefix) || !name.ends_with("kB")) return {};
  uint64_t kib = 0;
  if (!parse_number(name.substr(kPrefix.size(), name.size() - kPrefix.size() - 2), kib)) return {};
  if (kib >= 1 << 20) return fmt::format("{}GB", kib >> 20);
  if (kib >= 1 << 10) return fmt::format("{}MB", kib >> 10);
  return fmt::format("{}KB", kib);
}

std::vector<std::string> page_sizes() {
  std::vector<std::string> sizes;
  DIR* stream = ::opendir("/sys/kernel/mm/hugepages");
  if (stream == nullptr) return sizes;
  while (const struct dirent* entry = ::readdir(stream)) {
    std::string size = page_size_from_name(entry->d_name);
    if (!size.empty()) sizes.push_back(std::move(size));
  }
  ::closedir(stream);
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

std::vector<HugetlbStats> hugetlb_stats_v1(const std::string& dir) {
  return hugetlb(dir, "usage_in_bytes", "max_usage_in_bytes", false);
}

std::vector<HugetlbStats> hugetlb_stats_v2(const std::string& dir) {
  return hugetlb(dir, "current", "max", true);
}

Result<Stats> stats_v2(const std::string& dir) {
  Stats stats;
  stats.v2 = true;
  if (const auto current = read_number(dir, "pids.current")) {
    stats.pids = PidsStats{*current, number_or_zero(dir, "pids.max")};
  } else if (const auto pids = list_pids(dir)) {
    // Without the controller there is no limit, but there is a number, and runc tells it.
    stats.pids = PidsStats{pids->size(), 0};
  }
  // cpu.stat is there without the cpu controller too: usage costs nothing to account.
  if (const auto text = read_value(dir, "cpu.stat")) stats.cpu = cpu_stats(*text);
  if (const auto usage = read_number(dir, "memory.current")) {
    stats.memory = memory_stats(dir, *usage);
  }
  if (const auto text = read_value(dir, "memory.events")) stats.oom = parse_memory_events(*text);
  if (const auto text = read_value(dir, "io.stat")) stats.io = parse_io_stat(*text);
  if (const auto text = read_value(dir, "rdma.current")) {
    stats.rdma_current = parse_rdma(*text);
    stats.rdma_limit = parse_rdma(read_value(dir, "rdma.max").value_or(std::string()));
  }
  stats.hugetlb = hugetlb_stats_v2(dir);
  if (const auto cpus = read_value(dir, "cpuset.cpus.effective")) {
    stats.cpuset.emplace().cpus = parse_list(*cpus);
    if (const auto mems = read_value(dir, "cpuset.mems.effective")) {
      stats.cpuset->mems = parse_list(*mems);
    }
  }
  stats.cpu_pressure = pressure(dir, "cpu.pressure");
  stats.memory_pressure = pressure(dir, "memory.pressure");
  stats.io_pressure = pressure(dir, "io.pressure");
  return stats;
}

}  // namespace amphora::cgroup
