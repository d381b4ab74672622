// SPDX-License-Identifier: Apache-2.0
// Codec of ttrpc frames.
#include "shim/ttrpc/frame.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace amphora::ttrpc {
namespace {

uint32_t read_u32(const unsigned char* at) noexcept {
  return (uint32_t{at[0]} << 24) | (uint32_t{at[1]} << 16) | (uint32_t{at[2]} << 8) | at[3];
}

void write_u32(unsigned char* at, uint32_t value) noexcept {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<unsigned char>(value >> (24 - 8 * i));
}

}  // namespace

Header decode_header(const std::array<unsigned char, kHeaderSize>& bytes) noexcept {
  return {.length = read_u32(bytes.data()),
          .stream = read_u32(bytes.data() + 4),
          .type = bytes[8],
          .flags = bytes[9]};
}

std::array<unsigned char, kHeaderSize> encode_header(const Header& header) noexcept {
  std::array<unsigned char, kHeaderSize> bytes{};
  write_u32(bytes.data(), header.length);
  write_u32(bytes.data() + 4, header.stream);
  bytes[8] = header.type;
  bytes[9] = header.flags;
  return bytes;
}

std::string encode_frame(uint32_t stream, FrameType type, std::string_view data) {
  const auto header = encode_header({.length = static_cast<uint32_t>(data.size()),
                                     .stream = stream,
                                     .type = static_cast<uint8_t>(type),
                                     .flags = 0});
  std::string out;
  out.reserve(kHeaderSize + data.size());
  out.append(header.begin(), header.end());
  out.append(data);
  return out;
}

void Decoder::begin_body() {
  frame_ = Frame{.header = decode_header(header_bytes_), .data = {}, .oversize = false};
  frame_.oversize = frame_.header.length > kMaxData;
  missing_ = frame_.header.length;
  header_have_ = 0;
  in_body_ = true;
}

void Decoder::feed(std::string_view bytes, const std::function<bool(Frame&&)>& sink) {
  while (!bytes.empty() || (in_body_ && missing_ == 0)) {
    if (!in_body_) {
      const size_t take = std::min(kHeaderSize - header_have_, bytes.size());
      std::copy_n(bytes.begin(), take,
                  header_bytes_.begin() + static_cast<std::ptrdiff_t>(header_have_));
      header_have_ += take;
      bytes.remove_prefix(take);
      if (header_have_ < kHeaderSize) return;
      begin_body();
    }
    // The string grows with what arrives and not with what a header promises.
    const size_t take = std::min<size_t>(missing_, bytes.size());
    if (!frame_.oversize) frame_.data.append(bytes.substr(0, take));
    bytes.remove_prefix(take);
    missing_ -= static_cast<uint32_t>(take);
    if (missing_ != 0) return;
    in_body_ = false;
    if (!sink(std::exchange(frame_, {}))) return;
  }
}

}  // namespace amphora::ttrpc
