// SPDX-License-Identifier: Apache-2.0
// Marshalling. See dbus_message.h; the format is that of the D-Bus specification, "Message Format".
#include "executor/cgroup/dbus_message.h"

#include <cstdint>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "executor/base/error.h"

namespace amphora::cgroup::dbus {
namespace {

constexpr size_t kHead = 16;  // up to and with the length of the field array
constexpr size_t kMaxMessage = size_t{4}
                               << 20;  // the protocol allows 128 MiB; nobody needs it here
constexpr uint8_t kLittleEndian = 'l', kVersion = 1;

enum Field : uint8_t {
  kPath = 1,
  kInterface = 2,
  kMember = 3,
  kErrorName = 4,
  kReplySerial = 5,
  kDestination = 6,
  kSender = 7,
  kSignature = 8,
  kUnixFds = 9,
};

size_t padded(size_t size) { return (size + 7) / 8 * 8; }

void field(Writer& out, Field name, std::string_view signature, std::string_view value) {
  if (value.empty()) return;
  out.pad(8);
  out.byte(name);
  out.signature(signature);
  if (signature == "g") {
    out.signature(value);
  } else {
    out.text(value);
  }
}

/// One header field's value; those of a type that we know, all others end the reading.
bool read_field(Reader& in, Message& out) {
  in.pad(8);
  const uint8_t name = in.byte();
  const std::string_view signature = in.signature();
  if (signature == "u") {
    const uint32_t value = in.u32();
    if (name == kReplySerial) out.reply_serial = value;
    return in.ok();
  }
  std::string_view value;
  if (signature == "g") {
    value = in.signature();
  } else if (signature == "s" || signature == "o") {
    value = in.text();
  } else {
    return false;
  }
  if (name == kPath) out.path = value;
  if (name == kInterface) out.interface = value;
  if (name == kMember) out.member = value;
  if (name == kErrorName) out.error_name = value;
  if (name == kSignature) out.signature = value;
  return in.ok();
}

}  // namespace

void Writer::text(std::string_view value) {
  u32(static_cast<uint32_t>(value.size()));
  bytes_.append(value).push_back('\0');
}

void Writer::signature(std::string_view value) {
  byte(static_cast<uint8_t>(value.size()));
  bytes_.append(value).push_back('\0');
}

Writer::Array Writer::begin_array(size_t alignment) {
  pad(4);
  const size_t at = bytes_.size();
  u32(0);
  // The padding before the first element does not count into the length.
  pad(alignment);
  return {at, bytes_.size()};
}

void Writer::end_array(Array array) {
  const auto length = static_cast<uint32_t>(bytes_.size() - array.begin);
  std::memcpy(bytes_.data() + array.length_at, &length, sizeof length);
}

std::string_view Reader::take(size_t size) {
  if (!ok_ || size > bytes_.size() - at_) {
    ok_ = false;
    return {};
  }
  const std::string_view taken = bytes_.substr(at_, size);
  at_ += size;
  return taken;
}

void Reader::pad(size_t alignment) {
  const size_t to = (at_ + alignment - 1) / alignment * alignment;
  take(to - at_);
}

uint8_t Reader::byte() {
  const std::string_view one = take(1);
  return one.empty() ? uint8_t{0} : static_cast<uint8_t>(one[0]);
}

uint32_t Reader::u32() {
  pad(4);
  uint32_t value = 0;
  const std::string_view four = take(sizeof value);
  if (!four.empty()) std::memcpy(&value, four.data(), sizeof value);
  return value;
}

std::string_view Reader::text() {
  const uint32_t size = u32();
  const std::string_view value = take(size);
  take(1);
  return ok_ ? value : std::string_view();
}

std::string_view Reader::signature() {
  const uint8_t size = byte();
  const std::string_view value = take(size);
  take(1);
  return ok_ ? value : std::string_view();
}

std::string encode(const Call& call, uint32_t serial) {
  Writer out;
  out.byte(kLittleEndian);
  out.byte(static_cast<uint8_t>(Type::kCall));
  out.byte(0);
  out.byte(kVersion);
  out.u32(static_cast<uint32_t>(call.body.size()));
  out.u32(serial);
  const Writer::Array fields = out.begin_array(8);
  field(out, kPath, "o", call.path);
  field(out, kDestination, "s", call.destination);
  field(out, kInterface, "s", call.interface);
  field(out, kMember, "s", call.member);
  field(out, kSignature, "g", call.signature);
  out.end_array(fields);
  out.pad(8);
  out.raw(call.body);
  return out.bytes();
}

size_t message_size(std::string_view head) {
  if (head.size() < kHead || static_cast<uint8_t>(head[0]) != kLittleEndian) return 0;
  uint32_t body = 0, fields = 0;
  std::memcpy(&body, head.data() + 4, sizeof body);
  std::memcpy(&fields, head.data() + 12, sizeof fields);
  if (body > kMaxMessage || fields > kMaxMessage) return 0;
  return padded(kHead + fields) + body;
}

Result<Message> decode(std::string_view bytes) {
  const auto bad = [] { return fail(Errc::kInternal, "d-bus: a message that cannot be read"); };
  if (const size_t size = message_size(bytes); size == 0 || size != bytes.size()) return bad();
  uint32_t fields = 0;
  std::memcpy(&fields, bytes.data() + 12, sizeof fields);
  Message out;
  out.type = static_cast<Type>(static_cast<uint8_t>(bytes[1]));
  // Offsets inside the fields count from the message's beginning, and kHead is a multiple of eight.
  Reader in(bytes.substr(kHead, fields));
  while (in.ok() && in.offset() < fields) {
    if (!read_field(in, out)) return bad();
  }
  out.body = bytes.substr(padded(kHead + fields));
  return out;
}

std::string escape_path(std::string_view name) {
  std::string out;
  for (size_t at = 0; at < name.size(); ++at) {
    const auto c = static_cast<unsigned char>(name[at]);
    const bool digit = c >= '0' && c <= '9';
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter || (digit && at != 0)) {
      out.push_back(static_cast<char>(c));
    } else {
      out += fmt::format("_{:02x}", c);
    }
  }
  return out.empty() ? "_" : out;
}

}  // namespace amphora::cgroup::dbus
