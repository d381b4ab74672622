// SPDX-License-Identifier: Apache-2.0
// state.json: what amphora keeps about a container between calls, and the state object that the
// runtime spec defines (given to hooks and printed by `state`). Only spec.cc and state.cc see JSON.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::oci {

enum class Status : uint8_t { kCreating, kCreated, kRunning, kPaused, kStopped };
/// "creating", "created", "running", "paused", "stopped".
const char* to_string(Status status) noexcept;

/// Container id rule of runc: letters, digits and "_+-.", not "." or "..", at most 1024 bytes.
Result<void> check_id(std::string_view id);

/// The record in the state directory. A newer amphora reads older ones: unknown members are kept
/// out, absent ones have defaults; `version` rises only when an old reader would misunderstand.
struct State {
  int version = 1;
  std::string id, bundle, rootfs, created;  // absolute paths; created: RFC 3339, nanoseconds, UTC
  std::string oci_version;
  int pid = 0;               // init, in the host's pid namespace; 0: none was ever made
  uint64_t start_time = 0;   // of init, /proc/PID/stat field 22
  std::string kind;          // "native", "wasm-module", ...
  std::string reason;        // detection's words
  std::string cgroups_path;  // spec's linux.cgroupsPath as given
  std::map<std::string, std::string>
      cgroup_dirs;           // hierarchy -> path below its mount; "" = unified
  std::string systemd_unit;  // scope made by the systemd driver, empty if none
  /// linux.intelRdt: where resctrl is mounted, the class of service and the monitoring group there
  /// (absolute; empty: none), and whether the class is this container's alone.
  std::string rdt_root, rdt_class, rdt_monitor;
  bool rdt_own = false;
  bool own_pid_namespace = false;
  std::optional<int> exit_code;  // recorded by who reaped init
  std::string exited_at;         // RFC 3339
  std::vector<Hook> poststop;    // for delete after the bundle is gone
  std::map<std::string, std::string> annotations;
};

std::string to_json(const State& state);
Result<State> parse_state(std::string_view json);

/// The spec's state object: ociVersion, id, status, pid, bundle, annotations; for hooks' stdin.
std::string hook_state_json(const State& state, Status status, int pid);
/// ContainerProcessState for a seccomp agent: fds ["seccompFd"], pid, metadata and the state.
std::string seccomp_state_json(const State& state, Status status, int pid,
                               const std::string& metadata);
/// What `amphora state` prints: 2-space indent, no newline; runc's members and order.
std::string state_report_json(const State& state, Status status);

}  // namespace amphora::oci
