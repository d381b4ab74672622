// SPDX-License-Identifier: Apache-2.0
// Writing the spec's values, which speak cgroup v1, to cgroup v2 files.
#include <errno.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/cgroup/convert.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/unified.h"
#include "executor/cgroup/v2.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {
namespace {

std::string number(auto value) { return fmt::format_int(value).str(); }

class Limits {
 public:
  Limits(const std::string& dir, std::string_view not_enabled, Writer& writer,
         std::vector<std::string>& warnings)
      : dir_(dir), not_enabled_(not_enabled), writer_(writer), warnings_(warnings) {}

  Result<void> write_all(const oci::Resources& resources);

 private:
  Result<void> cpu(const oci::CpuLimits& limits);
  Result<void> cpu_max(const oci::CpuLimits& limits);
  Result<void> cpuset(const oci::CpuLimits& limits);
  Result<void> memory(const oci::MemoryLimits& limits);
  Result<void> check_usage(const oci::MemoryLimits& limits);
  Result<void> swap(const oci::MemoryLimits& limits);
  Result<void> block_io(const oci::BlockIo& limits);
  Result<void> io_weight(const oci::BlockIo& limits);
  Result<void> io_max(const std::vector<oci::ThrottleDevice>& devices, const char* key);
  Result<void> network(const oci::NetworkLimits& limits);
  Result<void> rdma(const std::map<std::string, oci::RdmaLimit>& limits);
  Result<void> unified(const std::map<std::string, std::string>& values);

  /// A file that is not there means a controller that is not there: the error says so.
  Result<void> explain(Result<void> result, std::string_view controller, std::string_view what) {
    if (result || result.error().sys_errno() != ENOENT) return result;
    std::string text =
        fmt::format("cannot set {}: controller {} is not available on this host", what, controller);
    if (!not_enabled_.empty()) text += fmt::format(" ({})", not_enabled_);
    return fail(Errc::kUnsupported, std::move(text));
  }
  Result<void> put(std::string_view file, std::string_view value) {
    return writer_.write(dir_, file, value);
  }

