// SPDX-License-Identifier: Apache-2.0
// See gvariant.h. The grammar is GLib's ("GVariant Text Format").
#include "executor/cgroup/gvariant.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/cgroup/dbus_message.h"

namespace amphora::cgroup {
namespace {

constexpr int kMaxDepth = 8;
constexpr size_t kMaxText = 64 << 10;

struct Keyword {
  std::string_view word;
  char type;
};
constexpr std::array kKeywords = {
    Keyword{"boolean", 'b'}, Keyword{"byte", 'y'},   Keyword{"int16", 'n'}, Keyword{"uint16", 'q'},
    Keyword{"int32", 'i'},   Keyword{"uint32", 'u'}, Keyword{"int64", 'x'}, Keyword{"uint64", 't'},
    Keyword{"double", 'd'},  Keyword{"string", 's'},
};

bool fits(char type, int64_t value) {
  switch (type) {
    case 'n':
      return value >= INT16_MIN && value <= INT16_MAX;
    case 'i':
      return value >= INT32_MIN && value <= INT32_MAX;
    default:
      return true;
  }
}

uint64_t highest(char type) {
  switch (type) {
    case 'y':
      return UINT8_MAX;
    case 'q':
      return UINT16_MAX;
    case 'u':
      return UINT32_MAX;
    default:
      return UINT64_MAX;
  }
}

bool is_signed(char type) { return type == 'n' || type == 'i' || type == 'x'; }

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<DBusValue> all() {
    if (text_.size() > kMaxText) return wrong("is too long");
    TRY_ASSIGN(DBusValue value, value_of("", 0));
    blanks();
    if (at_ != text_.size()) return wrong("has more after its value");
    return value;
  }

