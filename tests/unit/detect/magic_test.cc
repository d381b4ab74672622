// SPDX-License-Identifier: Apache-2.0
// First bytes and the search for a text's first token.
#include "detect/magic.h"

#include <string_view>

#include <gtest/gtest.h>

namespace amphora::detect {
namespace {

using namespace std::string_view_literals;
using Answer = WatScan::Answer;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Classify, KnowsEachMagic) {
  EXPECT_EQ(classify(bytes("\x7f"
                           "ELF\x02"sv)),
            Format::kElf);
  EXPECT_EQ(classify(bytes("#!/bin/sh")), Format::kScript);
  EXPECT_EQ(classify(bytes("\0asm\x01\0\0\0"sv)), Format::kWasm);
  EXPECT_EQ(classify(bytes("\0asm\x0d\0\x01\0"sv)), Format::kComponent);
  EXPECT_EQ(classify(bytes("(module)")), Format::kMaybeText);
}

TEST(Classify, WantsTheWholeMagic) {
  EXPECT_EQ(classify(bytes("\0asm\x01\0\0"sv)), Format::kUnknown);
  EXPECT_EQ(classify(bytes("\0asm\x02\0\0\0"sv)), Format::kUnknown);
  EXPECT_EQ(classify(bytes("\0asm\x0d\0\0\0"sv)), Format::kUnknown);
  EXPECT_EQ(classify(bytes("\x7f"
                           "EL"sv)),
            Format::kUnknown);
  EXPECT_EQ(classify(bytes("")), Format::kUnknown);
}

TEST(Classify, TextMustBeginLikeWat) {
  EXPECT_EQ(classify(bytes("module")), Format::kUnknown);
  EXPECT_EQ(classify(bytes("(module\0"sv)), Format::kUnknown);
  EXPECT_EQ(classify(bytes("(module \xff)")), Format::kUnknown);
  EXPECT_EQ(classify(bytes(";; only a comment so far")), Format::kMaybeText);
  EXPECT_EQ(classify(bytes("; one semicolon")), Format::kUnknown);
  EXPECT_EQ(classify(bytes("(module \xc3")), Format::kMaybeText) << "a sequence cut by the chunk";
}

Answer scan(std::string_view text) {
  WatScan whole;
  whole.feed(bytes(text));
  const auto answer = whole.end();
  WatScan piecewise;  // chunk borders must not matter
  for (size_t i = 0; i < text.size(); ++i) piecewise.feed(bytes(text.substr(i, 1)));
  EXPECT_EQ(piecewise.end(), answer) << text;
  return answer;
}

TEST(WatScan, SkipsBlanksAndComments) {
  EXPECT_EQ(scan("(module"), Answer::kParen);
  EXPECT_EQ(scan(" \t\r\n(module"), Answer::kParen);
  EXPECT_EQ(scan(";; a (b\n(c"), Answer::kParen);
  EXPECT_EQ(scan("(; a ;)(c"), Answer::kParen);
  EXPECT_EQ(scan("(; a (; b ;) ;)(c"), Answer::kParen);
  EXPECT_EQ(scan("(;;)(c"), Answer::kParen);
  EXPECT_EQ(scan("(; ;;)(c"), Answer::kParen);
  EXPECT_EQ(scan("(; (( ;; )) ;)(c"), Answer::kParen);
  EXPECT_EQ(scan("(; \xc3\xa9 ;)(c"), Answer::kParen);
  EXPECT_EQ(scan("("), Answer::kParen);
}

TEST(WatScan, SeesWhatIsNoWat) {
  EXPECT_EQ(scan("x"), Answer::kOther);
  EXPECT_EQ(scan(")"), Answer::kOther);
  EXPECT_EQ(scan("(; a ;)x"), Answer::kOther);
  EXPECT_EQ(scan("(; a (; b ;)(c"), Answer::kMore) << "the outer comment is open";
  EXPECT_EQ(scan(";; comment"), Answer::kMore);
  EXPECT_EQ(scan("(;)"), Answer::kMore);
  EXPECT_EQ(scan(""), Answer::kMore);
}

TEST(WatScan, RefusesWhatIsNotUtf8) {
  EXPECT_EQ(scan("(a\0b"sv), Answer::kNotText);
  EXPECT_EQ(scan("(\x80"), Answer::kNotText);
  EXPECT_EQ(scan("(\xc0\xaf"), Answer::kNotText) << "overlong";
  EXPECT_EQ(scan("(\xed\xa0\x80"), Answer::kNotText) << "surrogate";
  EXPECT_EQ(scan("(\xf4\x90\x80\x80"), Answer::kNotText) << "above U+10FFFF";
  EXPECT_EQ(scan("(\xf0\x9f\x98\x80"), Answer::kParen);
}

TEST(WatScan, DepthCostsNothing) {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "(;";
  for (int i = 0; i < 200000; ++i) text += ";)";
  WatScan scan;
  EXPECT_EQ(scan.feed(bytes(text)), Answer::kMore);
  EXPECT_EQ(scan.feed(bytes("(m")), Answer::kParen);
}

TEST(WhyNotWasm, SaysItInWords) {
  EXPECT_EQ(why_not_wasm(bytes("")), "file is empty");
  EXPECT_EQ(why_not_wasm(bytes("hello")), "first bytes are 68 65 6c 6c");
  EXPECT_EQ(why_not_wasm(bytes("\0"sv)), "header cut short after 1 byte: 00");
  EXPECT_EQ(why_not_wasm(bytes("\0asm\x01"sv)), "header cut short after 5 bytes: 00 61 73 6d 01");
  EXPECT_EQ(why_not_wasm(bytes("\0asm\x02\0\0\0"sv)), "unknown version 02 00 00 00");
  EXPECT_EQ(why_not_wasm(bytes("\0xsm"sv)), "first bytes are 00 78 73 6d");
}

}  // namespace
}  // namespace amphora::detect
