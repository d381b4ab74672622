// SPDX-License-Identifier: Apache-2.0
// Unit properties. See systemd_properties.h.
#include "executor/cgroup/systemd_properties.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/cgroup/convert.h"
#include "executor/cgroup/device_rules.h"
#include "executor/cgroup/files.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {
namespace {

uint64_t unlimited(int64_t value) { return value < 0 ? UINT64_MAX : static_cast<uint64_t>(value); }

Result<void> cpu_properties(const oci::CpuLimits& cpu, const UnitTarget& target,
                            std::vector<UnitProperty>& out) {
  constexpr unsigned kHasIdleWeight = 252, kHasQuotaPeriod = 242, kHasAllowedCpus = 244;
  const uint64_t shares = cpu.shares.value_or(0);
  if (target.v2 && cpu.idle.value_or(0) == 1 && target.version >= kHasIdleWeight) {
    out.push_back({"CPUWeight", uint64_t{0}});
  } else if (shares != 0) {
    TRY(check_shares(shares));
    out.push_back(target.v2 ? UnitProperty{"CPUWeight", weight_from_shares(shares)}
                            : UnitProperty{"CPUShares", shares});
  }
  const uint64_t period = cpu.period.value_or(0);
  if (period != 0 && target.version >= kHasQuotaPeriod) {
    out.push_back({"CPUQuotaPeriodUSec", period});
  }
  if (cpu.quota.value_or(0) != 0) {
    out.push_back({"CPUQuotaPerSecUSec", quota_per_second(*cpu.quota, period)});
  }
  if (!target.v2 || target.version < kHasAllowedCpus) return {};
  if (!cpu.cpus.empty()) {
    TRY_ASSIGN(auto mask, cpu_mask(cpu.cpus));
    out.push_back({"AllowedCPUs", std::move(mask)});
  }
  if (!cpu.mems.empty()) {
    TRY_ASSIGN(auto mask, cpu_mask(cpu.mems));
    out.push_back({"AllowedMemoryNodes", std::move(mask)});
  }
  return {};
}

Result<void> memory_properties(const oci::MemoryLimits& memory, const UnitTarget& target,
                               std::vector<UnitProperty>& out) {
  if (memory.limit.value_or(0) != 0) {
    out.push_back({target.v2 ? "MemoryMax" : "MemoryLimit", unlimited(*memory.limit)});
  }
  if (!target.v2) return {};
  if (memory.reservation.value_or(0) != 0) {
    out.push_back({"MemoryLow", unlimited(*memory.reservation)});
  }
  TRY_ASSIGN(const std::optional<std::string> swap, swap_max(memory));
  uint64_t value = 0;
  if (swap && parse_number(*swap, value)) out.push_back({"MemorySwapMax", value});
  return {};
}

/// The drivers of one major number in /proc/devices: systemd takes a wildcard by driver name only.
std::vector<std::string> drivers_of(std::string_view text, char type, uint32_t major) {
  std::vector<std::string> names;
  bool in_section = false;
  const std::string_view section = type == 'c' ? "Character devices:" : "Block devices:";
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with(':')) {
      in_section = line == section;
      continue;
    }
    const std::string_view words = trim(line);
    const size_t space = words.find(' ');
    uint64_t number = 0;
    if (!in_section || space == std::string_view::npos) continue;
    if (parse_number(words.substr(0, space), number) && number == major) {
      names.emplace_back(words.substr(space + 1));
    }
  }
  return names;
}

void allow_device(std::string_view line, const UnitTarget& target, StringPairs& allow) {
  // A line of v1_device_lines: "c 1:3 rwm".
  const char type = line[0];
  const std::string_view kind = type == 'c' ? "char" : "block";
  const size_t colon = line.find(':');
  const size_t space = line.find(' ', colon);
  const std::string_view major = line.substr(2, colon - 2);
  const std::string_view minor = line.substr(colon + 1, space - colon - 1);
  const std::string access(line.substr(space + 1));
  uint64_t number = 0;
  if (major == "*") {
    allow.emplace_back(fmt::format("{}-*", kind), access);
  } else if (minor == "*" && parse_number(major, number)) {
    for (const std::string& name :
         drivers_of(target.proc_devices, type, static_cast<uint32_t>(number))) {
      allow.emplace_back(fmt::format("{}-{}", kind, name), access);
    }
  } else {
    allow.emplace_back(fmt::format("/dev/{}/{}:{}", kind, major, minor), access);
  }
}

}  // namespace

