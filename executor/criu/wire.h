// SPDX-License-Identifier: Apache-2.0
// The little of protobuf's wire format that CRIU's RPC needs (protobuf.dev, "Encoding"): varints,
// strings, nested messages. The command would else start with a library of which two verbs use a
// hundred lines. Not here: field numbers (client.h), sockets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace amphora::criu {

/// A message being written. Fields come out in the order of the calls.
class Writer {
 public:
  Writer& number(uint32_t field, uint64_t value);
  /// As protobuf's int32 has it: negative ones are ten bytes.
  Writer& signed_number(uint32_t field, int64_t value) {
    return number(field, static_cast<uint64_t>(value));
  }
  /// Absent when false, which is every bool's default here.
  Writer& flag(uint32_t field, bool value) { return value ? number(field, 1) : *this; }
  Writer& text(uint32_t field, std::string_view value);
  Writer& message(uint32_t field, const Writer& value) { return text(field, value.bytes_); }
  const std::string& bytes() const noexcept { return bytes_; }

 private:
  void varint(uint64_t value);
  std::string bytes_;
};

/// One field of a message that was received.
struct Field {
  uint32_t number = 0;
  uint64_t value = 0;     ///< of varints and fixed numbers
  std::string_view text;  ///< of strings and nested messages; points into what was read
};

/// Reads the fields one after the other. What it reads is bounded by what it was given.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  /// nullopt: the end, or a mistake (then is_broken).
  std::optional<Field> next();
  bool is_broken() const noexcept { return broken_; }

 private:
  bool varint(uint64_t& value);
  std::string_view rest_;
  bool broken_ = false;
};

}  // namespace amphora::criu
