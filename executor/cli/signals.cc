// SPDX-License-Identifier: Apache-2.0
// See signals.h.
#include "executor/cli/signals.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "executor/base/error.h"
#include "executor/cli/options.h"

namespace amphora::cli {
namespace {

/// "RTMIN", "RTMIN+n", "RTMAX", "RTMAX-n"; the kernel's numbers, for libc keeps two for itself.
std::optional<int> real_time(std::string_view name) {
  const bool from_min = name.starts_with("RTMIN");
  if (!from_min && !name.starts_with("RTMAX")) return std::nullopt;
  const std::string_view rest = name.substr(5);
  const int base = from_min ? SIGRTMIN : SIGRTMAX;
  if (rest.empty()) return base;
  if (rest[0] != (from_min ? '+' : '-') || rest.size() < 2 || rest[1] == '-') return std::nullopt;
  const auto offset = parse_number(rest.substr(1));
  if (!offset || *offset < 0 || *offset > SIGRTMAX - SIGRTMIN) return std::nullopt;
  return base + static_cast<int>(from_min ? *offset : -*offset);
}

}  // namespace

Result<int> parse_signal(std::string_view text) {
  if (const auto number = parse_number(text)) {
    if (*number >= 0 && *number <= SIGRTMAX) return static_cast<int>(*number);
    return fail(Errc::kInvalid, "unknown signal \"" + std::string(text) + "\"");
  }
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  std::string_view bare = name;
  if (bare.starts_with("SIG")) bare.remove_prefix(3);
  for (int signal = 1; signal < 32; ++signal) {
    const char* known = sigabbrev_np(signal);
    if (known != nullptr && bare == known) return signal;
  }
  if (bare == "IOT") return SIGABRT;
  if (bare == "IO") return SIGIO;
  if (bare == "CLD") return SIGCHLD;
  if (const auto signal = real_time(bare)) return *signal;
  return fail(Errc::kInvalid, "unknown signal \"" + std::string(text) + "\"");
}

}  // namespace amphora::cli
