// SPDX-License-Identifier: Apache-2.0
// Sizes and durations as Docker's and Go's users type them. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace amphora::cli {

/// "512", "64k", "1.5g", "10MiB", "-1": bytes, in powers of 1024.
std::optional<int64_t> parse_size(std::string_view text);
/// "5s", "1m30s", "250ms", "1.5h"; "0".
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text);

}  // namespace amphora::cli
