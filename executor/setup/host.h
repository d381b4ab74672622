// SPDX-License-Identifier: Apache-2.0
// Host: what this machine can do, probed once and passed as a plain value, so that planning is pure
// and testable. Probing tries things instead of reading version numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "executor/base/fd.h"

namespace amphora::setup {

enum class CgroupMode : uint8_t { kNone, kV1, kHybrid, kUnified };

/// One cgroup v1 hierarchy as mounted here.
struct Hierarchy {
  std::string controllers;  ///< "memory", "cpu,cpuacct", "name=systemd"; as in /proc/self/cgroup
  std::string mount_point;  ///< absolute
  std::string own_path;     ///< our own cgroup below it, from /proc/self/cgroup
};

struct Host {
  CgroupMode cgroup_mode = CgroupMode::kNone;
  std::vector<Hierarchy> hierarchies;  ///< v1 and hybrid; without the unified one
  std::string unified_mount;           ///< cgroup2 mount point (unified or hybrid), else empty
  std::string unified_own_path;        ///< our own cgroup in it
  uint32_t euid = 0, egid = 0;
  bool other_ids = false;          ///< not all of our uids and gids are 0, real and effective
  bool in_user_namespace = false;  ///< our own uid map is not the initial one
  uint64_t own_capabilities = 0;   ///< our effective set, bit n = capability n
  /// Whether we may clone and make mounts in our own mount namespace; who may not leaves that to the
  /// container's init, which is root of its user namespace.
  bool may_mount = true;
  int last_capability = 40;               ///< /proc/sys/kernel/cap_last_cap
  std::optional<bool> apparmor, selinux;  ///< asked only when a container wants a label
  std::optional<bool> kcore;              ///< asked only when a container gets a /dev
  /// Our own verified procfs: every later write to /proc goes through it (CVE-2025-52881).
  UniqueFd proc_fd;
};

/// Whether `capability` (CAP_SETUID...) is in our effective set.
inline bool has_capability(const Host& host, int capability) noexcept {
  return (host.own_capabilities >> static_cast<unsigned>(capability) & 1U) != 0;
}

/// Whether our own user namespace is not the first one.
bool in_user_namespace(int proc_fd) noexcept;
bool in_user_namespace() noexcept;

/// Whether cgroup2 alone is mounted where everybody looks for cgroups.
bool on_cgroup2() noexcept;

/// Whether the kernel has the security module for such labels.
bool apparmor_enabled() noexcept;
bool selinux_enabled() noexcept;

/// Whether the kernel has /proc/kcore.
bool has_kcore(int proc_fd) noexcept;

/// Where procfs and sysfs are mounted here, the deepest first.
Result<std::vector<std::string>> kernel_mounts(int proc_fd);

/// Probes. Costs a handful of system calls; done once per shim or command.
Result<Host> probe_host();

}  // namespace amphora::setup
