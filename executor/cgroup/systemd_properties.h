// SPDX-License-Identifier: Apache-2.0
// The unit properties that say in systemd's words what the spec's resources say: so that a
// daemon-reload, which writes a unit's properties anew, keeps the limits. Pure but for the names of
// character and block drivers, which are handed in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "executor/base/error.h"
#include "executor/cgroup/gvariant.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {

using StringPairs = std::vector<std::pair<std::string, std::string>>;

/// A D-Bus property: b, t, s, ay, as or a(ss) by the alternative, or of a type of its own.
struct UnitProperty {
  std::string name;
  std::variant<bool, uint64_t, std::string, std::vector<uint8_t>, std::vector<std::string>,
               StringPairs, DBusValue>
      value;
};

struct UnitTarget {
  bool v2 = true;
  unsigned version = 0;      ///< systemd's, 252
  std::string proc_devices;  ///< text of /proc/devices
};

/// The limits, for StartTransientUnit and SetUnitProperties alike.
Result<std::vector<UnitProperty>> limit_properties(const oci::Resources& resources,
                                                   const UnitTarget& target);
/// DevicePolicy and DeviceAllow, for StartTransientUnit only.
Result<std::vector<UnitProperty>> device_properties(const std::vector<oci::DeviceRule>& rules,
                                                    const UnitTarget& target);
/// A list such as "0-2,7" as systemd's little-endian bit mask.
Result<std::vector<uint8_t>> cpu_mask(std::string_view list);
/// Microseconds per second, rounded up to the 10 ms that systemd counts in; UINT64_MAX: no limit.
uint64_t quota_per_second(int64_t quota, uint64_t period);
/// "252 (252.39-1~deb12u2)" or "v252" -> 252; 0 if there is no number.
unsigned parse_systemd_version(std::string_view text);

}  // namespace amphora::cgroup
