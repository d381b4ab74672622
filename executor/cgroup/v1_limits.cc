// SPDX-License-Identifier: Apache-2.0
// Writing the spec's values to cgroup v1 files, in the orders the kernel asks for. A value whose
// hierarchy is not there is an error that names both; values nobody asked for are not touched.
#include <errno.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/cgroup/convert.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/layout.h"
#include "executor/cgroup/unified.h"
#include "executor/cgroup/v1.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {
namespace {

std::string number(auto value) { return fmt::format_int(value).str(); }

/// One call's worth of context, so that each value is one line below.
class Limits {
 public:
  Limits(const V1Cgroup& cgroup, Writer& writer, std::vector<std::string>& warnings)
      : cgroup_(cgroup), writer_(writer), warnings_(warnings) {}

  Result<void> cpu(const oci::CpuLimits& limits);
  Result<void> cpuset(const oci::CpuLimits& limits);
  Result<void> memory(const oci::MemoryLimits& limits);
  Result<void> pids(int64_t limit);
  Result<void> block_io(const oci::BlockIo& limits);
  Result<void> hugepages(const std::vector<oci::HugepageLimit>& limits);
  Result<void> network(const oci::NetworkLimits& limits);
  Result<void> rdma(const std::map<std::string, oci::RdmaLimit>& limits);

 private:
  Result<std::string> dir_of(std::string_view controller, std::string_view what) const {
    if (const Location* location = cgroup_.find(controller)) return location->dir();
    return fail(Errc::kUnsupported,
                fmt::format("cannot set {}: controller {} is not available on this host", what,
                            controller));
  }
  Result<void> cpu_bandwidth(const std::string& dir, const oci::CpuLimits& limits);
  Result<void> realtime(const std::string& dir, const oci::CpuLimits& limits);
  Result<void> memory_and_swap(const std::string& dir, const oci::MemoryLimits& limits);
  Result<void> throttle(const std::string& dir, const char* file,
                        const std::vector<oci::ThrottleDevice>& devices);

