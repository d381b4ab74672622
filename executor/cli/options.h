// SPDX-License-Identifier: Apache-2.0
// Option tables and their parser, in the manner of Go's flag package as runc's users know it: -name
// and --name are the same, a value follows as the next word or behind "=", options of a verb may
// stand behind its arguments. A table is constexpr and binds names to members of one struct; parsing
// fills that struct and does nothing else. Not here: verbs, help layout (help.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "executor/base/error.h"

namespace amphora::cli {

/// Whether a value is wanted, and how the help shows it.
enum class Takes : uint8_t { kNothing, kValue };

/// Stores `value` into the struct at `target`; returns what is wrong with it, null if nothing.
using Setter = const char* (*)(void* target, std::string_view value);

struct Option {
  const char* name;  ///< without dashes
  char alias;        ///< one letter, 0: none
  Takes takes;
  Setter set;
  const char* help;                     ///< null: hidden
  const char* shown_default = nullptr;  ///< "(default: ...)" in the help
};

/// Where a value goes, by type. Each returns null or the reason in the words of Go's flag package.
const char* store_value(bool& out, std::string_view value);
const char* store_value(std::string& out, std::string_view value);
const char* store_value(std::vector<std::string>& out, std::string_view value);
const char* store_value(std::optional<std::string>& out, std::string_view value);
const char* store_value(int& out, std::string_view value);
const char* store_value(std::optional<bool>& out, std::string_view value);
const char* store_value(std::optional<int64_t>& out, std::string_view value);

template <auto kMember>
struct MemberOf;
template <class Struct, class Value, Value Struct::* kMember>
struct MemberOf<kMember> {
  using Type = Value;
  static const char* set(void* target, std::string_view value) {
    return store_value(static_cast<Struct*>(target)->*kMember, value);
  }
};

/// One row of a table: option<&RunOptions::bundle>("bundle", 'b', "path to ...").
template <auto kMember>
constexpr Option option(const char* name, char alias, const char* help,
                        const char* shown_default = nullptr) {
  using Type = typename MemberOf<kMember>::Type;
  constexpr bool kFlag = std::is_same_v<Type, bool> || std::is_same_v<Type, std::optional<bool>>;
  return {name, alias,        kFlag ? Takes::kNothing : Takes::kValue, &MemberOf<kMember>::set,
          help, shown_default};
}

/// Whether options may stand behind the first argument. kStop: all from there on is an argument
/// (exec, ps, and the global options, which end at the verb).
enum class Order : uint8_t { kAnywhere, kStop };

struct Parsed {
  std::vector<const char*> arguments;  ///< what is no option, in order
  bool help = false;                   ///< --help or -h was given
};

/// Fills the struct at `target`. Errors are kInvalid in Go's words ("flag provided but not defined:
/// -x"); `target` may then be partly filled.
Result<Parsed> parse_options(std::span<const Option> table, Order order,
                             std::span<const char* const> words, void* target);

/// A whole decimal number (with sign), nothing around it.
std::optional<int64_t> parse_number(std::string_view text);

}  // namespace amphora::cli
