// SPDX-License-Identifier: Apache-2.0
// Loading and attaching a cgroup's device program. Only our own programs are replaced or taken away.
#pragma once

#include <linux/bpf.h>

#include <span>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::cgroup {

/// Verifies and loads a device program.
Result<UniqueFd> load_device_program(std::span<const struct bpf_insn> program);
/// Attaches it to the cgroup directory, in the place of what an earlier call attached there: at no
/// moment is the cgroup without a program. `fresh`: a directory just made holds none of ours.
Result<void> attach_device_program(int cgroup_fd, int program_fd, bool fresh);
/// How many device programs are attached to this cgroup itself.
Result<size_t> count_device_programs(int cgroup_fd);

}  // namespace amphora::cgroup
