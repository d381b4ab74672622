// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as the head of a file. The scan of a text must not depend on where its
// chunks end, and what classify calls a binary format must begin with that format's magic.
#include "detect/magic.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "executor/base/error.h"

namespace {

using namespace amphora::detect;

WatScan::Answer scan(std::span<const std::byte> bytes, size_t chunk) {
  WatScan scan;
  for (size_t at = 0; at < bytes.size(); at += chunk) {
    scan.feed(bytes.subspan(at, std::min(chunk, bytes.size() - at)));
  }
  return scan.end();
}

bool begins(const uint8_t* data, size_t size, const char* magic, size_t length) {
  return size >= length && std::memcmp(data, magic, length) == 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto whole = scan(bytes, size == 0 ? 1 : size);
  AMPHORA_CHECK(scan(bytes, 1) == whole);
  AMPHORA_CHECK(scan(bytes, 7) == whole);
  AMPHORA_CHECK(!why_not_wasm(bytes).empty());
  switch (classify(bytes)) {
    case Format::kElf:
      AMPHORA_CHECK(begins(data, size,
                           "\x7f"
                           "ELF",
                           4));
      break;
    case Format::kScript:
      AMPHORA_CHECK(begins(data, size, "#!", 2));
      break;
    case Format::kWasm:
      AMPHORA_CHECK(begins(data, size, "\0asm\1\0\0\0", 8));
      break;
    case Format::kComponent:
      AMPHORA_CHECK(begins(data, size, "\0asm\x0d\0\1\0", 8));
      break;
    case Format::kMaybeText:
      AMPHORA_CHECK(whole == WatScan::Answer::kParen || whole == WatScan::Answer::kMore);
      break;
    case Format::kUnknown:
      break;
  }
  return 0;
}
