// SPDX-License-Identifier: Apache-2.0
// linux.intelRdt: a container's class of service and its monitoring group in the resctrl filesystem
// (Documentation/filesystems/resctrl.rst): caches and memory bandwidth. Not a cgroup, but made, joined
// and removed with it. Where resctrl is not mounted a spec that asks for it is refused. The state names
// directories; each call opens resctrl's once and all else beneath it, through no link.
#pragma once

#include <string>
#include <string_view>

#include "executor/base/error.h"
#include "executor/cgroup/cgroup.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"

namespace amphora::cgroup {

/// Where resctrl is mounted, of a text like /proc/self/mountinfo; empty: nowhere.
std::string resctrl_root(std::string_view mountinfo);
/// The same of this process. kUnsupported, with what to do, where there is none.
Result<std::string> find_resctrl(int proc_fd);

/// Notes in the state where `make_rdt` will make what, so that a killed creator's can be removed.
void plan_rdt(const std::string& root, const std::string& id, const oci::IntelRdt& rdt,
              oci::State& state);
/// Makes the class and the monitoring group that the state names and writes the schemata. A class that is
/// named and given no schema must be there already. Undone by remove_rdt.
Result<void> make_rdt(const oci::IntelRdt& rdt, oci::State& state);
/// Places a process; its children come after it.
Result<void> add_to_rdt(const oci::State& state, pid_t pid);
/// Removes the monitoring group, and the class if it is the container's own. Missing is no error.
Result<void> remove_rdt(const oci::State& state);

/// What `update` may change of a class: lines as linux.intelRdt has them; empty: stays.
struct RdtChange {
  std::string l3_cache_schema, mem_bw_schema;
  bool empty() const noexcept { return l3_cache_schema.empty() && mem_bw_schema.empty(); }
};
/// Writes the lines and returns the class's schemata as they were, for restore_rdt. kUnsupported: the
/// container has no class, or the processor no such resource (runc's words).
Result<std::string> change_rdt(const oci::State& state, const RdtChange& change);
Result<void> restore_rdt(const oci::State& state, const std::string& schemata);
/// Of the container's class and monitoring group; what this processor has not is left out.
Result<RdtStats> rdt_stats(const oci::State& state);

}  // namespace amphora::cgroup
