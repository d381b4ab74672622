// SPDX-License-Identifier: Apache-2.0
// See stats_json.h. Names and what is left out when zero are runc's.
#include "executor/cli/stats_json.h"

#include <vector>

#include "executor/oci/json_writer.h"

namespace amphora::cli {
namespace {

using oci::JsonWriter;

void number_unless_zero(JsonWriter& json, const char* name, uint64_t value) {
  if (value != 0) json.number(name, value);
}

void write_cpu(JsonWriter& json, const cgroup::CpuStats& cpu) {
  json.open("cpu", '{');
  json.open("usage", '{');
  number_unless_zero(json, "total", cpu.usage);
  if (!cpu.per_cpu.empty()) {
    json.open("percpu", '[');
    for (const uint64_t value : cpu.per_cpu) json.number("", value);
    json.close(']');
  }
  json.number("kernel", cpu.system);
  json.number("user", cpu.user);
  json.close('}');
  json.open("throttling", '{');
  number_unless_zero(json, "periods", cpu.periods);
  number_unless_zero(json, "throttledPeriods", cpu.throttled_periods);
  number_unless_zero(json, "throttledTime", cpu.throttled_time);
  json.close('}');
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

void write_memory(JsonWriter& json, const cgroup::MemoryStats& memory, bool v2) {
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

void write_io(JsonWriter& json, const cgroup::IoStats& io) {
  json.open("blkio", '{');
  write_io_list(json, "ioServiceBytesRecursive", io.service_bytes);
  write_io_list(json, "ioServicedRecursive", io.serviced);
  write_io_list(json, "ioQueueRecursive", io.queued);
  write_io_list(json, "ioServiceTimeRecursive", io.service_time);
  write_io_list(json, "ioWaitTimeRecursive", io.wait_time);
  write_io_list(json, "ioMergedRecursive", io.merged);
  write_io_list(json, "ioTimeRecursive", io.time);
  write_io_list(json, "sectorsRecursive", io.sectors);
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

}  // namespace

std::string stats_event(std::string_view id, const cgroup::Stats& stats) {
  JsonWriter json;
  json.open("", '{');
  json.text("type", "stats");
  json.text("id", id);
  json.open("data", '{');
  write_cpu(json, stats.cpu.value_or(cgroup::CpuStats()));
  json.open("cpuset", '{');
  json.close('}');
  write_memory(json, stats.memory.value_or(cgroup::MemoryStats()), stats.v2);
  write_pids(json, stats.pids.value_or(cgroup::PidsStats()));
  write_io(json, stats.io.value_or(cgroup::IoStats()));
  write_hugetlb(json, stats.hugetlb);
  json.open("intel_rdt", '{');
  json.close('}');
  json.open("network_interfaces", '[');
  json.close(']');
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
