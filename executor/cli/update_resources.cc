// SPDX-License-Identifier: Apache-2.0
// See update_resources.h.
#include "executor/cli/update_resources.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "executor/base/error.h"
#include "executor/cli/units.h"
#include "executor/oci/spec.h"

namespace amphora::cli {
namespace {

Result<void> set_size(std::optional<int64_t>& out, const std::optional<std::string>& text,
                      const char* name) {
  if (!text || text->empty()) return {};
  out = parse_size(*text);
  if (!out) {
    return fail(Errc::kInvalid,
                "invalid value for " + std::string(name) + ": invalid size: '" + *text + "'");
  }
  return {};
}

Result<void> set_unsigned(std::optional<uint64_t>& out, const std::optional<int64_t>& number,
                          const char* name) {
  if (!number) return {};
  if (*number < 0) {
    return fail(Errc::kInvalid,
                "invalid value for " + std::string(name) + ": " + std::to_string(*number));
  }
  out = static_cast<uint64_t>(*number);
  return {};
}

Result<void> set_memory(oci::Resources& resources, const UpdateLine& line) {
  oci::MemoryLimits memory;
  TRY(set_size(memory.limit, line.memory, "memory"));
  TRY(set_size(memory.reservation, line.memory_reservation, "memory-reservation"));
  TRY(set_size(memory.swap, line.memory_swap, "memory-swap"));
  TRY(set_size(memory.kernel, line.kernel_memory, "kernel-memory"));
  TRY(set_size(memory.kernel_tcp, line.kernel_memory_tcp, "kernel-memory-tcp"));
  if (memory.limit || memory.reservation || memory.swap || memory.kernel || memory.kernel_tcp) {
    resources.memory = memory;
  }
  return {};
}

Result<void> set_cpu(oci::Resources& resources, const UpdateLine& line) {
  oci::CpuLimits cpu;
  TRY(set_unsigned(cpu.period, line.cpu_period, "cpu-period"));
  TRY(set_unsigned(cpu.burst, line.cpu_burst, "cpu-burst"));
  TRY(set_unsigned(cpu.shares, line.cpu_share, "cpu-share"));
  TRY(set_unsigned(cpu.realtime_period, line.cpu_rt_period, "cpu-rt-period"));
  cpu.quota = line.cpu_quota;
  cpu.realtime_runtime = line.cpu_rt_runtime;
  cpu.idle = line.cpu_idle;
  cpu.cpus = line.cpuset_cpus;
  cpu.mems = line.cpuset_mems;
  const bool numbers = cpu.period || cpu.burst || cpu.shares || cpu.realtime_period || cpu.quota ||
                       cpu.realtime_runtime || cpu.idle;
  if (numbers || !cpu.cpus.empty() || !cpu.mems.empty()) resources.cpu = cpu;
  return {};
}

}  // namespace

Result<oci::Resources> resources_of(const UpdateLine& line) {
  oci::Resources resources;
  TRY(set_memory(resources, line));
  TRY(set_cpu(resources, line));
  resources.pids_limit = line.pids_limit;
  if (line.blkio_weight && *line.blkio_weight != 0) {
    if (*line.blkio_weight < 0 || *line.blkio_weight > std::numeric_limits<uint16_t>::max()) {
      return fail(Errc::kInvalid,
                  "invalid value for blkio-weight: " + std::to_string(*line.blkio_weight));
    }
    resources.block_io.emplace().weight = static_cast<uint16_t>(*line.blkio_weight);
  }
  return resources;
}

}  // namespace amphora::cli
