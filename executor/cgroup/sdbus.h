// SPDX-License-Identifier: Apache-2.0
// The six method calls and one signal of systemd's D-Bus interface that the driver needs. libsystemd
// is loaded on first use, by sdbus.cc alone: a runtime without --systemd-cgroup never pays for it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/cgroup/systemd_properties.h"

namespace amphora::cgroup {

class Systemd {
 public:
  virtual ~Systemd() = default;
  virtual unsigned version() const noexcept = 0;
  /// StartTransientUnit (mode replace), and waits for its job. `pid` != 0 is put into the unit.
  virtual Result<void> start_transient(const std::string& unit,
                                       const std::vector<UnitProperty>& properties, pid_t pid) = 0;
  virtual Result<void> set_properties(const std::string& unit,
                                      const std::vector<UnitProperty>& properties) = 0;
  /// StopUnit and ResetFailedUnit; an unknown unit is no error.
  virtual Result<void> stop(const std::string& unit) = 0;
  /// The unit's ControlGroup: "/system.slice/x.scope".
  virtual Result<std::string> control_group(const std::string& unit) = 0;
};

/// Connects to the system's manager, or to the user's.
Result<std::unique_ptr<Systemd>> connect_systemd(bool user);

}  // namespace amphora::cgroup
