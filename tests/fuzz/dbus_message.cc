// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as a D-Bus message, and as the parts of a call. What is written must be
// read the same, and no message may be longer than its bound.
#include "executor/cgroup/dbus_message.h"

#include "executor/cgroup/dbus.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;
namespace dbus = amphora::cgroup::dbus;

/// Header fields have one byte for the length of a signature, and an empty one is left out.
void check_call(std::string_view text) {
  const std::vector<std::string> parts = fuzz::split(text, '\n');
  if (parts.size() < 6 || parts[4].size() > 255) return;
  const dbus::Call call{parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]};
  const std::string bytes = dbus::encode(call, 7);
  AMPHORA_CHECK(dbus::message_size(bytes) == bytes.size());
  const auto message = dbus::decode(bytes);
  AMPHORA_CHECK(message && message->type == dbus::Type::kCall && message->reply_serial == 0);
  AMPHORA_CHECK(message->path == call.path && message->interface == call.interface);
  AMPHORA_CHECK(message->member == call.member && message->signature == call.signature);
  AMPHORA_CHECK(message->body == call.body);
}

/// Whatever is asked of a reader, it stays within its bytes.
void check_reader(std::string_view bytes) {
  dbus::Reader in(bytes);
  for (size_t step = 0; in.ok() && step < bytes.size(); ++step) {
    const size_t before = in.offset();
    switch (bytes[step] & 3) {
      case 0:
        in.pad(8);
        break;
      case 1:
        AMPHORA_CHECK(in.text().size() <= bytes.size());
        break;
      case 2:
        AMPHORA_CHECK(in.signature().size() <= 255);
        break;
      default:
        in.u32();
    }
    AMPHORA_CHECK(in.offset() >= before && in.offset() <= bytes.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  const auto message = dbus::decode(bytes);
  if (message) {
    AMPHORA_CHECK(dbus::message_size(bytes) == size);
    AMPHORA_CHECK(message->body.size() + message->path.size() + message->interface.size() <= size);
  } else {
    AMPHORA_CHECK(!message.error().what().empty());
  }
  check_reader(bytes);
  check_call(bytes);
  const std::string unit = dbus::escape_path(bytes);
  AMPHORA_CHECK(!unit.empty() && unit.size() <= 3 * size + 1);
  for (const char c : unit) AMPHORA_CHECK(std::isalnum(static_cast<unsigned char>(c)) || c == '_');
  for (const auto& name : dbus::socket_names(bytes)) AMPHORA_CHECK(!name.empty());
  return 0;
}
