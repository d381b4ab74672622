// SPDX-License-Identifier: Apache-2.0
// Writing answers to stdout (a failed write fails the command) and laying out tables as Go's
// tabwriter does for runc: cells at least 12 wide, 3 blanks between them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"

namespace amphora::cli {

Result<void> print(std::string_view text);

/// Rows of equal length; the last column is not padded.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace amphora::cli
