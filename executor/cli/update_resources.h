// SPDX-License-Identifier: Apache-2.0
// The resources that update's options ask for. Pure.
#pragma once

#include <optional>
#include <string>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::cli {

struct UpdateLine {
  std::string resources;  ///< file or "-"; then the others are ignored
  std::optional<std::string> memory, memory_reservation, memory_swap, kernel_memory,
      kernel_memory_tcp;
  std::optional<int64_t> blkio_weight, cpu_period, cpu_quota, cpu_burst, cpu_share, cpu_rt_period,
      cpu_rt_runtime, cpu_idle, pids_limit;
  std::string cpuset_cpus, cpuset_mems;
  std::string l3_cache_schema, mem_bw_schema;
};

/// Only what was asked for is set in the result.
Result<oci::Resources> resources_of(const UpdateLine& line);

}  // namespace amphora::cli