  const V1Cgroup& cgroup_;
  Writer& writer_;
  std::vector<std::string>& warnings_;
};

Result<void> Limits::cpu(const oci::CpuLimits& limits) {
  const bool any = limits.shares.value_or(0) != 0 || limits.period.value_or(0) != 0 ||
                   limits.quota.value_or(0) != 0 || limits.burst || limits.idle ||
                   limits.realtime_period.value_or(0) != 0 ||
                   limits.realtime_runtime.value_or(0) != 0;
  if (!any) return {};
  TRY_ASSIGN(const std::string dir, dir_of("cpu", "cpu limits"));
  TRY(realtime(dir, limits));
  if (limits.idle) TRY(writer_.write(dir, "cpu.idle", number(*limits.idle)));
  // An idle group has a fixed weight; the kernel refuses shares there.
  if (limits.shares.value_or(0) != 0 && limits.idle.value_or(0) != 1) {
    TRY(check_shares(*limits.shares));
    TRY(writer_.write(dir, "cpu.shares", number(*limits.shares)));
  }
  return cpu_bandwidth(dir, limits);
}

Result<void> Limits::realtime(const std::string& dir, const oci::CpuLimits& limits) {
  const uint64_t period = limits.realtime_period.value_or(0);
  const int64_t runtime = limits.realtime_runtime.value_or(0);
  bool period_left = period != 0;
  if (period_left) {
    auto written = writer_.write(dir, "cpu.rt_period_us", number(period));
    // Refused as long as the present runtime is above the new period: then runtime goes first.
    if (!written && (written.error().sys_errno() != EINVAL || runtime == 0)) return written;
    period_left = !written;
  }
  if (runtime != 0) TRY(writer_.write(dir, "cpu.rt_runtime_us", number(runtime)));
  if (period_left) TRY(writer_.write(dir, "cpu.rt_period_us", number(period)));
  return {};
}

Result<void> Limits::cpu_bandwidth(const std::string& dir, const oci::CpuLimits& limits) {
  const uint64_t period = limits.period.value_or(0);
  const int64_t quota = limits.quota.value_or(0);
  bool burst_left = limits.burst.has_value();
  if (burst_left) {
    // A burst above the quota is refused; so it is tried before (quota shrinks) and after (it grows).
    auto written = writer_.write(dir, "cpu.cfs_burst_us", number(*limits.burst));
    if (!written && (written.error().sys_errno() != EINVAL || quota == 0)) return written;
    burst_left = !written;
  }
  bool period_left = period != 0;
  if (period_left) {
    auto written = writer_.write(dir, "cpu.cfs_period_us", number(period));
    if (!written && (written.error().sys_errno() != EINVAL || quota == 0)) return written;
    period_left = !written;
  }
  if (quota != 0) TRY(writer_.write(dir, "cpu.cfs_quota_us", number(quota < 0 ? -1 : quota)));
  if (period_left) TRY(writer_.write(dir, "cpu.cfs_period_us", number(period)));
  if (burst_left) TRY(writer_.write(dir, "cpu.cfs_burst_us", number(*limits.burst)));
  return {};
}

Result<void> Limits::cpuset(const oci::CpuLimits& limits) {
  if (limits.cpus.empty() && limits.mems.empty()) return {};
  TRY_ASSIGN(const std::string dir, dir_of("cpuset", "cpuset cpus and mems"));
  if (!limits.cpus.empty()) TRY(writer_.write(dir, "cpuset.cpus", limits.cpus));
  if (!limits.mems.empty()) TRY(writer_.write(dir, "cpuset.mems", limits.mems));
  return {};
}

Result<void> Limits::memory(const oci::MemoryLimits& limits) {
  if (limits.kernel || limits.kernel_tcp) {
    warnings_.emplace_back("kernel memory limits are ignored: the kernel no longer has them");
  }
  if (limits.swappiness.value_or(0) > 100) {
    return fail(Errc::kInvalid,
                fmt::format("memory swappiness {}: the valid range is 0-100", *limits.swappiness));
  }
  const bool oom_change = limits.disable_oom_killer.value_or(false) ||
                          (limits.disable_oom_killer && writer_.updating());
  const bool any = limits.limit.value_or(0) != 0 || limits.swap.value_or(0) != 0 ||
                   limits.reservation.value_or(0) != 0 || limits.swappiness || oom_change;
  if (!any) return {};
  TRY_ASSIGN(const std::string dir, dir_of("memory", "memory limit"));
  if (limits.check_before_update.value_or(false) && limits.limit.value_or(0) > 0) {
    TRY_ASSIGN(const uint64_t usage, read_number(dir, "memory.usage_in_bytes"));
    if (usage > static_cast<uint64_t>(*limits.limit)) {
      return fail(Errc::kInvalid, fmt::format("rejecting memory limit {}: current usage is {}",
                                              *limits.limit, usage));
    }
  }
  TRY(memory_and_swap(dir, limits));
  if (limits.reservation.value_or(0) != 0) {
    TRY(writer_.write(dir, "memory.soft_limit_in_bytes", limit_text(*limits.reservation, "-1")));
  }
  if (limits.swappiness) {
    TRY(writer_.write(dir, "memory.swappiness", number(*limits.swappiness)));
  }
  if (oom_change) {
    TRY(writer_.write_shown(dir, "memory.oom_control", "oom_kill_disable",
                            *limits.disable_oom_killer ? 1 : 0));
  }
  return {};
}

Result<void> Limits::memory_and_swap(const std::string& dir, const oci::MemoryLimits& limits) {
  constexpr const char* kLimit = "memory.limit_in_bytes";
  constexpr const char* kSwap = "memory.memsw.limit_in_bytes";
  const int64_t limit = limits.limit.value_or(0);
  int64_t swap = limits.swap.value_or(0);
  if (limit == -1 && swap == 0 && writer_.updating() && has_file(dir, kSwap)) swap = -1;
  if (swap > 0 && limit > 0 && swap < limit) {
    return fail(Errc::kInvalid,
                fmt::format("memory+swap limit {} is below the memory limit {}", swap, limit));
  }
  const std::string swap_text = limit_text(swap, "-1");
  // memory+swap may never be below memory: when it grows it goes first, else last. A fresh cgroup
  // has no limits, so there nothing grows.
  bool swap_first = false;
  if (limit != 0 && swap != 0 && writer_.updating()) {
    TRY_ASSIGN(const uint64_t current, read_number(dir, kLimit));
    swap_first = swap == -1 || current < static_cast<uint64_t>(swap);
  }
  if (swap_first) TRY(writer_.write(dir, kSwap, swap_text));
  if (limit != 0) TRY(writer_.write(dir, kLimit, limit_text(limit, "-1")));
  if (swap == 0 || swap_first) return {};
  auto written = writer_.write(dir, kSwap, swap_text);
  // Kernels without swap accounting have no such file; unlimited is what they do anyway.
  if (!written && written.error().sys_errno() == ENOENT && swap < 0) return {};
  return written;
}

Result<void> Limits::pids(int64_t limit) {
  TRY_ASSIGN(const std::string dir, dir_of("pids", "pids limit"));
  return writer_.write(dir, "pids.max", pids_text(limit));
}

Result<void> Limits::throttle(const std::string& dir, const char* file,
                              const std::vector<oci::ThrottleDevice>& devices) {
  for (const oci::ThrottleDevice& device : devices) {
    TRY(writer_.write_keyed(dir, file, fmt::format("{}:{}", device.major, device.minor),
                            number(device.rate), "0"));
  }
  return {};
}

Result<void> Limits::block_io(const oci::BlockIo& limits) {
  const bool any = limits.weight || limits.leaf_weight || !limits.weight_device.empty() ||
                   !limits.read_bps.empty() || !limits.write_bps.empty() ||
                   !limits.read_iops.empty() || !limits.write_iops.empty();
  if (!any) return {};
  TRY_ASSIGN(const std::string dir, dir_of("blkio", "block I/O limits"));
  const bool plain = has_file(dir, "blkio.weight");
  const char* weight = plain ? "blkio.weight" : "blkio.bfq.weight";
  const char* weight_device = plain ? "blkio.weight_device" : "blkio.bfq.weight_device";
  if (limits.weight.value_or(0) != 0) TRY(writer_.write(dir, weight, number(*limits.weight)));
  if (limits.leaf_weight.value_or(0) != 0) {
    TRY(writer_.write(dir, "blkio.leaf_weight", number(*limits.leaf_weight)));
  }
  for (const oci::WeightDevice& device : limits.weight_device) {
    const std::string key = fmt::format("{}:{}", device.major, device.minor);
    if (device.weight.value_or(0) != 0) {
      TRY(writer_.write_keyed(dir, weight_device, key, number(*device.weight), "0"));
    }
    if (device.leaf_weight.value_or(0) != 0) {
      TRY(writer_.write_keyed(dir, "blkio.leaf_weight_device", key, number(*device.leaf_weight),
                              "0"));
    }
  }
  TRY(throttle(dir, "blkio.throttle.read_bps_device", limits.read_bps));
  TRY(throttle(dir, "blkio.throttle.write_bps_device", limits.write_bps));
  TRY(throttle(dir, "blkio.throttle.read_iops_device", limits.read_iops));
  TRY(throttle(dir, "blkio.throttle.write_iops_device", limits.write_iops));
  return {};
}

Result<void> Limits::hugepages(const std::vector<oci::HugepageLimit>& limits) {
  if (limits.empty()) return {};
  const Location* v1 = cgroup_.find("hugetlb");
  const Location* side = cgroup_.unified();
  if (v1 == nullptr && side != nullptr) {
    TRY_ASSIGN(const std::vector<std::string> owned, unified_controllers(side->mount));
    if (std::find(owned.begin(), owned.end(), "hugetlb") != owned.end()) {
      TRY(enable_controllers(side->mount, side->path, {"hugetlb"}));
      return write_hugetlb_unified(side->dir(), limits, writer_);
    }
  }
  TRY_ASSIGN(const std::string dir, dir_of("hugetlb", "hugepage limits"));
  for (const oci::HugepageLimit& limit : limits) {
    TRY(check_page_size(limit.page_size));
    const std::string reserved = fmt::format("hugetlb.{}.rsvd.limit_in_bytes", limit.page_size);
    if (has_file(dir, reserved)) TRY(writer_.write(dir, reserved, number(limit.limit)));
    TRY(writer_.write(dir, fmt::format("hugetlb.{}.limit_in_bytes", limit.page_size),
                      number(limit.limit)));
  }
  return {};
}

Result<void> Limits::network(const oci::NetworkLimits& limits) {
  if (limits.class_id.value_or(0) != 0) {
    TRY_ASSIGN(const std::string dir, dir_of("net_cls", "network class id"));
    TRY(writer_.write(dir, "net_cls.classid", number(*limits.class_id)));
  }
  if (limits.priorities.empty()) return {};
  TRY_ASSIGN(const std::string dir, dir_of("net_prio", "network priorities"));
  for (const oci::InterfacePriority& priority : limits.priorities) {
    TRY(writer_.write_keyed(dir, "net_prio.ifpriomap", priority.name, number(priority.priority),
                            "0"));
  }
  return {};
}

Result<void> Limits::rdma(const std::map<std::string, oci::RdmaLimit>& limits) {
  if (limits.empty()) return {};
  TRY_ASSIGN(const std::string dir, dir_of("rdma", "rdma limits"));
  for (const auto& [device, limit] : limits) {
    TRY_ASSIGN(const std::string text, rdma_text(device, limit));
    TRY(writer_.write_keyed(dir, "rdma.max", device, text, "hca_handle=max hca_object=max"));
  }
  return {};
}

}  // namespace

Result<void> write_v1_limits(const V1Cgroup& cgroup, const oci::Resources& resources,
                             Writer& writer, std::vector<std::string>& warnings) {
  if (!resources.unified.empty()) {
    return fail(
        Errc::kInvalid,
        fmt::format("invalid configuration: unified resource \"{}\" can't be set: this host "
                    "uses cgroup v1",
                    resources.unified.begin()->first));
  }
  Limits limits(cgroup, writer, warnings);
  if (resources.cpu) {
    TRY(limits.cpuset(*resources.cpu));
    TRY(limits.cpu(*resources.cpu));
  }
  if (resources.memory) TRY(limits.memory(*resources.memory));
  if (resources.pids_limit) TRY(limits.pids(*resources.pids_limit));
  if (resources.block_io) TRY(limits.block_io(*resources.block_io));
  TRY(limits.hugepages(resources.hugepages));
  if (resources.network) TRY(limits.network(*resources.network));
  return limits.rdma(resources.rdma);
}

}  // namespace amphora::cgroup
