// SPDX-License-Identifier: Apache-2.0
// What a directory of the unified hierarchy can do, for the v2 driver and for the unified side of a
// hybrid host alike: giving controllers to children, kill, freeze, events, hugetlb limits.
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/layout.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {

/// The words of cgroup.controllers of the mount's root.
Result<std::vector<std::string>> unified_controllers(const std::string& mount);
/// Writes "+a +b" to cgroup.subtree_control from the mount's root down to the parent of `path`; one
/// by one where the joint write fails. The error of the last controller that could not be given.
Result<void> enable_controllers(const std::string& mount, const std::string& path,
                                const std::vector<std::string>& controllers);
/// SIGKILL to everything in `dir` and below by cgroup.kill (5.14). False: this kernel has none.
Result<bool> kill_unified(const std::string& dir);
/// Waits until cgroup.events says "populated 0"; false when `deadline_ms` passed before.
Result<bool> wait_empty(const std::string& dir, int64_t deadline_ms);
/// cgroup.freeze, and waits for "frozen N".
Result<void> freeze_unified(const std::string& dir, bool frozen);
Result<bool> is_frozen_unified(const std::string& dir);
/// An inotify descriptor on memory.events.
Result<UniqueFd> watch_memory_events(const std::string& dir);
/// hugetlb.SIZE.max and, where it exists, hugetlb.SIZE.rsvd.max.
Result<void> write_hugetlb_unified(const std::string& dir,
                                   const std::vector<oci::HugepageLimit>& limits, Writer& writer);
/// A page size becomes part of a file name: digits and KB, MB or GB.
Result<void> check_page_size(const std::string& page_size);

}  // namespace amphora::cgroup
