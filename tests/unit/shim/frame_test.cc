// SPDX-License-Identifier: Apache-2.0
// The frame codec: exact bytes, any split of the stream, frames that are too large.
#include "shim/ttrpc/frame.h"

#include <vector>

#include <gtest/gtest.h>

namespace amphora::ttrpc {
namespace {

std::vector<Frame> feed_in_pieces(const std::string& bytes, size_t piece) {
  Decoder decoder;
  std::vector<Frame> frames;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    decoder.feed(std::string_view(bytes).substr(at, piece), [&](Frame&& frame) {
      frames.push_back(std::move(frame));
      return true;
    });
  }
  EXPECT_TRUE(decoder.is_idle());
  return frames;
}

TEST(Frame, HeaderIsBigEndian) {
  const std::string bytes = encode_frame(0x01020305, FrameType::kRequest, "ab");
  EXPECT_EQ(bytes, std::string("\x00\x00\x00\x02\x01\x02\x03\x05\x01\x00", 10) + "ab");
}

TEST(Frame, EverySplitGivesTheSameFrames) {
  const std::string bytes = encode_frame(1, FrameType::kRequest, "first") +
                            encode_frame(3, FrameType::kResponse, "") +
                            encode_frame(5, FrameType::kData, std::string(300, 'x'));
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    const auto frames = feed_in_pieces(bytes, piece);
    ASSERT_EQ(frames.size(), 3U) << "pieces of " << piece;
    EXPECT_EQ(frames[0].data, "first");
    EXPECT_EQ(frames[1].header.stream, 3U);
    EXPECT_EQ(frames[1].data, "");
    EXPECT_EQ(frames[2].data.size(), 300U);
  }
}

TEST(Frame, OversizeIsSkippedAndTheNextFrameIsRead) {
  const auto header = encode_header({.length = kMaxData + 1, .stream = 7, .type = 1, .flags = 0});
  std::string bytes(header.begin(), header.end());
  bytes.append(kMaxData + 1, 'y');
  bytes += encode_frame(9, FrameType::kRequest, "ok");
  const auto frames = feed_in_pieces(bytes, 65536);
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_TRUE(frames[0].oversize);
  EXPECT_EQ(frames[0].header.stream, 7U);
  EXPECT_EQ(frames[0].data, "");
  EXPECT_EQ(frames[1].data, "ok");
}

TEST(Frame, LargestFrameIsTaken) {
  const auto frames =
      feed_in_pieces(encode_frame(1, FrameType::kRequest, std::string(kMaxData, 'z')), 100000);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_FALSE(frames[0].oversize);
  EXPECT_EQ(frames[0].data.size(), kMaxData);
}

TEST(Frame, NothingIsDeliveredAfterTheSinkSaysStop) {
  Decoder decoder;
  int seen = 0;
  decoder.feed(
      encode_frame(1, FrameType::kRequest, "a") + encode_frame(3, FrameType::kRequest, "b"),
      [&](Frame&&) { return ++seen, false; });
  EXPECT_EQ(seen, 1);
}

TEST(Frame, HalfAFrameIsNotIdle) {
  Decoder decoder;
  decoder.feed(encode_frame(1, FrameType::kRequest, "abc").substr(0, 11),
               [](Frame&&) { return true; });
  EXPECT_FALSE(decoder.is_idle());
}

}  // namespace
}  // namespace amphora::ttrpc