  const std::string& dir_;
  std::string_view not_enabled_;
  Writer& writer_;
  std::vector<std::string>& warnings_;
};

Result<void> Limits::cpu(const oci::CpuLimits& limits) {
  if (limits.realtime_period || limits.realtime_runtime) {
    warnings_.emplace_back("realtime cpu limits are ignored: cgroup v2 has none");
  }
  // An idle group has a fixed weight, and the kernel refuses another.
  if (limits.idle) TRY(put("cpu.idle", number(*limits.idle)));
  if (limits.shares.value_or(0) != 0 && limits.idle.value_or(0) != 1) {
    TRY(put("cpu.weight", number(weight_from_shares(*limits.shares))));
  }
  bool burst_left = limits.burst.has_value();
  if (burst_left) {
    // A burst above the quota is refused: tried before (quota shrinks) and after (it grows).
    auto written = put("cpu.max.burst", number(*limits.burst));
    const bool later = limits.quota.value_or(0) != 0;
    if (!written && (written.error().sys_errno() != EINVAL || !later)) return written;
    burst_left = !written;
  }
  TRY(cpu_max(limits));
  if (burst_left) TRY(put("cpu.max.burst", number(*limits.burst)));
  return {};
}

Result<void> Limits::cpu_max(const oci::CpuLimits& limits) {
  const bool quota = limits.quota.value_or(0) != 0;
  const bool period = limits.period.value_or(0) != 0;
  if (!quota && !period) return {};
  if (!period) return put("cpu.max", limit_text(*limits.quota, "max"));  // keeps the period
  if (quota || !writer_.updating())
    return put("cpu.max", cpu_max_text(limits.quota, limits.period));
  TRY_ASSIGN(const std::string current, read_value(dir_, "cpu.max"));
  return put("cpu.max", fmt::format("{} {}", current.substr(0, current.find(' ')), *limits.period));
}

Result<void> Limits::cpuset(const oci::CpuLimits& limits) {
  if (!limits.cpus.empty()) TRY(put("cpuset.cpus", limits.cpus));
  if (!limits.mems.empty()) TRY(put("cpuset.mems", limits.mems));
  return {};
}

Result<void> Limits::check_usage(const oci::MemoryLimits& limits) {
  if (!limits.check_before_update.value_or(false)) return {};
  // v2 takes any limit and kills to reach it; who asked to be safe from that gets an error.
  const auto usage = read_number(dir_, "memory.current");
  const auto too_small = [&](const std::optional<int64_t>& limit) {
    return usage && limit.value_or(0) > 0 && static_cast<uint64_t>(*limit) < *usage;
  };
  const auto reject = [&](const char* what, int64_t limit) {
    return fail(Errc::kInvalid,
                fmt::format("rejecting {} limit {}: current usage is {}", what, limit, *usage));
  };
  if (too_small(limits.swap)) return reject("memory+swap", *limits.swap);
  if (too_small(limits.limit)) return reject("memory", *limits.limit);
  return {};
}

Result<void> Limits::swap(const oci::MemoryLimits& limits) {
  TRY_ASSIGN(const std::optional<std::string> value, swap_max(limits));
  if (!value) return {};
  auto written = put("memory.swap.max", *value);
  // A kernel without swap has no such file; no swap is also what "0" and "max" come to.
  const bool harmless = *value == "max" || *value == "0";
  if (written || written.error().sys_errno() != ENOENT || !has_file(dir_, "memory.max")) {
    return written;
  }
  if (harmless) return {};
  return fail(Errc::kUnsupported, "cannot set a swap limit: this kernel does no swap accounting");
}

Result<void> Limits::memory(const oci::MemoryLimits& limits) {
  if (limits.kernel || limits.kernel_tcp) {
    warnings_.emplace_back("kernel memory limits are ignored: the kernel no longer has them");
  }
  if (limits.swappiness) warnings_.emplace_back("swappiness is ignored: cgroup v2 has none");
  if (limits.disable_oom_killer.value_or(false)) {
    warnings_.emplace_back("disableOOMKiller is ignored: cgroup v2 has none");
  }
  TRY(check_usage(limits));
  TRY(swap(limits));
  if (limits.limit.value_or(0) != 0) TRY(put("memory.max", limit_text(*limits.limit, "max")));
  if (limits.reservation.value_or(0) != 0) {
    TRY(put("memory.low", limit_text(*limits.reservation, "max")));
  }
  return {};
}

Result<void> Limits::io_weight(const oci::BlockIo& limits) {
  const bool bfq = has_file(dir_, "io.bfq.weight");
  // bfq takes weights per device only in kernels that show a "default N" line.
  const bool devices =
      !bfq || read_value(dir_, "io.bfq.weight").value_or(std::string()).starts_with("default");
  const char* file = bfq ? "io.bfq.weight" : "io.weight";
  const auto text = [&](uint16_t weight) {
    return bfq ? number(weight) : number(io_weight_from_blkio(weight));
  };
  if (limits.weight.value_or(0) != 0) {
    TRY(devices ? writer_.write_keyed(dir_, file, "default", text(*limits.weight), "100")
                : put(file, text(*limits.weight)));
  }
  for (const oci::WeightDevice& device : limits.weight_device) {
    if (device.weight.value_or(0) == 0) continue;
    const std::string key = fmt::format("{}:{}", device.major, device.minor);
    if (!devices) {
      return fail(Errc::kUnsupported,
                  fmt::format("cannot set the I/O weight of device {}: this kernel's bfq has none "
                              "per device",
                              key));
    }
    TRY(writer_.write_keyed(dir_, file, key, text(*device.weight), "default"));
  }
  return {};
}

Result<void> Limits::io_max(const std::vector<oci::ThrottleDevice>& devices, const char* key) {
  for (const oci::ThrottleDevice& device : devices) {
    const std::string value =
        device.rate == 0 ? fmt::format("{}=max", key) : fmt::format("{}={}", key, device.rate);
    TRY(writer_.write_keyed(dir_, "io.max", fmt::format("{}:{}", device.major, device.minor), value,
                            "rbps=max wbps=max riops=max wiops=max"));
  }
  return {};
}

Result<void> Limits::block_io(const oci::BlockIo& limits) {
  if (limits.leaf_weight) warnings_.emplace_back("leafWeight is ignored: cgroup v2 has none");
  TRY(io_weight(limits));
  TRY(io_max(limits.read_bps, "rbps"));
  TRY(io_max(limits.write_bps, "wbps"));
  TRY(io_max(limits.read_iops, "riops"));
  return io_max(limits.write_iops, "wiops");
}

Result<void> Limits::network(const oci::NetworkLimits& limits) {
  if (limits.class_id.value_or(0) == 0 && limits.priorities.empty()) return {};
  return fail(Errc::kUnsupported,
              fmt::format("cannot set {}: this host uses cgroup v2, which has no {} controller",
                          limits.priorities.empty() ? "network class id" : "network priorities",
                          limits.priorities.empty() ? "net_cls" : "net_prio"));
}

Result<void> Limits::rdma(const std::map<std::string, oci::RdmaLimit>& limits) {
  for (const auto& [device, limit] : limits) {
    TRY_ASSIGN(const std::string text, rdma_text(device, limit));
    TRY(writer_.write_keyed(dir_, "rdma.max", device, text, "hca_handle=max hca_object=max"));
  }
  return {};
}

Result<void> Limits::unified(const std::map<std::string, std::string>& values) {
  for (const auto& [key, value] : values) {
    if (key.empty() || key.find('/') != std::string::npos) {
      return fail(Errc::kInvalid,
                  fmt::format("unified resource \"{}\" must be a file name (no slashes)", key));
    }
    // One line per write: files with a line per device take no more.
    std::string_view rest = value;
    do {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      auto written = put(key, line);
      if (written) continue;
      if (written.error().sys_errno() != ENOENT) return written;
      const std::string_view controller = std::string_view(key).substr(0, key.find('.'));
      const bool known = has_file(dir_, fmt::format("{}.stat", controller)) ||
                         has_file(dir_, fmt::format("{}.max", controller));
      return fail(Errc::kUnsupported,
                  known ? fmt::format("unified resource \"{}\" can't be set: no such file", key)
                        : fmt::format("unified resource \"{}\" can't be set: controller \"{}\" not "
                                      "available",
                                      key, controller));
    } while (!rest.empty());
  }
  return {};
}

Result<void> Limits::write_all(const oci::Resources& resources) {
  if (resources.pids_limit) {
    TRY(explain(put("pids.max", pids_text(*resources.pids_limit)), "pids", "pids limit"));
  }
  if (resources.memory) TRY(explain(memory(*resources.memory), "memory", "memory limit"));
  if (resources.block_io) TRY(explain(block_io(*resources.block_io), "io", "block I/O limits"));
  if (resources.cpu) {
    TRY(explain(cpu(*resources.cpu), "cpu", "cpu limits"));
    TRY(explain(cpuset(*resources.cpu), "cpuset", "cpuset cpus and mems"));
  }
  TRY(explain(write_hugetlb_unified(dir_, resources.hugepages, writer_), "hugetlb",
              "hugepage limits"));
  TRY(explain(rdma(resources.rdma), "rdma", "rdma limits"));
  if (resources.network) TRY(network(*resources.network));
  return unified(resources.unified);
}

}  // namespace

Result<void> write_v2_limits(const std::string& dir, const oci::Resources& resources,
                             std::string_view not_enabled, Writer& writer,
                             std::vector<std::string>& warnings) {
  return Limits(dir, not_enabled, writer, warnings).write_all(resources);
}

bool wants_domain_controllers(const oci::Resources& resources) {
  if (resources.memory || resources.block_io || !resources.hugepages.empty() ||
      !resources.rdma.empty()) {
    return true;
  }
  for (const auto& [key, value] : resources.unified) {
    const std::string_view controller = std::string_view(key).substr(0, key.find('.'));
    if (controller != "cpu" && controller != "cpuset" && controller != "pids" &&
        controller != "cgroup") {
      return true;
    }
  }
  return false;
}

}  // namespace amphora::cgroup
