// SPDX-License-Identifier: Apache-2.0
// See output.h.
#include "executor/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::cli {
namespace {

constexpr size_t kMinimumCell = 12, kPadding = 3;

/// Go counts characters, not bytes: a bundle's path may hold UTF-8.
size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

Result<void> print(std::string_view text) {
  auto written = write_all(STDOUT_FILENO, text);
  if (!written) return std::unexpected(std::move(written).error().context("standard output"));
  return {};
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), kMinimumCell);
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], characters(row[i]) + kPadding);
    }
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - characters(row[i]), ' ');
    }
    out += '\n';
  }
  return out;
}

}  // namespace amphora::cli