uint64_t quota_per_second(int64_t quota, uint64_t period) {
  constexpr uint64_t kSecond = 1000000, kStep = 10000, kDefaultPeriod = 100000;
  if (quota <= 0) return UINT64_MAX;
  const uint64_t used = period == 0 ? kDefaultPeriod : period;
  const auto wanted = static_cast<unsigned __int128>(quota) * kSecond / used;
  if (wanted > UINT64_MAX / 2) return UINT64_MAX;
  return (static_cast<uint64_t>(wanted) + kStep - 1) / kStep * kStep;
}

Result<std::vector<uint8_t>> cpu_mask(std::string_view list) {
  constexpr uint64_t kMost = 65536;
  std::vector<uint8_t> mask;
  std::string_view rest = list;
  while (!rest.empty()) {
    std::string_view part = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
    part = trim(part);
    const size_t dash = part.find('-');
    uint64_t first = 0, last = 0;
    const bool good = parse_number(part.substr(0, dash), first) &&
                      (dash == std::string_view::npos || parse_number(part.substr(dash + 1), last));
    if (dash == std::string_view::npos) last = first;
    if (!good || last < first || last >= kMost) {
      return fail(Errc::kInvalid, fmt::format("\"{}\" is no list of cpus or nodes", list));
    }
    if (mask.size() <= last / 8) mask.resize(last / 8 + 1);
    for (uint64_t bit = first; bit <= last; ++bit) {
      mask[bit / 8] = static_cast<uint8_t>(mask[bit / 8] | 1U << bit % 8);
    }
  }
  return mask;
}

unsigned parse_systemd_version(std::string_view text) {
  const size_t at = text.find_first_of("0123456789");
  unsigned version = 0;
  if (at != std::string_view::npos) {
    std::from_chars(text.data() + at, text.data() + text.size(), version);
  }
  return version;
}

Result<std::vector<UnitProperty>> limit_properties(const oci::Resources& resources,
                                                   const UnitTarget& target) {
  std::vector<UnitProperty> out;
  if (resources.cpu) TRY(cpu_properties(*resources.cpu, target, out));
  if (resources.memory) TRY(memory_properties(*resources.memory, target, out));
  if (resources.pids_limit) {
    const int64_t limit = *resources.pids_limit;
    out.push_back({"TasksMax", limit == 0 ? uint64_t{1} : unlimited(limit)});
  }
  const uint16_t weight = resources.block_io ? resources.block_io->weight.value_or(0) : uint16_t{0};
  if (weight != 0) {
    out.push_back(target.v2 ? UnitProperty{"IOWeight", io_weight_from_blkio(weight)}
                            : UnitProperty{"BlockIOWeight", uint64_t{weight}});
  }
  constexpr unsigned kHasScopeOomPolicy = 253;
  const auto group = resources.unified.find("memory.oom.group");
  if (target.v2 && group != resources.unified.end() && target.version >= kHasScopeOomPolicy) {
    out.push_back({"OOMPolicy", std::string(group->second == "1" ? "kill" : "continue")});
  }
  return out;
}

Result<std::vector<UnitProperty>> device_properties(const std::vector<oci::DeviceRule>& rules,
                                                    const UnitTarget& target) {
  TRY_ASSIGN(const DeviceFilter filter, fold_device_rules(rules));
  // systemd knows a list of what is allowed; for a container that may use everything but some, our
  // own program or lines say the "but".
  if (filter.default_allow) {
    return std::vector<UnitProperty>{{"DevicePolicy", std::string("auto")},
                                     {"DeviceAllow", StringPairs()}};
  }
  // A deny that v1 could not hold is left to the program as well, and systemd's list is the wider.
  DeviceFilter wider = filter;
  auto lines = v1_device_lines(filter);
  if (!lines) {
    std::erase_if(wider.exceptions, [](const DeviceException& e) { return !e.allow; });
    lines = v1_device_lines(wider);
    if (!lines) return std::unexpected(std::move(lines).error());
  }
  StringPairs allow;
  for (const DeviceLine& line : *lines) {
    if (line.allow) allow_device(line.text, target, allow);
  }
  return std::vector<UnitProperty>{{"DevicePolicy", std::string("strict")},
                                   {"DeviceAllow", std::move(allow)}};
}

}  // namespace amphora::cgroup
