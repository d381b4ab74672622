// SPDX-License-Identifier: Apache-2.0
// The spec's mounts, read once: each with its place in the container, its parsed options and what earlier
// mounts of the list make of that place. The steps are mounts.cc's to plan. Pure.
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"
#include "executor/setup/mount_options.h"

namespace amphora::setup {

struct PlannedMount {
  const oci::Mount* mount;  ///< borrowed from the spec, never null
  std::string target;       ///< the destination as a clean absolute path in the container
  MountOptions options;     ///< linux.mountLabel among the filesystem's own, where it is for them
  /// The place is a name in /dev, where an earlier mount put a new tmpfs that nothing has covered since:
  /// it is made there by its name, without looking the path up.
  bool in_new_dev = false;

  /// "mount SOURCE on DESTINATION", for errors.
  std::string noun() const;
};

struct MountTable {
  std::vector<PlannedMount> mounts;  ///< in the spec's order
  /// After the last mount /proc is the plan's own new procfs, which only the kernel makes names in.
  bool new_proc = false;
};

/// kInvalid names the mount and its option.
Result<MountTable> read_mounts(const oci::Spec& spec);

}  // namespace amphora::setup
