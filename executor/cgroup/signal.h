// SPDX-License-Identifier: Apache-2.0
// Signals to every process of a cgroup where the kernel has no file for it. Pids are made safe
// against reuse with pidfds.
#pragma once

#include <string>

#include "executor/base/error.h"

namespace amphora::cgroup {

/// Sends `signal` once to every process in `dir` and below. Returns how many were reached.
Result<size_t> signal_all(const std::string& dir, int signal);
/// SIGKILL until nothing is left in `dir` and below, as new forks appear; kSystem after the deadline.
Result<void> kill_until_empty(const std::string& dir, int64_t deadline_ms);

}  // namespace amphora::cgroup
