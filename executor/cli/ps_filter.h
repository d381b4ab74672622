// SPDX-License-Identifier: Apache-2.0
// The lines of ps that belong to a container. Pure.
#pragma once

#include <sys/types.h>

#include <set>
#include <string>
#include <string_view>

#include "executor/base/error.h"

namespace amphora::cli {

/// The header and each line whose PID column is in `pids`.
Result<std::string> ps_lines(std::string_view output, const std::set<pid_t>& pids);

}  // namespace amphora::cli
