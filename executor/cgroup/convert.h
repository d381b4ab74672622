// SPDX-License-Identifier: Apache-2.0
// The arithmetic between the runtime spec's values, which are cgroup v1's, and the texts that cgroup
// files take. Pure: no file is touched here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {

/// cpu.shares to cpu.weight: 1024 is 100, the ends are 1 and 10000; 0 (unset) stays 0.
uint64_t weight_from_shares(uint64_t shares);
/// blkio.weight (10-1000) to io.weight (1-10000).
uint64_t io_weight_from_blkio(uint16_t weight);
/// memory.swap.max from the spec's memory+swap; nullopt: nothing to write. "max" for -1.
Result<std::optional<std::string>> swap_max(const oci::MemoryLimits& memory);
/// "-1" and other negative numbers are `unlimited`.
std::string limit_text(int64_t value, const char* unlimited);
/// pids.max: negative is "max", 0 is 1 (systemd cannot say 0, and no container runs with 0).
std::string pids_text(int64_t limit);
/// cpu.max: "quota period"; an absent or non-positive quota is "max".
std::string cpu_max_text(std::optional<int64_t> quota, std::optional<uint64_t> period);
/// cpu.shares outside what the kernel keeps (it would clamp silently) is an error.
Result<void> check_shares(uint64_t shares);
/// The part of a rdma.max line after the device; both absent is an error.
Result<std::string> rdma_text(const std::string& device, const oci::RdmaLimit& limit);
/// True when `resources` sets any value besides devices.
bool has_limits(const oci::Resources& resources);

}  // namespace amphora::cgroup
