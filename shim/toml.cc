// SPDX-License-Identifier: Apache-2.0
// A reader of TOML. See toml.h.
#include "shim/toml.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "executor/base/error.h"

namespace amphora::shim {
namespace {

constexpr int kMaxDepth = 32;

bool is_bare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

void append_utf8(std::string& out, uint32_t c) {
  const auto tail = [&](unsigned shift) {
    out += static_cast<char>(0x80U | ((c >> shift) & 0x3fU));
  };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0U | (c >> 6U));
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0U | (c >> 12U));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0U | (c >> 18U));
    tail(12);
    tail(6);
    tail(0);
  }
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Result<std::vector<TomlEntry>> document() {
    bool below = false;  // a table has begun: nothing after it is at the top
    for (;;) {
      TRY(skip_lines());
      if (at_end()) return std::move(entries_);
      if (take('[')) {
        below = true;
        const bool array = take('[');
        TRY_ASSIGN(const Key key, read_key());
        if (!take(']') || (array && !take(']'))) return bad("expected ']'");
        TRY(add(key.first, OtherToml{}));
      } else {
        TRY_ASSIGN(const Key key, read_key());
        if (!take('=')) return bad("expected '='");
        TRY_ASSIGN(TomlValue value, read_value(0));
        if (!below) {
          TRY(add(key.first, key.dotted ? TomlValue(OtherToml{}) : std::move(value)));
        }
      }
      TRY(end_line());
    }
  }

 private:
  struct Key {
    std::string first;
    bool dotted = false;
  };

  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  void skip_blanks() {
    while (peek() == ' ' || peek() == '\t') ++at_;
  }
  /// A line's end; false when there is none here.
  bool take_newline() { return take('\n') || take("\r\n"); }
  void skip_comment() {
    if (!take('#')) return;
    while (!at_end() && text_[at_] != '\n') ++at_;
  }
  std::unexpected<Error> bad(const char* what) const {
    const auto line = 1 + std::ranges::count(text_.substr(0, at_), '\n');
    return fail(Errc::kInvalid, "line " + std::to_string(line) + ": " + what);
  }

  /// Blanks, comments and empty lines.
  Result<void> skip_lines() {
    do {
      skip_blanks();
      skip_comment();
    } while (take_newline());
    return {};
  }
  Result<void> end_line() {
    skip_blanks();
    skip_comment();
    if (at_end() || take_newline()) return {};
    return bad("expected the end of the line");
  }

  Result<void> add(const std::string& key, TomlValue value) {
    const auto same = std::ranges::find(entries_, key, &TomlEntry::key);
    if (same == entries_.end()) {
      entries_.push_back({key, std::move(value)});
    } else if (!std::holds_alternative<OtherToml>(value) ||
               !std::holds_alternative<OtherToml>(same->value)) {
      return bad("a key comes twice");
    }
    return {};
  }

  Result<Key> read_key() {
    Key key;
    for (bool first = true;; first = false) {
      skip_blanks();
      std::string part;
      if (peek() == '"' || peek() == '\'') {
        TRY_ASSIGN(part, read_string(false));
      } else {
        while (!at_end() && is_bare(text_[at_])) part += text_[at_++];
        if (part.empty()) return bad("expected a key");
      }
      if (first) key.first = std::move(part);
      skip_blanks();
      if (!take('.')) return key;
      key.dotted = true;
    }
  }

  Result<TomlValue> read_value(int depth) {
    if (depth == kMaxDepth) return bad("nested too deeply");
    skip_blanks();
    switch (peek()) {
      case '"':
      case '\'': {
        TRY_ASSIGN(std::string text, read_string(true));
        return TomlValue(std::move(text));
      }
      case '[':
        TRY(read_array(depth));
        return TomlValue(OtherToml{});
      case '{':
        TRY(read_inline_table(depth));
        return TomlValue(OtherToml{});
      default:
        return read_word();
    }
  }

  /// true, false, a number or a date, which may have a blank before its time.
  Result<TomlValue> read_word() {
    const size_t begin = at_;
    const auto is_part = [&](char c) {
      return is_bare(c) || c == '+' || c == '.' || c == ':' ||
             (c == ' ' && at_ + 1 < text_.size() && is_bare(text_[at_ + 1]) && at_ > begin);
    };
    while (!at_end() && is_part(text_[at_])) ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    if (word == "true" || word == "false") return TomlValue(word == "true");
    const bool is_number = !word.empty() && (word.find_first_of("0123456789") != word.npos ||
                                             word.ends_with("inf") || word.ends_with("nan"));
    if (!is_number) return bad("expected a value");
    return TomlValue(OtherToml{});
  }

  Result<void> read_array(int depth) {
    ++at_;
    for (;;) {
      TRY(skip_lines());
      if (take(']')) return {};
      TRY(read_value(depth + 1));
      TRY(skip_lines());
      if (take(']')) return {};
      if (!take(',')) return bad("expected ',' or ']'");
    }
  }

  Result<void> read_inline_table(int depth) {
    ++at_;
    skip_blanks();
    if (take('}')) return {};
    for (;;) {
      TRY(read_key());
      if (!take('=')) return bad("expected '='");
      TRY(read_value(depth + 1));
      skip_blanks();
      if (take('}')) return {};
      if (!take(',')) return bad("expected ',' or '}'");
    }
  }

  Result<std::string> read_string(bool may_span_lines) {
    const char quote = text_[at_];
    const std::string three(3, quote);
    const bool lines = may_span_lines && take(std::string_view(three));
    if (lines) {
      take_newline();  // the first one is no part of it
    } else {
      ++at_;
    }
    std::string out;
    for (;;) {
      if (at_end()) return bad("a string has no end");
      if (lines ? take(std::string_view(three)) : take(quote)) {
        // Up to two more are the string's own last characters.
        while (lines && peek() == quote) out += text_[at_++];
        return out;
      }
      const char c = text_[at_++];
      if (c == '\\' && quote == '"') {
        TRY(read_escape(lines, out));
      } else if ((c == '\n' || c == '\r') ? !lines
                                          : (c >= 0 && c < ' ' && c != '\t') || c == 0x7f) {
        return bad("a control character in a string");
      } else {
        out += c;
      }
    }
  }

  Result<void> read_escape(bool lines, std::string& out) {
    constexpr std::string_view kLetters = "btnfr\"\\";
    constexpr std::string_view kMeant = "\b\t\n\f\r\"\\";
    const char c = peek();
    if (const size_t i = kLetters.find(c); !at_end() && i != kLetters.npos) {
      ++at_;
      out += kMeant[i];
      return {};
    }
    if (c == 'u' || c == 'U') {
      ++at_;
      return read_code_point(c == 'u' ? 4 : 8, out);
    }
    const size_t begin = at_;
    skip_blanks();
    if (!lines || !take_newline()) {
      at_ = begin;
      return bad("an unknown escape");
    }
    // A line that ends with a backslash goes on at the next character.
    do skip_blanks();
    while (take_newline());
    return {};
  }

  Result<void> read_code_point(int digits, std::string& out) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char c = peek();
      const std::string_view hex = "0123456789abcdef0123456789ABCDEF";
      const size_t digit = hex.find(c);
      if (at_end() || digit == std::string_view::npos || value > 0x10ffff)
        return bad("no code point");
      value = value * 16 + static_cast<uint32_t>(digit % 16);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return bad("no code point");
    append_utf8(out, value);
    return {};
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<TomlEntry> entries_;
};

}  // namespace

Result<std::vector<TomlEntry>> read_toml(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  return Reader(text).document();
}

}  // namespace amphora::shim
