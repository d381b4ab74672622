// SPDX-License-Identifier: Apache-2.0
// See ps_filter.h.
#include "executor/cli/ps_filter.h"

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "executor/base/error.h"
#include "executor/cli/options.h"

namespace amphora::cli {
namespace {

/// The `index`-th blank-separated word.
std::string_view word_at(std::string_view line, size_t index) {
  constexpr std::string_view kBlank = " \t";
  for (size_t i = 0;; ++i) {
    const size_t start = line.find_first_not_of(kBlank);
    if (start == std::string_view::npos) return {};
    line.remove_prefix(start);
    const size_t end = line.find_first_of(kBlank);
    if (i == index) return line.substr(0, end);
    if (end == std::string_view::npos) return {};
    line.remove_prefix(end);
  }
}

std::optional<size_t> pid_column(std::string_view header) {
  for (size_t i = 0;; ++i) {
    const std::string_view word = word_at(header, i);
    if (word.empty()) return std::nullopt;
    if (word == "PID") return i;
  }
}

}  // namespace

Result<std::string> ps_lines(std::string_view output, const std::set<pid_t>& pids) {
  std::optional<size_t> column;
  std::string out;
  bool first = true;
  while (!output.empty()) {
    const size_t end = output.find('\n');
    const std::string_view line = output.substr(0, end);
    output.remove_prefix(end == std::string_view::npos ? output.size() : end + 1);
    if (first) {
      column = pid_column(line);
      if (!column) return fail(Errc::kInvalid, "couldn't find PID field in ps output");
      out.append(line).append("\n");
      first = false;
      continue;
    }
    if (line.empty()) continue;
    const auto pid = parse_number(word_at(line, *column));
    if (!pid) {
      return fail(Errc::kInvalid, "unexpected pid '" + std::string(word_at(line, *column)) + "'");
    }
    if (pids.contains(static_cast<pid_t>(*pid))) out.append(line).append("\n");
  }
  if (first) return fail(Errc::kInvalid, "couldn't find PID field in ps output");
  return out;
}

}  // namespace amphora::cli
