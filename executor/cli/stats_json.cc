// SPDX-License-Identifier: Apache-2.0
// See stats_json.h. Names and what is left out when zero are runc's.
#include "executor/cli/stats_json.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "executor/cgroup/cgroup.h"
#include "executor/oci/json_writer.h"

namespace amphora::cli {
namespace {

using oci::JsonWriter;

void number_unless_zero(JsonWriter& json, const char* name, uint64_t value) {
  if (value != 0) json.number(name, value);
}

void write_numbers(JsonWriter& json, const char* name, const auto& numbers) {
  if (numbers.empty()) return;
  json.open(name, '[');
  for (const uint64_t value : numbers) json.number("", value);
  json.close(']');
}

/// No line of a kernel without pressure accounting.
void write_pressure(JsonWriter& json, const std::optional<cgroup::Pressure>& pressure) {
  if (!pressure) return;
  json.open("psi", '{');
  const auto line = [&json](const char* name, const cgroup::PressureLine& values) {
    json.open(name, '{');
    json.real("avg10", values.avg10);
    json.real("avg60", values.avg60);
    json.real("avg300", values.avg300);
    json.number("total", values.total);
    json.close('}');
  };
  line("some", pressure->some);
  line("full", pressure->full);
  json.close('}');
}

void write_cpuset(JsonWriter& json, const cgroup::CpusetStats& cpuset) {
  json.open("cpuset", '{');
  const auto flag = [&](const char* name) {
    const auto found = cpuset.flags.find(name);
    json.number(name, found == cpuset.flags.end() ? int64_t{0} : found->second);
  };
  write_numbers(json, "cpus", cpuset.cpus);
  flag("cpu_exclusive");
  write_numbers(json, "mems", cpuset.mems);
  for (const char* name : {"mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
                           "memory_spread_slab", "memory_pressure", "sched_load_balance",
                           "sched_relax_domain_level"}) {
    flag(name);
  }
  json.close('}');
}

void write_cpu(JsonWriter& json, const cgroup::CpuStats& cpu,
               const std::optional<cgroup::Pressure>& pressure) {
  json.open("cpu", '{');
  json.open("usage", '{');
  number_unless_zero(json, "total", cpu.usage);
  write_numbers(json, "percpu", cpu.per_cpu);
  write_numbers(json, "percpu_kernel", cpu.per_cpu_kernel);
  write_numbers(json, "percpu_user", cpu.per_cpu_user);
  json.number("kernel", cpu.system);
  json.number("user", cpu.user);
  json.close('}');
  json.open("throttling", '{');
  number_unless_zero(json, "periods", cpu.periods);
  number_unless_zero(json, "throttledPeriods", cpu.throttled_periods);
  number_unless_zero(json, "throttledTime", cpu.throttled_time);
  json.close('}');
  write_pressure(json, pressure);
  json.close('}');
}

void write_memory_entry(JsonWriter& json, const char* name, const cgroup::MemoryEntry& entry) {
  json.open(name, '{');
  json.number("limit", entry.limit);
  number_unless_zero(json, "usage", entry.usage);
  number_unless_zero(json, "max", entry.max);
  json.number("failcnt", entry.failcnt);
  json.close('}');
}

/// Readers know swap as v1 has it, memory and swap together; v2 counts swap alone.
cgroup::MemoryEntry with_memory(const cgroup::MemoryStats& memory) {
  cgroup::MemoryEntry both = memory.swap;
  both.usage += memory.usage.usage;
  if (both.limit != UINT64_MAX && memory.usage.limit != UINT64_MAX) {
    both.limit += memory.usage.limit;
  } else {
    both.limit = UINT64_MAX;
  }
  return both;
}

void write_memory(JsonWriter& json, const cgroup::MemoryStats& memory, const cgroup::Stats& all) {
  const bool v2 = all.v2;
  json.open("memory", '{');
  const auto cache = memory.stat.find(v2 ? "file" : "cache");
  if (cache != memory.stat.end()) number_unless_zero(json, "cache", cache->second);
  write_memory_entry(json, "usage", memory.usage);
  write_memory_entry(json, "swap", v2 ? with_memory(memory) : memory.swap);
  write_memory_entry(json, "kernel", memory.kernel);
  write_memory_entry(json, "kernelTCP", memory.kernel_tcp);
  if (!memory.stat.empty()) {
    json.open("raw", '{');
    for (const auto& [name, value] : memory.stat) json.number(name, value);
    json.close('}');
  }
  write_pressure(json, all.memory_pressure);
  json.close('}');
}

void write_pids(JsonWriter& json, const cgroup::PidsStats& pids) {
  json.open("pids", '{');
  number_unless_zero(json, "current", pids.current);
  // runc says 0, so nothing, where there is no limit.
  if (pids.limit != UINT64_MAX) number_unless_zero(json, "limit", pids.limit);
  json.close('}');
}

void write_io_list(JsonWriter& json, const char* name, const std::vector<cgroup::IoEntry>& list) {
  if (list.empty()) return;
  json.open(name, '[');
  for (const cgroup::IoEntry& entry : list) {
    json.open("", '{');
    number_unless_zero(json, "major", entry.major);
    number_unless_zero(json, "minor", entry.minor);
    if (!entry.op.empty()) json.text("op", entry.op);
    number_unless_zero(json, "value", entry.value);
    json.close('}');
  }
  json.close(']');
}

void write_io(JsonWriter& json, const cgroup::IoStats& io,
              const std::optional<cgroup::Pressure>& pressure) {
  json.open("blkio", '{');
  write_io_list(json, "ioServiceBytesRecursive", io.service_bytes);
  write_io_list(json, "ioServicedRecursive", io.serviced);
  write_io_list(json, "ioQueueRecursive", io.queued);
  write_io_list(json, "ioServiceTimeRecursive", io.service_time);
  write_io_list(json, "ioWaitTimeRecursive", io.wait_time);
  write_io_list(json, "ioMergedRecursive", io.merged);
  write_io_list(json, "ioTimeRecursive", io.time);
  write_io_list(json, "sectorsRecursive", io.sectors);
  write_pressure(json, pressure);
  json.close('}');
}

void write_hugetlb(JsonWriter& json, const std::vector<cgroup::HugetlbStats>& sizes) {
  json.open("hugetlb", '{');
  for (const cgroup::HugetlbStats& size : sizes) {
    json.open(size.page_size, '{');
    number_unless_zero(json, "usage", size.usage);
    number_unless_zero(json, "max", size.max);
    json.number("failcnt", size.failcnt);
    json.close('}');
  }
  json.close('}');
}

/// The members of runc's in its order.
void write_rdt(JsonWriter& json, const cgroup::RdtStats& rdt) {
  const auto text = [&](const char* name, const std::string& value) {
    if (!value.empty()) json.text(name, value);
  };
  if (rdt.cache) {
    json.open("l3_cache_info", '{');
    text("cbm_mask", rdt.cache->cbm_mask);
    number_unless_zero(json, "min_cbm_bits", rdt.cache->min_cbm_bits);
    number_unless_zero(json, "num_closids", rdt.cache->num_closids);
    json.close('}');
  }
  text("l3_cache_schema_root", rdt.l3_root);
  text("l3_cache_schema", rdt.l3);
  if (rdt.bandwidth) {
    json.open("mem_bw_info", '{');
    number_unless_zero(json, "bandwidth_gran", rdt.bandwidth->bandwidth_gran);
    number_unless_zero(json, "delay_linear", rdt.bandwidth->delay_linear);
    number_unless_zero(json, "min_bandwidth", rdt.bandwidth->min_bandwidth);
    number_unless_zero(json, "num_closids", rdt.bandwidth->num_closids);
    json.close('}');
  }
  text("mem_bw_schema_root", rdt.mb_root);
  text("mem_bw_schema", rdt.mb);
  if (rdt.traffic) {
    json.open("mbm_stats", '[');
    for (const auto& node : *rdt.traffic) {
      json.open("", '{');
      json.number("mbm_total_bytes", node.total);
      json.number("mbm_local_bytes", node.local);
      json.close('}');
    }
    json.close(']');
  }
  if (rdt.occupancy) {
    json.open("cmt_stats", '[');
    for (const uint64_t bytes : *rdt.occupancy) {
      json.open("", '{');
      json.number("llc_occupancy", bytes);
      json.close('}');
    }
    json.close(']');
  }
}

}  // namespace

std::string stats_event(std::string_view id, const cgroup::Stats& stats) {
  JsonWriter json;
  json.open("", '{');
  json.text("type", "stats");
  json.text("id", id);
  json.open("data", '{');
  write_cpu(json, stats.cpu.value_or(cgroup::CpuStats()), stats.cpu_pressure);
  write_cpuset(json, stats.cpuset.value_or(cgroup::CpusetStats()));
  write_memory(json, stats.memory.value_or(cgroup::MemoryStats()), stats);
  write_pids(json, stats.pids.value_or(cgroup::PidsStats()));
  write_io(json, stats.io.value_or(cgroup::IoStats()), stats.io_pressure);
  write_hugetlb(json, stats.hugetlb);
  json.open("intel_rdt", '{');
  if (stats.rdt) write_rdt(json, *stats.rdt);
  json.close('}');
  // runc lists what its own configuration names there, which a bundle cannot: always null.
  json.null("network_interfaces");
  json.close('}');
  json.close('}');
  return std::move(json).take();
}

std::string oom_event(std::string_view id) {
  JsonWriter json;
  json.open("", '{');
  json.text("type", "oom");
  json.text("id", id);
  json.close('}');
  return std::move(json).take();
}

}  // namespace amphora::cli
