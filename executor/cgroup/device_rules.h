// SPDX-License-Identifier: Apache-2.0
// Device rules as a value: the spec's list followed by the runtime's own, folded to a default and
// exceptions; from that, v1's devices.allow/deny lines and v2's BPF program. Pure; loading and
// attaching programs is bpf.h, writing lines v1.cc.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {

/// Access bits as BPF_DEVCG_ACC_* has them.
enum Access : uint8_t { kMknod = 1, kRead = 2, kWrite = 4, kAllAccess = 7 };

struct DeviceException {
  bool allow = false;
  char type = 'c';                       ///< c, b, or a for both
  std::optional<uint32_t> major, minor;  ///< nullopt: any
  uint8_t access = 0;
  bool own = false;  ///< from the runtime's list, not from the spec
};

/// In order; the last one that speaks about an access bit of a device decides it.
struct DeviceFilter {
  bool default_allow =
      false;  ///< a spec without rules allows the runtime's own list only, as in runc
  std::vector<DeviceException> exceptions;
};

/// The spec's rules, then the runtime's own (mknod of anything, null zero full random urandom tty
/// ptmx console-less, pts, tun).
Result<DeviceFilter> fold_device_rules(const std::vector<oci::DeviceRule>& rules);

/// What goes to devices.allow (`allow`) or devices.deny, in order; the first line is "a", which
/// resets the list. A rule that v1's model (a default and exceptions of the other kind) cannot hold
/// is an error.
struct DeviceLine {
  bool allow = false;
  std::string text;
};
Result<std::vector<DeviceLine>> v1_device_lines(const DeviceFilter& filter);

/// A BPF_PROG_TYPE_CGROUP_DEVICE program: returns 1 to allow.
std::vector<struct bpf_insn> device_program(const DeviceFilter& filter);

}  // namespace amphora::cgroup
