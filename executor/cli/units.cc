// SPDX-License-Identifier: Apache-2.0
// See units.h. Decimals are computed in integers: no locale and no rounding surprises.
#include "executor/cli/units.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace amphora::cli {
namespace {

/// A decimal number in front of `text`, cut off it: whole part and up to nine decimals.
struct Decimal {
  int64_t whole = 0;
  int64_t nanos = 0;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::optional<Decimal> take_decimal(std::string_view& text) {
  Decimal number;
  size_t i = 0;
  for (; i < text.size() && is_digit(text[i]); ++i) {
    if (__builtin_mul_overflow(number.whole, 10, &number.whole) ||
        __builtin_add_overflow(number.whole, text[i] - '0', &number.whole)) {
      return std::nullopt;
    }
  }
  const bool has_whole = i > 0;
  bool has_decimals = false;
  if (i < text.size() && text[i] == '.') {
    int64_t place = 100'000'000;
    for (++i; i < text.size() && is_digit(text[i]); ++i, place /= 10) {
      number.nanos += (text[i] - '0') * place;
      has_decimals = true;
    }
  }
  if (!has_whole && !has_decimals) return std::nullopt;
  text.remove_prefix(i);
  return number;
}

/// number * unit, nullopt when it does not fit.
std::optional<int64_t> times(const Decimal& number, int64_t unit) {
  int64_t whole = 0;
  if (__builtin_mul_overflow(number.whole, unit, &whole)) return std::nullopt;
  const auto part =
      static_cast<int64_t>(static_cast<__int128>(number.nanos) * unit / 1'000'000'000);
  if (__builtin_add_overflow(whole, part, &whole)) return std::nullopt;
  return whole;
}

std::optional<int64_t> size_unit(std::string_view suffix) {
  while (suffix.starts_with(' ')) suffix.remove_prefix(1);
  if (suffix.empty()) return 1;
  constexpr std::string_view kLetters = "kmgtp";
  const char letter = static_cast<char>(suffix[0] | 0x20);
  std::string_view rest = suffix.substr(1);
  if (letter == 'b') return rest.empty() ? std::optional<int64_t>(1) : std::nullopt;
  const size_t power = kLetters.find(letter);
  if (power == std::string_view::npos) return std::nullopt;
  if (!rest.empty() && (rest[0] | 0x20) == 'i') rest.remove_prefix(1);
  if (!rest.empty() && (rest[0] | 0x20) == 'b') rest.remove_prefix(1);
  if (!rest.empty()) return std::nullopt;
  return int64_t{1} << (10 * (power + 1));
}

std::optional<int64_t> take_duration_unit(std::string_view& text) {
  struct Unit {
    std::string_view name;
    int64_t nanoseconds;
  };
  // Longer names first: "ms" is no "m".
  constexpr Unit kUnits[] = {{"ns", 1},
                             {"us", 1'000},
                             {"ms", 1'000'000},
                             {"s", 1'000'000'000},
                             {"m", 60'000'000'000},
                             {"h", 3'600'000'000'000}};
  for (const Unit& unit : kUnits) {
    if (text.starts_with(unit.name)) {
      text.remove_prefix(unit.name.size());
      return unit.nanoseconds;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> parse_size(std::string_view text) {
  if (text == "-1") return -1;
  const auto number = take_decimal(text);
  if (!number) return std::nullopt;
  const auto unit = size_unit(text);
  return unit ? times(*number, *unit) : std::nullopt;
}

std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  if (text == "0") return std::chrono::nanoseconds(0);
  if (text.empty()) return std::nullopt;
  int64_t total = 0;
  while (!text.empty()) {
    const auto number = take_decimal(text);
    if (!number) return std::nullopt;
    const auto unit = take_duration_unit(text);
    const auto part = unit ? times(*number, *unit) : std::nullopt;
    if (!part || __builtin_add_overflow(total, *part, &total)) return std::nullopt;
  }
  return std::chrono::nanoseconds(total);
}

}  // namespace amphora::cli
