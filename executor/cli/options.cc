// SPDX-License-Identifier: Apache-2.0
// The parser of option tables. See options.h.
#include "executor/cli/options.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "executor/base/error.h"

namespace amphora::cli {
namespace {

struct Word {
  std::string_view name;                  // without dashes
  std::optional<std::string_view> value;  // behind "="
};

bool looks_like_option(std::string_view word) { return word.size() > 1 && word[0] == '-'; }

Word split(std::string_view word) {
  word.remove_prefix(word.size() > 2 && word[1] == '-' ? 2 : 1);
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return {word, std::nullopt};
  return {word.substr(0, equals), word.substr(equals + 1)};
}

bool is_help(std::string_view name) { return name == "help" || name == "h"; }

const Option* find(std::span<const Option> table, std::string_view name) {
  for (const Option& row : table) {
    if (name == row.name) return &row;
    if (name.size() == 1 && row.alias != 0 && name[0] == row.alias) return &row;
  }
  return nullptr;
}

std::string dashed(std::string_view name) { return std::string("-").append(name); }

Result<void> assign(const Option& row, std::string_view name, std::string_view value,
                    void* target) {
  if (const char* wrong = row.set(target, value)) {
    std::string text =
        row.takes == Takes::kNothing ? "invalid boolean value \"" : "invalid value \"";
    text.append(value).append(row.takes == Takes::kNothing ? "\" for " : "\" for flag ");
    text.append(dashed(name)).append(": ").append(wrong);
    return fail(Errc::kInvalid, std::move(text));
  }
  return {};
}

/// One option at words[i]; moves i over its value.
Result<void> take_option(std::span<const Option> table, std::span<const char* const> words,
                         size_t& i, void* target, Parsed& parsed) {
  const Word word = split(words[i]);
  if (word.name.empty() || word.name[0] == '-' || word.name[0] == '=') {
    return fail(Errc::kInvalid, std::string("bad flag syntax: ") + words[i]);
  }
  const Option* row = find(table, word.name);
  if (row == nullptr && is_help(word.name)) {
    parsed.help = true;
    return {};
  }
  if (row == nullptr) {
    return fail(Errc::kInvalid, "flag provided but not defined: " + dashed(word.name));
  }
  if (word.value) return assign(*row, word.name, *word.value, target);
  if (row->takes == Takes::kNothing) return assign(*row, word.name, "true", target);
  if (i + 1 >= words.size()) {
    return fail(Errc::kInvalid, "flag needs an argument: " + dashed(word.name));
  }
  return assign(*row, word.name, words[++i], target);
}

}  // namespace

std::optional<int64_t> parse_number(std::string_view text) {
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

const char* store_value(bool& out, std::string_view value) {
  for (const char* yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (value == yes) return out = true, nullptr;
  }
  for (const char* no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (value == no) return out = false, nullptr;
  }
  return "parse error";
}

const char* store_value(std::optional<bool>& out, std::string_view value) {
  return store_value(out.emplace(), value);
}

const char* store_value(std::string& out, std::string_view value) {
  out = value;
  return nullptr;
}

const char* store_value(std::optional<std::string>& out, std::string_view value) {
  out = value;
  return nullptr;
}

const char* store_value(std::vector<std::string>& out, std::string_view value) {
  out.emplace_back(value);
  return nullptr;
}

const char* store_value(std::optional<int64_t>& out, std::string_view value) {
  out = parse_number(value);
  return out ? nullptr : "parse error";
}

const char* store_value(int& out, std::string_view value) {
  const std::optional<int64_t> number = parse_number(value);
  if (!number) return "parse error";
  if (*number < std::numeric_limits<int>::min() || *number > std::numeric_limits<int>::max()) {
    return "value out of range";
  }
  out = static_cast<int>(*number);
  return nullptr;
}

Result<Parsed> parse_options(std::span<const Option> table, Order order,
                             std::span<const char* const> words, void* target) {
  Parsed parsed;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const bool behind_argument = !parsed.arguments.empty();
    if (word == "--") {
      // Behind an argument it is one of the program's own words ("exec ID -- -x" keeps it), in front
      // it ends the options and disappears.
      const size_t from = behind_argument ? i : i + 1;
      parsed.arguments.insert(parsed.arguments.end(), words.begin() + static_cast<ptrdiff_t>(from),
                              words.end());
      return parsed;
    }
    const bool known = looks_like_option(word) && find(table, split(word).name) != nullptr;
    // Behind an argument only known options are options: "kill ID -9", "ps ID -ef".
    if (looks_like_option(word) &&
        (!behind_argument || (order == Order::kAnywhere && (known || is_help(split(word).name))))) {
      TRY(take_option(table, words, i, target, parsed));
      continue;
    }
    parsed.arguments.push_back(words[i]);
    if (order == Order::kStop) {
      parsed.arguments.insert(parsed.arguments.end(), words.begin() + static_cast<ptrdiff_t>(i) + 1,
                              words.end());
      return parsed;
    }
  }
  return parsed;
}

}  // namespace amphora::cli
