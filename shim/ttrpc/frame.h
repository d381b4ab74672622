// SPDX-License-Identifier: Apache-2.0
// The ttrpc frame: a header of ten bytes (big endian length, stream id, type, flags) and data. Pure:
// bytes in, frames out; sockets are the server's and the client's. The decoder takes any split of
// the stream and never keeps more than one frame of bounded size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace amphora::ttrpc {

inline constexpr size_t kHeaderSize = 10;
inline constexpr uint32_t kMaxData = 4U << 20;

enum class FrameType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };
inline constexpr uint8_t kFlagRemoteClosed = 1;

struct Header {
  uint32_t length = 0;
  uint32_t stream = 0;
  uint8_t type = 0;  ///< FrameType, or a number we do not know
  uint8_t flags = 0;
};

Header decode_header(const std::array<unsigned char, kHeaderSize>& bytes) noexcept;
std::array<unsigned char, kHeaderSize> encode_header(const Header& header) noexcept;
/// Header and data in one string, ready to be written. The data must not exceed kMaxData.
std::string encode_frame(uint32_t stream, FrameType type, std::string_view data);

struct Frame {
  Header header;
  std::string data;       ///< empty when the frame was oversize
  bool oversize = false;  ///< header.length exceeded kMaxData; its bytes were skipped
};

/// Cuts a byte stream into frames.
class Decoder {
 public:
  /// Takes bytes and calls `sink` for every frame completed by them, in order. When the sink returns
  /// false the rest of the bytes is dropped (the connection is being closed).
  void feed(std::string_view bytes, const std::function<bool(Frame&&)>& sink);
  /// Between two frames: the stream may end here without a loss.
  bool is_idle() const noexcept { return header_have_ == 0 && !in_body_; }

 private:
  void begin_body();

  std::array<unsigned char, kHeaderSize> header_bytes_{};
  size_t header_have_ = 0;
  bool in_body_ = false;
  uint32_t missing_ = 0;  // bytes of the body still to come
  Frame frame_;
};

}  // namespace amphora::ttrpc
