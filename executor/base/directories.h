// SPDX-License-Identifier: Apache-2.0
// Directories of the administrator's own, made on the way to a place of ours, and what is in one. Nothing below a container's
// root is made here: that is executor/init's, beneath a held descriptor.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "executor/base/error.h"

namespace amphora {

/// mkdir -p: what is there stays as it is, whatever its mode. The error names the one that failed.
Result<void> make_directories(const std::string& path, mode_t parents, mode_t last);

/// The names in an open directory (borrowed, O_RDONLY), without "." and "..", in no order.
Result<std::vector<std::string>> names_in(int dir_fd);

}  // namespace amphora
