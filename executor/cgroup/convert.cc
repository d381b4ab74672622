// SPDX-License-Identifier: Apache-2.0
// Pure conversions. See convert.h.
#include "executor/cgroup/convert.h"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {

uint64_t weight_from_shares(uint64_t shares) {
  constexpr uint64_t kMinShares = 2, kMaxShares = 262144;
  if (shares == 0) return 0;
  if (shares <= kMinShares) return 1;
  if (shares >= kMaxShares) return 10000;
  // A quadratic in log2 that meets (2, 1), (1024, 100) and (262144, 10000), as all runtimes use.
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125 * l) / 612.0 - 7.0 / 34.0;
  return static_cast<uint64_t>(std::ceil(std::pow(10, exponent)));
}

uint64_t io_weight_from_blkio(uint16_t weight) {
  if (weight == 0) return 0;
  const uint64_t above = weight > 10 ? uint64_t{weight} - 10 : 0;
  return 1 + above * 9999 / 990;
}

std::string limit_text(int64_t value, const char* unlimited) {
  return value < 0 ? std::string(unlimited) : fmt::format_int(value).str();
}

std::string pids_text(int64_t limit) {
  if (limit < 0) return "max";
  return fmt::format_int(limit == 0 ? 1 : limit).str();
}

Result<std::optional<std::string>> swap_max(const oci::MemoryLimits& memory) {
  const int64_t swap = memory.swap.value_or(0);
  const int64_t limit = memory.limit.value_or(0);
  if (swap == 0) {
    if (limit < 0) return "max";
    return std::nullopt;
  }
  // Every negative number is no limit (limit_text), not only -1.
  if (swap < 0 || limit < 0) return "max";
  if (limit == 0) {
    return fail(Errc::kInvalid, fmt::format("memory swap {} needs a memory limit", swap));
  }
  if (swap < limit) {
    return fail(Errc::kInvalid,
                fmt::format("memory+swap limit {} is below the memory limit {}", swap, limit));
  }
  return fmt::format_int(swap - limit).str();
}

std::string cpu_max_text(std::optional<int64_t> quota, std::optional<uint64_t> period) {
  constexpr uint64_t kDefaultPeriod = 100000;
  const uint64_t given = period.value_or(0);
  const uint64_t used = given != 0 ? given : kDefaultPeriod;
  if (quota && *quota > 0) return fmt::format("{} {}", *quota, used);
  return fmt::format("max {}", used);
}

Result<void> check_shares(uint64_t shares) {
  constexpr uint64_t kMinShares = 2, kMaxShares = 262144;
  if (shares != 0 && shares < kMinShares) {
    return fail(Errc::kInvalid, fmt::format("cpu shares {}: the minimum allowed cpu-shares is {}",
                                            shares, kMinShares));
  }
  if (shares > kMaxShares) {
    return fail(Errc::kInvalid, fmt::format("cpu shares {}: the maximum allowed cpu-shares is {}",
                                            shares, kMaxShares));
  }
  return {};
}

Result<std::string> rdma_text(const std::string& device, const oci::RdmaLimit& limit) {
  std::string text;
  if (limit.hca_handles) text = fmt::format("hca_handle={}", *limit.hca_handles);
  if (limit.hca_objects) {
    text += fmt::format("{}hca_object={}", text.empty() ? "" : " ", *limit.hca_objects);
  }
  if (text.empty()) {
    return fail(Errc::kInvalid,
                fmt::format("rdma limit of {}: neither hcaHandles nor hcaObjects", device));
  }
  return text;
}

bool has_limits(const oci::Resources& resources) {
  const auto& m = resources.memory;
  const auto& c = resources.cpu;
  const auto& b = resources.block_io;
  const auto& n = resources.network;
  const bool memory =
      m && (m->limit.value_or(0) != 0 || m->reservation.value_or(0) != 0 ||
            m->swap.value_or(0) != 0 || m->swappiness || m->disable_oom_killer.value_or(false));
  const bool cpu = c && (c->shares.value_or(0) != 0 || c->period.value_or(0) != 0 || c->burst ||
                         c->realtime_period || c->quota.value_or(0) != 0 || c->realtime_runtime ||
                         c->idle || !c->cpus.empty() || !c->mems.empty());
  const bool block =
      b && (b->weight || b->leaf_weight || !b->weight_device.empty() || !b->read_bps.empty() ||
            !b->write_bps.empty() || !b->read_iops.empty() || !b->write_iops.empty());
  const bool network = n && (n->class_id || !n->priorities.empty());
  return memory || cpu || block || network || resources.pids_limit ||
         !resources.hugepages.empty() || !resources.rdma.empty() || !resources.unified.empty();
}

}  // namespace amphora::cgroup
