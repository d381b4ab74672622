// SPDX-License-Identifier: Apache-2.0
// Signal numbers from what people type: "9", "KILL", "SIGKILL", "sigkill", "RTMIN+3".
#pragma once

#include <string_view>

#include "executor/base/error.h"

namespace amphora::cli {

/// kInvalid: unknown signal "X".
Result<int> parse_signal(std::string_view text);

}  // namespace amphora::cli
