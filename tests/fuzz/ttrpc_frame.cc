// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as a ttrpc stream. The first byte says how the rest is cut; the frames
// must not depend on that, and none may exceed its bound.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "shim/ttrpc/frame.h"

namespace {

using amphora::ttrpc::Decoder;
using amphora::ttrpc::Frame;

std::vector<Frame> frames_of(std::string_view bytes, size_t piece) {
  Decoder decoder;
  std::vector<Frame> frames;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    decoder.feed(bytes.substr(at, piece), [&](Frame&& frame) {
      AMPHORA_CHECK(frame.data.size() <= amphora::ttrpc::kMaxData);
      AMPHORA_CHECK(frame.oversize || frame.data.size() == frame.header.length);
      frames.push_back(std::move(frame));
      return true;
    });
  }
  return frames;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const size_t piece = size_t{data[0]} + 1;
  // SAFETY: bytes are read as characters only.
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto cut = frames_of(bytes, piece);
  const auto whole = frames_of(bytes, std::max<size_t>(bytes.size(), 1));
  AMPHORA_CHECK(cut.size() == whole.size());
  for (size_t i = 0; i < cut.size(); ++i) {
    AMPHORA_CHECK(cut[i].data == whole[i].data);
    AMPHORA_CHECK(cut[i].header.stream == whole[i].header.stream);
    AMPHORA_CHECK(cut[i].oversize == whole[i].oversize);
  }
  return 0;
}
