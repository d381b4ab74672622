// SPDX-License-Identifier: Apache-2.0
// See mountinfo.h.
#include "executor/base/mountinfo.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace amphora {
namespace {

std::string_view take_until(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

}  // namespace

std::string_view take_line(std::string_view& text) { return take_until(text, '\n'); }

std::optional<MountLine> parse_mount_line(std::string_view line) {
  // Between the point's options and the type come any number of optional fields.
  const size_t dash = line.find(" - ");
  if (dash == std::string_view::npos) return std::nullopt;
  std::string_view filesystem = line.substr(dash + 3);
  std::string_view mount = line.substr(0, dash);
  for (int skipped = 0; skipped < 3; ++skipped) take_until(mount, ' ');  // id, parent, device
  MountLine parsed;
  parsed.root = take_until(mount, ' ');
  parsed.point = take_until(mount, ' ');
  parsed.type = take_until(filesystem, ' ');
  take_until(filesystem, ' ');  // source
  parsed.super = filesystem;
  return parsed;
}

std::string unescape_mount(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    const auto digit = [&](size_t n) {
      const char c = at + n < text.size() ? text[at + n] : 'x';
      return c >= '0' && c <= '7' ? c - '0' : -1;
    };
    if (text[at] == '\\' && digit(1) >= 0 && digit(2) >= 0 && digit(3) >= 0) {
      out += static_cast<char>(digit(1) * 64 + digit(2) * 8 + digit(3));
      at += 3;
    } else {
      out += text[at];
    }
  }
  return out;
}

}  // namespace amphora
