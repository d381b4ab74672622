// SPDX-License-Identifier: Apache-2.0
// The table of magic numbers, and words about first bytes. See magic.h.
#include "detect/magic.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace amphora::detect {

namespace {

struct Magic {
  Format format;
  std::string_view bytes;
};

using namespace std::string_view_literals;

// Wasm's eight bytes are the magic and a version field; components use the same magic with a layer
// in the upper half of that field.
constexpr std::string_view kWasmMagic = "\0asm"sv;
constexpr std::array<Magic, 4> kMagics = {{{Format::kElf,
                                            "\x7f"
                                            "ELF"sv},
                                           {Format::kScript, "#!"sv},
                                           {Format::kWasm, "\0asm\x01\0\0\0"sv},
                                           {Format::kComponent, "\0asm\x0d\0\x01\0"sv}}};

constexpr bool starts_with(std::span<const std::byte> head, std::string_view bytes) {
  if (head.size() < bytes.size()) return false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (head[i] != static_cast<std::byte>(bytes[i])) return false;
  }
  return true;
}

/// True when `head`, which is shorter, is how `bytes` begins.
constexpr bool is_cut_short(std::span<const std::byte> head, std::string_view bytes) {
  return head.size() < bytes.size() && starts_with(head, bytes.substr(0, head.size()));
}

constexpr Format classify_bytes(std::span<const std::byte> head) {
  for (const auto& magic : kMagics) {
    if (starts_with(head, magic.bytes)) return magic.format;
  }
  if (head.empty()) return Format::kUnknown;
  WatScan scan;
  switch (scan.feed(head)) {
    case WatScan::Answer::kMore:
    case WatScan::Answer::kParen:
      return Format::kMaybeText;
    case WatScan::Answer::kOther:
    case WatScan::Answer::kNotText:
      break;
  }
  return Format::kUnknown;
}

}  // namespace

Format classify(std::span<const std::byte> head) noexcept { return classify_bytes(head); }

std::string hex(std::span<const std::byte> bytes, size_t limit) {
  std::string out;
  for (const auto byte : bytes.first(std::min(limit, bytes.size()))) {
    fmt::format_to(std::back_inserter(out), "{}{:02x}", out.empty() ? "" : " ",
                   static_cast<unsigned>(byte));
  }
  return out;
}

std::string why_not_wasm(std::span<const std::byte> head) {
  if (head.empty()) return "file is empty";
  const bool magic = starts_with(head, kWasmMagic);
  if (head.size() < 8 && (magic || is_cut_short(head, kWasmMagic))) {
    return fmt::format("header cut short after {} byte{}: {}", head.size(),
                       head.size() == 1 ? "" : "s", hex(head, 8));
  }
  if (magic) return fmt::format("unknown version {}", hex(head.subspan(4), 4));
  return fmt::format("first bytes are {}", hex(head, 4));
}

}  // namespace amphora::detect