 private:
  std::unexpected<Error> wrong(std::string_view what) const {
    return fail(Errc::kInvalid, fmt::format("at {}: {}", at_, what));
  }
  void blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n'))
      ++at_;
  }
  char peek() {
    blanks();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  std::string_view word() {
    blanks();
    const size_t begin = at_;
    const auto part = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '.' || c == '-' || c == '+';
    };
    while (at_ < text_.size() && part(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  /// `type`: what it must be, empty: as it says itself.
  Result<DBusValue> value_of(std::string_view type, int depth) {
    if (depth > kMaxDepth) return wrong("is nested too deeply");
    switch (peek()) {
      case '\'':
      case '"':
        if (!type.empty() && type != "s") return wrong("a string is not what its type says");
        return string();
      case '[':
        return array(type, depth);
      case '(':
        return tuple(type, depth);
      case '@':
        return typed(depth);
      default:
        return plain(type, depth);
    }
  }

  Result<DBusValue> typed(int depth) {
    ++at_;
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != ' ') ++at_;
    const std::string_view type = text_.substr(begin, at_ - begin);
    size_t end = 0;
    if (!complete(type, end, 0) || end != type.size()) return wrong("has no type behind \"@\"");
    return value_of(type, depth + 1);
  }

  /// One complete type from `end` on, of those that are known here.
  static bool complete(std::string_view type, size_t& end, int depth) {
    if (depth > kMaxDepth || end >= type.size()) return false;
    const char first = type[end++];
    if (first == 'a') return complete(type, end, depth + 1);
    if (first != '(') return std::string_view("bynqiuxtds").find(first) != std::string_view::npos;
    bool any = false;
    while (end < type.size() && type[end] != ')') {
      if (!complete(type, end, depth + 1)) return false;
      any = true;
    }
    if (!any || end >= type.size()) return false;
    ++end;
    return true;
  }

  Result<DBusValue> plain(std::string_view type, int depth) {
    const std::string_view said = word();
    if (said.empty()) return wrong("has no value");
    const auto keyword = std::ranges::find(kKeywords, said, &Keyword::word);
    if (keyword != kKeywords.end()) {
      const std::string named(1, keyword->type);
      if (!type.empty() && type != named) return wrong("two types disagree");
      return value_of(named, depth + 1);
    }
    if (said == "true" || said == "false") {
      if (!type.empty() && type != "b") return wrong("a boolean is not what its type says");
      return DBusValue{"b", said == "true" ? uint64_t{1} : 0, {}, {}};
    }
    return number(said, type);
  }

  Result<DBusValue> number(std::string_view said, std::string_view type) {
    const bool fraction =
        said.find_first_of(".eE") != std::string_view::npos && !said.starts_with("0x");
    std::string kind(type);
    if (kind.empty()) kind = fraction ? "d" : "i";
    if (kind.size() != 1 || kind == "s" || kind == "b") {
      return wrong("a number is not what its type says");
    }
    const std::string_view digits = said.starts_with('+') ? said.substr(1) : said;
    const char* const end = digits.data() + digits.size();
    if (kind == "d") {
      double value = 0;
      const auto [stop, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (error != std::errc() || stop != end || !std::isfinite(value))
        return wrong("is no number");
      return DBusValue{kind, std::bit_cast<uint64_t>(value), {}, {}};
    }
    const bool hex = digits.starts_with("0x");
    const char* const begin = digits.data() + (hex ? 2 : 0);
    if (is_signed(kind[0])) {
      int64_t value = 0;
      const auto [stop, error] = std::from_chars(begin, end, value, hex ? 16 : 10);
      if (error != std::errc() || stop != end || !fits(kind[0], value))
        return wrong("is no such number");
      return DBusValue{kind, static_cast<uint64_t>(value), {}, {}};
    }
    uint64_t value = 0;
    const auto [stop, error] = std::from_chars(begin, end, value, hex ? 16 : 10);
    if (error != std::errc() || stop != end || value > highest(kind[0]))
      return wrong("is no such number");
    return DBusValue{kind, value, {}, {}};
  }

  Result<DBusValue> string() {
    const char quote = text_[at_++];
    DBusValue value{"s", 0, {}, {}};
    for (; at_ < text_.size() && text_[at_] != quote; ++at_) {
      char c = text_[at_];
      if (c == '\\') {
        if (++at_ == text_.size()) break;
        constexpr std::string_view kFrom = "abfnrtv", kTo = "\a\b\f\n\r\t\v";
        c = text_[at_];
        const size_t known = kFrom.find(c);
        if (known != std::string_view::npos) c = kTo[known];
        if (c == 'u' || c == 'U') return wrong("\\u is not known here; write the character itself");
      }
      if (c == '\0') return wrong("has a NUL");
      value.text += c;
    }
    if (at_ == text_.size()) return wrong("a string has no end");
    ++at_;
    return value;
  }

  Result<DBusValue> array(std::string_view type, int depth) {
    ++at_;
    if (!type.empty() && !type.starts_with('a')) return wrong("an array is not what its type says");
    std::string item(type.empty() ? type : type.substr(1));
    DBusValue value;
    while (!take(']')) {
      if (!value.items.empty() && !take(',')) return wrong("an array has no end");
      TRY_ASSIGN(DBusValue next, value_of(item, depth + 1));
      item = next.signature;
      value.items.push_back(std::move(next));
    }
    if (item.empty()) return wrong("an empty array needs a type, as in \"@as []\"");
    value.signature = "a" + item;
    return value;
  }

  Result<DBusValue> tuple(std::string_view type, int depth) {
    ++at_;
    if (!type.empty() && !type.starts_with('(')) return wrong("a tuple is not what its type says");
    DBusValue value;
    value.signature = "(";
    size_t at = 1;
    while (!take(')')) {
      if (!value.items.empty() && !take(',')) return wrong("a tuple has no end");
      if (!value.items.empty() && take(')')) break;  // "(1,)"
      std::string_view item;
      if (!type.empty()) {
        size_t end = at;
        if (!complete(type, end, 0)) return wrong("a tuple has more than its type");
        item = type.substr(at, end - at);
        at = end;
      }
      TRY_ASSIGN(DBusValue next, value_of(item, depth + 1));
      value.signature += next.signature;
      value.items.push_back(std::move(next));
    }
    value.signature += ")";
    if (value.items.empty() || (!type.empty() && value.signature != type)) {
      return wrong("a tuple is not what its type says");
    }
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

size_t alignment_of(char type) {
  switch (type) {
    case 'y':
    case 'g':
      return 1;
    case 'n':
    case 'q':
      return 2;
    case 'x':
    case 't':
    case 'd':
    case '(':
      return 8;
    default:
      return 4;
  }
}

/// Seconds as systemd's properties count them.
Result<DBusValue> microseconds(const DBusValue& seconds) {
  constexpr uint64_t kSecond = 1000000;
  DBusValue out{"t", 0, {}, {}};
  const char type = seconds.signature[0];
  if (type == 'd') {
    const auto value = std::bit_cast<double>(seconds.number);
    if (value < 0 || value > 1e12) return fail(Errc::kInvalid, "is no time");
    out.number = static_cast<uint64_t>(value * static_cast<double>(kSecond));
    return out;
  }
  if (std::string_view("ynqiuxt").find(type) == std::string_view::npos) {
    return fail(Errc::kInvalid, "is no number of seconds");
  }
  if ((is_signed(type) && static_cast<int64_t>(seconds.number) < 0) ||
      seconds.number > UINT64_MAX / kSecond) {
    return fail(Errc::kInvalid, "is no time");
  }
  out.number = seconds.number * kSecond;
  return out;
}

}  // namespace

Result<DBusValue> parse_gvariant(std::string_view text) { return Parser(text).all(); }

void append(dbus::Writer& out, const DBusValue& value) {
  switch (value.signature[0]) {
    case 'y':
      out.byte(static_cast<uint8_t>(value.number));
      break;
    case 'n':
    case 'q':
      out.u16(static_cast<uint16_t>(value.number));
      break;
    case 'b':
    case 'i':
    case 'u':
      out.u32(static_cast<uint32_t>(value.number));
      break;
    case 's':
      out.text(value.text);
      break;
    case 'a': {
      const auto array = out.begin_array(alignment_of(value.signature[1]));
      for (const DBusValue& item : value.items) append(out, item);
      out.end_array(array);
      break;
    }
    case '(':
      out.pad(8);
      for (const DBusValue& item : value.items) append(out, item);
      break;
    default:
      out.u64(value.number);
  }
}

Result<std::vector<NamedValue>> annotated_properties(
    const std::map<std::string, std::string>& annotations) {
  constexpr std::string_view kPrefix = "org.systemd.property.";
  std::vector<NamedValue> properties;
  for (const auto& [key, text] : annotations) {
    if (!key.starts_with(kPrefix)) continue;
    std::string name = key.substr(kPrefix.size());
    const bool letters = std::ranges::all_of(
        name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
    if (!letters || name.size() < 3) {
      return fail(
          Errc::kInvalid,
          fmt::format("annotation {}: \"{}\" is not the name of a unit's property", key, name));
    }
    auto value = parse_gvariant(text);
    const size_t size = name.size();
    if (value && size > 3 && name.ends_with("Sec") && name[size - 4] >= 'a' &&
        name[size - 4] <= 'z') {
      name = name.substr(0, size - 3) + "USec";
      value = microseconds(*value);
    }
    if (!value) {
      return std::unexpected(
          std::move(value).error().context(fmt::format("annotation {}: value \"{}\"", key, text)));
    }
    properties.push_back({std::move(name), std::move(*value)});
  }
  return properties;
}

}  // namespace amphora::cgroup
