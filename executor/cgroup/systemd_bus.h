// SPDX-License-Identifier: Apache-2.0
// The six method calls and one signal of systemd's D-Bus interface that the driver needs, over one
// connection of our own: libsystemd cannot be loaded into a static program (docs/decisions).
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/cgroup/dbus.h"
#include "executor/cgroup/systemd_properties.h"

namespace amphora::cgroup {

class Systemd {
 public:
  /// Connects to the system's manager (by the bus, else by its own socket), or to the user's.
  static Result<Systemd> connect(bool user);

  unsigned version() const noexcept { return version_; }
  /// StartTransientUnit (mode replace), and waits for its job. `pid` != 0 is put into the unit. A unit
  /// of that name that failed before is reset.
  Result<void> start_transient(const std::string& unit, const std::vector<UnitProperty>& properties,
                               pid_t pid);
  Result<void> set_properties(const std::string& unit, const std::vector<UnitProperty>& properties);
  /// StopUnit and ResetFailedUnit; an unknown unit is no error.
  Result<void> stop(const std::string& unit);
  /// The unit's ControlGroup: "/system.slice/x.scope".
  Result<std::string> control_group(const std::string& unit);

 private:
  Systemd(dbus::Connection connection, bool bus) : connection_(std::move(connection)), bus_(bus) {}
  Result<void> prepare();
  Result<uint32_t> send(const char* method, std::string_view signature, std::string_view body);
  Result<dbus::Message> call(const char* method, std::string_view signature, std::string_view body,
                             std::string_view what);
  Result<uint32_t> ask_property(const std::string& path, const char* interface, const char* name);
  Result<std::string> read_property(uint32_t serial, std::string_view what);
  Result<dbus::Message> reply(uint32_t serial, std::string_view what);
  Result<void> wait_job(const dbus::Message& started, std::string_view unit);

  dbus::Connection connection_;
  bool bus_;  // a bus is between us; else the manager itself is at the other end
  unsigned version_ = 0;
};

}  // namespace amphora::cgroup
