// SPDX-License-Identifier: Apache-2.0
// Numbers from cgroup v1 files. What is absent is left out: a stats call never fails for a file.
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/layout.h"
#include "executor/cgroup/parse.h"
#include "executor/cgroup/stats.h"
#include "executor/cgroup/v1.h"

namespace amphora::cgroup {
namespace {

uint64_t number_or_zero(const std::string& dir, std::string_view file) {
  return read_number(dir, file).value_or(0);
}

std::string text_or_empty(const std::string& dir, std::string_view file) {
  return read_value(dir, file).value_or(std::string());
}

/// v1 says "unlimited" with the largest page-aligned number of bytes.
uint64_t limit_or_max(const std::string& dir, std::string_view file) {
  constexpr uint64_t kUnlimitedFrom = uint64_t{INT64_MAX} - (uint64_t{1} << 20);
  const uint64_t limit = number_or_zero(dir, file);
  return limit >= kUnlimitedFrom ? UINT64_MAX : limit;
}

MemoryEntry memory_entry(const std::string& dir, std::string_view infix) {
  const std::string prefix = fmt::format("memory.{}", infix);
  MemoryEntry entry;
  const auto usage = read_number(dir, prefix + "usage_in_bytes");
  if (!usage) return entry;  // this kernel accounts no such memory
  entry.usage = *usage;
  entry.limit = limit_or_max(dir, prefix + "limit_in_bytes");
  entry.max = number_or_zero(dir, prefix + "max_usage_in_bytes");
  entry.failcnt = number_or_zero(dir, prefix + "failcnt");
  return entry;
}

MemoryStats memory_stats(const std::string& dir, OomEvents& oom) {
  MemoryStats stats;
  stats.usage = memory_entry(dir, "");
  stats.swap = memory_entry(dir, "memsw.");
  stats.kernel = memory_entry(dir, "kmem.");
  stats.kernel_tcp = memory_entry(dir, "kmem.tcp.");
  stats.stat = parse_flat_keyed(text_or_empty(dir, "memory.stat"));
  const std::string control = text_or_empty(dir, "memory.oom_control");
  stats.oom_kill_disable = keyed_number(control, "oom_kill_disable") != 0;
  stats.under_oom = keyed_number(control, "under_oom") != 0;
  oom.oom_kill = keyed_number(control, "oom_kill");
  return stats;
}

/// "cpu user system" and then a line for each CPU.
void split_per_cpu(std::string_view text, CpuStats& stats) {
  for (bool heading = true; !text.empty(); heading = false) {
    const size_t end = text.find('\n');
    const auto numbers = parse_numbers(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (heading || numbers.size() != 3) continue;
    stats.per_cpu_user.push_back(numbers[1]);
    stats.per_cpu_kernel.push_back(numbers[2]);
  }
}

CpusetStats cpuset_stats(const std::string& dir) {
  CpusetStats stats;
  stats.cpus = parse_list(text_or_empty(dir, "cpuset.cpus"));
  stats.mems = parse_list(text_or_empty(dir, "cpuset.mems"));
  for (const char* name : {"cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate",
                           "memory_spread_page", "memory_spread_slab", "memory_pressure",
                           "sched_load_balance", "sched_relax_domain_level"}) {
    const std::string text = text_or_empty(dir, std::string("cpuset.") + name);
    stats.flags[name] = strtoll(text.c_str(), nullptr, 10);
  }
  return stats;
}

CpuStats cpu_stats(const V1Cgroup& cgroup) {
  CpuStats stats;
  if (const Location* location = cgroup.find("cpuacct")) {
    const std::string dir = location->dir();
    constexpr uint64_t kNanoseconds = 1000000000;
    const auto ticks = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
    const std::string split = text_or_empty(dir, "cpuacct.stat");
    stats.usage = number_or_zero(dir, "cpuacct.usage");
    stats.user = keyed_number(split, "user") * (kNanoseconds / ticks);
    stats.system = keyed_number(split, "system") * (kNanoseconds / ticks);
    stats.per_cpu = parse_numbers(text_or_empty(dir, "cpuacct.usage_percpu"));
    split_per_cpu(text_or_empty(dir, "cpuacct.usage_all"), stats);
  }
  if (const Location* location = cgroup.find("cpu")) {
    const std::string text = text_or_empty(location->dir(), "cpu.stat");
    stats.periods = keyed_number(text, "nr_periods");
    stats.throttled_periods = keyed_number(text, "nr_throttled");
    stats.throttled_time = keyed_number(text, "throttled_time");
    stats.bursts = keyed_number(text, "nr_bursts");
    stats.burst_time = keyed_number(text, "burst_time");
  }
  return stats;
}

IoStats io_stats(const std::string& dir) {
  // Which files there are depends on the scheduler: CFQ's on old kernels, BFQ's, or the throttler's.
  const auto list = [&](std::initializer_list<const char*> files) {
    for (const char* file : files) {
      auto entries = parse_blkio(text_or_empty(dir, file));
      if (!entries.empty()) return entries;
    }
    return std::vector<IoEntry>();
  };
  IoStats stats;
  stats.service_bytes =
      list({"blkio.bfq.io_service_bytes_recursive", "blkio.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"});
  stats.serviced = list({"blkio.bfq.io_serviced_recursive", "blkio.io_serviced_recursive",
                         "blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"});
  stats.queued = list({"blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"});
  stats.service_time =
      list({"blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"});
  stats.wait_time = list({"blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"});
  stats.merged = list({"blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"});
  stats.time = list({"blkio.bfq.time_recursive", "blkio.time_recursive"});
  stats.sectors = list({"blkio.bfq.sectors_recursive", "blkio.sectors_recursive"});
  return stats;
}

}  // namespace

Result<Stats> stats_v1(const V1Cgroup& cgroup) {
  Stats stats;
  if (const Location* location = cgroup.find("pids")) {
    const std::string dir = location->dir();
    stats.pids = PidsStats{number_or_zero(dir, "pids.current"), number_or_zero(dir, "pids.max")};
  }
  if (cgroup.find("cpu") != nullptr || cgroup.find("cpuacct") != nullptr) {
    stats.cpu = cpu_stats(cgroup);
  }
  if (const Location* location = cgroup.find("cpuset")) {
    stats.cpuset = cpuset_stats(location->dir());
  }
  if (const Location* location = cgroup.find("memory")) {
    stats.oom.emplace();
    stats.memory = memory_stats(location->dir(), *stats.oom);
  }
  if (const Location* location = cgroup.find("blkio")) stats.io = io_stats(location->dir());
  if (const Location* location = cgroup.find("rdma")) {
    stats.rdma_current = parse_rdma(text_or_empty(location->dir(), "rdma.current"));
    stats.rdma_limit = parse_rdma(text_or_empty(location->dir(), "rdma.max"));
  }
  if (const Location* location = cgroup.find("hugetlb")) {
    stats.hugetlb = hugetlb_stats_v1(location->dir());
  } else if (const Location* side = cgroup.unified()) {
    stats.hugetlb = hugetlb_stats_v2(side->dir());
  }
  return stats;
}

}  // namespace amphora::cgroup
