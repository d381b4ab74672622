// SPDX-License-Identifier: Apache-2.0
// The parsing half of probe_host: text of /proc/self/cgroup and /proc/self/mountinfo to hierarchies.
// Apart from host.h because only host.cc and its tests need it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/mountinfo.h"
#include "executor/setup/host.h"

namespace amphora::setup {

/// /proc/self/cgroup: controllers -> path, in the file's order; the "0::" line is `unified`.
struct OwnCgroups {
  std::vector<std::pair<std::string, std::string>> v1;
  std::string unified;
};
OwnCgroups parse_own_cgroups(std::string_view text);

/// Mount points of every procfs and sysfs in lines of mountinfo, the deepest first.
std::vector<std::string> parse_kernel_mounts(std::string_view lines);

/// Collects the mount point of each of our hierarchies from lines of mountinfo. The first mount of a
/// hierarchy counts.
class CgroupTable {
 public:
  explicit CgroupTable(OwnCgroups own);
  /// Whole lines.
  void add_mounts(std::string_view lines);
  /// True when nothing more can be found.
  bool complete() const noexcept;
  void fill(Host& host);

 private:
  void add_mount(const MountLine& mount);

  OwnCgroups own_;
  std::vector<Hierarchy> hierarchies_;
  std::string unified_mount_, unified_own_;
};

}  // namespace amphora::setup
