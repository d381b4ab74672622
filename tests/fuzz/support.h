// SPDX-License-Identifier: Apache-2.0
// What the fuzzers share: the input as text or as words, and what every refusal must look like. Not
// here: what a target checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"

namespace amphora::fuzz {

/// libFuzzer's answer to an input that is not to be kept in the corpus.
inline constexpr int kUninteresting = -1;

inline std::string_view text_of(const uint8_t* data, size_t size) {
  // SAFETY: bytes seen as characters.
  return {reinterpret_cast<const char*>(data), size};
}

/// Takes the part up to `separator` off the front of `text`.
inline std::string_view take(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

inline std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) parts.emplace_back(take(text, separator));
  return parts;
}

/// Stands in for a file that the input names: its text is its name, and nothing is opened.
inline Result<std::string> name_as_text(const std::string& path) { return path; }

/// A refusal says what is wrong, is no mistake of ours, and does not grow with what was refused.
template <class T>
void check_error(const Result<T>& result, size_t input_size) {
  if (result) return;
  AMPHORA_CHECK(result.error().code() != Errc::kInternal);
  AMPHORA_CHECK(!result.error().what().empty());
  AMPHORA_CHECK(result.error().what().size() <= 4 * input_size + 4096);
}

}  // namespace amphora::fuzz
