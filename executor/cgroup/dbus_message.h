// SPDX-License-Identifier: Apache-2.0
// D-Bus messages as bytes: writing the few types that calls to systemd need, reading what it answers.
// Pure. Little-endian, as every machine this is built for is; every read is bounded. Not here: the
// socket (dbus.h), systemd's methods (systemd_bus.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "executor/base/error.h"

namespace amphora::cgroup::dbus {

enum class Type : uint8_t { kCall = 1, kReturn = 2, kError = 3, kSignal = 4 };

/// Appends values in D-Bus's form. Offsets count from the beginning of this writer's bytes, which is
/// right for a message and for a body alike, as a body begins at a multiple of eight.
class Writer {
 public:
  void pad(size_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
  }
  void byte(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void u16(uint16_t value) { number(value); }
  void u32(uint32_t value) { number(value); }
  void u64(uint64_t value) { number(value); }
  void text(std::string_view value);       ///< s and o
  void signature(std::string_view value);  ///< g
  void raw(std::string_view bytes) { bytes_.append(bytes); }
  /// Opens an array of elements with this alignment; the value is for `end_array`.
  struct Array {
    size_t length_at, begin;
  };
  Array begin_array(size_t alignment);
  void end_array(Array array);

  const std::string& bytes() const noexcept { return bytes_; }

 private:
  template <class T>
  void number(T value) {
    pad(sizeof value);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string bytes_;
};

/// Reads values; the first that is not there in full makes all later ones empty and ok() false.
class Reader {
 public:
  explicit Reader(std::string_view bytes) noexcept : bytes_(bytes) {}
  uint8_t byte();
  uint32_t u32();
  std::string_view text();
  std::string_view signature();
  void pad(size_t alignment);
  size_t offset() const noexcept { return at_; }
  bool ok() const noexcept { return ok_; }

 private:
  std::string_view take(size_t size);
  std::string_view bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

struct Call {
  std::string_view destination, path, interface, member, signature;
  std::string_view body;
};
/// The whole message. An empty destination is left out (a connection without a bus).
std::string encode(const Call& call, uint32_t serial);

struct Message {
  Type type = Type::kCall;
  uint32_t reply_serial = 0;
  std::string path, interface, member, error_name, signature, body;
};
/// How long the message is that begins with these 16 bytes; 0: they are none of ours to read.
size_t message_size(std::string_view head);
Result<Message> decode(std::string_view bytes);

/// The last part of a unit's object path: letters and digits as they are, all else as _XX.
std::string escape_path(std::string_view name);

}  // namespace amphora::cgroup::dbus
