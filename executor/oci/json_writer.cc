// SPDX-License-Identifier: Apache-2.0
// Escapes and layout of Go's encoding/json. Bytes that are not UTF-8 (paths may have them) become
// the replacement character, as there.
#include "executor/oci/json_writer.h"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace amphora::oci {

namespace {

bool is_tail(std::string_view text, size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
}

/// Length of the UTF-8 sequence at `at`; 0 if there is none (RFC 3629: no surrogates, no overlong
/// forms, nothing above U+10FFFF).
size_t sequence(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const auto second = at + 1 < text.size() ? static_cast<unsigned char>(text[at + 1]) : 0U;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4 || !is_tail(text, at + 1)) return 0;
  if (lead < 0xe0) return 2;
  if (!is_tail(text, at + 2)) return 0;
  if (lead < 0xf0) {
    const bool bad = (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0);
    return bad ? 0 : 3;
  }
  const bool bad = (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90);
  return bad || !is_tail(text, at + 3) ? 0 : 4;
}

/// The escape of an ASCII character, or nothing.
std::string escape(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '<':
    case '>':
    case '&':
      return fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    default:
      break;
  }
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 ? fmt::format("\\u{:04x}", byte) : std::string();
}

}  // namespace

void JsonWriter::quote(std::string_view text) {
  out_ += '"';
  for (size_t i = 0; i < text.size();) {
    const size_t length = sequence(text, i);
    if (length == 0) {
      out_ += "\\ufffd";
      ++i;
      continue;
    }
    const auto bytes = text.substr(i, length);
    i += length;
    if (length == 1) {
      const auto escaped = escape(bytes[0]);
      out_ += escaped.empty() ? bytes : std::string_view(escaped);
    } else if (bytes == "\u2028" || bytes == "\u2029") {
      out_ += bytes == "\u2028" ? "\\u2028" : "\\u2029";
    } else {
      out_ += bytes;
    }
  }
  out_ += '"';
}

void JsonWriter::new_line() {
  if (indent_ == 0) return;
  out_ += '\n';
  out_.append(size_t{depth_} * indent_, ' ');
}

void JsonWriter::begin(std::string_view name) {
  if (depth_ > 0) {
    if (!first_) out_ += ',';
    new_line();
  }
  first_ = false;
  if (name.empty()) return;
  quote(name);
  out_ += indent_ == 0 ? ":" : ": ";
}

void JsonWriter::open(std::string_view name, char bracket) {
  begin(name);
  out_ += bracket;
  ++depth_;
  first_ = true;
}

void JsonWriter::close(char bracket) {
  --depth_;
  if (!first_) new_line();
  out_ += bracket;
  first_ = false;
}

void JsonWriter::text(std::string_view name, std::string_view value) {
  begin(name);
  quote(value);
}

void JsonWriter::number(std::string_view name, int64_t value) {
  begin(name);
  fmt::format_to(std::back_inserter(out_), "{}", value);
}

void JsonWriter::number(std::string_view name, uint64_t value) {
  begin(name);
  fmt::format_to(std::back_inserter(out_), "{}", value);
}

void JsonWriter::real(std::string_view name, double value) {
  begin(name);
  fmt::format_to(std::back_inserter(out_), "{}", value);
}

void JsonWriter::null(std::string_view name) {
  begin(name);
  out_ += "null";
}

void JsonWriter::boolean(std::string_view name, bool value) {
  begin(name);
  out_ += value ? "true" : "false";
}

void JsonWriter::map(std::string_view name, const std::map<std::string, std::string>& values) {
  open(name, '{');
  for (const auto& [key, value] : values) {
    begin({});
    quote(key);  // not begin(key): a key may be empty
    out_ += indent_ == 0 ? ":" : ": ";
    quote(value);
  }
  close('}');
}

}  // namespace amphora::oci
