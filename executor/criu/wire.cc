// SPDX-License-Identifier: Apache-2.0
// See wire.h.
#include "executor/criu/wire.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace amphora::criu {
namespace {

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

}  // namespace

void Writer::varint(uint64_t value) {
  while (value >= 0x80) {
    bytes_ += static_cast<char>((value & 0x7f) | 0x80);
    value >>= 7;
  }
  bytes_ += static_cast<char>(value);
}

Writer& Writer::number(uint32_t field, uint64_t value) {
  varint(uint64_t{field} << 3 | kVarint);
  varint(value);
  return *this;
}

Writer& Writer::text(uint32_t field, std::string_view value) {
  varint(uint64_t{field} << 3 | kBytes);
  varint(value.size());
  bytes_ += value;
  return *this;
}

bool Reader::varint(uint64_t& value) {
  value = 0;
  for (uint32_t shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    value |= uint64_t{byte & 0x7fU} << shift;
    if (byte < 0x80) return true;
  }
  broken_ = true;
  return false;
}

std::optional<Field> Reader::next() {
  if (broken_ || rest_.empty()) return std::nullopt;
  uint64_t key = 0;
  if (!varint(key)) return std::nullopt;
  Field field;
  field.number = static_cast<uint32_t>(key >> 3);
  uint64_t size = 0;
  switch (key & 7) {
    case kVarint:
      if (!varint(field.value)) return std::nullopt;
      return field;
    case kBytes:
      if (!varint(size)) return std::nullopt;
      break;
    case kFixed64:
      size = 8;
      break;
    case kFixed32:
      size = 4;
      break;
    default:
      broken_ = true;
      return std::nullopt;
  }
  if (size > rest_.size()) {
    broken_ = true;
    return std::nullopt;
  }
  field.text = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return field;
}

}  // namespace amphora::criu
