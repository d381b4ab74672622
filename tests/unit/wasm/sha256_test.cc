// SPDX-License-Identifier: Apache-2.0
// NIST's vectors (FIPS 180-4 examples, CAVP byte-oriented) on both implementations.
#include "wasm/sha256.h"

#include <string>

#include <gtest/gtest.h>

namespace amphora::wasm {
namespace {

std::string hash(const std::string& text, bool portable) {
  Sha256 hash(portable);
  hash.update(text.data(), text.size());
  return to_hex(hash.finish());
}

class Sha256Test : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Both, Sha256Test, ::testing::Bool());

TEST_P(Sha256Test, MatchesPublishedVectors) {
  EXPECT_EQ(hash("", GetParam()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash("abc", GetParam()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", GetParam()),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash("\xbd", GetParam()),
            "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
  EXPECT_EQ(hash(std::string(1000000, 'a'), GetParam()),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(hash(std::string(56, '\0'), GetParam()),
            "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
  EXPECT_EQ(hash(std::string(64, '\0'), GetParam()),
            "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

TEST_P(Sha256Test, PiecesMakeTheSameDigestAsTheWhole) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text.push_back(static_cast<char>(i * 7));
  for (size_t piece : {1U, 3U, 63U, 64U, 65U, 1000U}) {
    Sha256 pieces(GetParam());
    for (size_t at = 0; at < text.size(); at += piece) {
      pieces.update(text.data() + at, std::min(piece, text.size() - at));
    }
    EXPECT_EQ(to_hex(pieces.finish()), hash(text, !GetParam())) << piece;
  }
}

TEST(Sha256, DigestsComeBackFromTheirDigits) {
  const Digest digest = sha256("abc", 3);
  const auto back = from_hex(to_hex(digest));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back, digest);
  EXPECT_FALSE(from_hex("").has_value());
  EXPECT_FALSE(from_hex(to_hex(digest).substr(1)).has_value());
  EXPECT_FALSE(from_hex(std::string(64, 'G')).has_value());
}

}  // namespace
}  // namespace amphora::wasm
