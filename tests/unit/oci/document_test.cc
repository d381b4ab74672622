// SPDX-License-Identifier: Apache-2.0
// JSON as such: syntax errors, limits against hostile texts, paths in messages, scalars.
#include "executor/oci/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/oci/spec.h"

namespace amphora::oci {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string problem(std::string_view json) {
  const auto document = Document::parse(json);
  if (document) return "accepted";
  EXPECT_EQ(document.error().code(), Errc::kInvalid);
  return document.error().what();
}

TEST(Document, NamesThePlaceOfASyntaxError) {
  EXPECT_THAT(problem("{\"a\": }"), StartsWith("json: parse error at line 1, column 7"));
  EXPECT_THAT(problem("{\n\"a\": 1"), HasSubstr("line 2"));
  EXPECT_THAT(problem(""), HasSubstr("unexpected end of input"));
  EXPECT_THAT(problem("{} {}"), HasSubstr("expected end of input"));
  EXPECT_THAT(problem("{\"a\": \"\xff\"}"), HasSubstr("ill-formed UTF-8"));
  EXPECT_THAT(problem("{\"a\": 1e999}"), HasSubstr("number overflow"));
}

TEST(Document, BoundsItsMessages) {
  EXPECT_LT(problem("\"" + std::string(1 << 20, 'x')).size(), 300U);
}

TEST(Document, BoundsDepth) {
  const std::string deep(64, '['), closed(64, ']');
  EXPECT_EQ(problem(deep + closed), "accepted");
  EXPECT_EQ(problem("[" + deep + closed + "]"), "json: nested deeper than 64 levels");
  EXPECT_EQ(problem(std::string(10 << 20, '[')), "json: nested deeper than 64 levels");
}

TEST(Document, BoundsSizeAndNumberOfValues) {
  EXPECT_EQ(problem(std::string(kMaxJsonBytes + 1, ' ')), "json: more than 16777216 bytes");
  std::string many = "[0";
  for (uint32_t i = 0; i < kMaxJsonNodes; ++i) many += ",0";
  EXPECT_EQ(problem(many + "]"), "json: more than 262144 values");
}

TEST(Document, WritesPaths) {
  auto document = Document::parse(R"({"a": {"b": [0, {"c d": 1}]}, "": 2})");
  ASSERT_TRUE(document);
  EXPECT_EQ(document->path(0), "");
  EXPECT_EQ(document->path(1), "a");
  EXPECT_EQ(document->path(3), "a.b[0]");
  EXPECT_EQ(document->path(5), "a.b[1][\"c d\"]");
  EXPECT_EQ(document->path(6), "[\"\"]");
}

template <class T>
std::string read_as(std::string_view json, T& out) {
  auto document = Document::parse(json);
  if (!document) return document.error().what();
  read(Value(*document, 0), out);
  const auto error = document->take_error();
  return error ? error->what() : "";
}

TEST(Read, ChecksTypes) {
  bool flag = false;
  std::string text;
  int number = 7;
  std::vector<std::string> list;
  std::map<std::string, std::string> map;
  EXPECT_EQ(read_as("1", flag), "must be a boolean, is a number");
  EXPECT_EQ(read_as("null", text), "must be a string, is null");
  EXPECT_EQ(read_as("\"5\"", number), "must be an integer, is a string");
  EXPECT_EQ(read_as("5.0", number), "must be an integer, is a number");
  EXPECT_EQ(read_as("{}", list), "must be an array, is an object");
  EXPECT_EQ(read_as("[\"a\", 1]", list), "[1]: must be a string, is a number");
  EXPECT_EQ(read_as("[]", map), "must be an object, is an array");
  EXPECT_EQ(read_as("{\"k\": true}", map), "k: must be a string, is a boolean");
  EXPECT_EQ(number, 7) << "left alone";
}

TEST(Read, ChecksRanges) {
  uint16_t small = 0;
  int32_t whole = 0;
  uint64_t big = 0;
  int64_t wide = 0;
  EXPECT_EQ(read_as("65536", small), "65536 is out of range (0 to 65535)");
  EXPECT_EQ(read_as("-1", small), "-1 is out of range (0 to 65535)");
  EXPECT_EQ(read_as("-2147483649", whole),
            "-2147483649 is out of range (-2147483648 to 2147483647)");
  EXPECT_EQ(read_as("18446744073709551615", big), "");
  EXPECT_EQ(big, UINT64_MAX);
  EXPECT_EQ(read_as("18446744073709551616", big), "must be an integer, is a number");
  EXPECT_EQ(read_as("9223372036854775808", wide),
            "9223372036854775808 is out of range (-9223372036854775808 to 9223372036854775807)");
  EXPECT_EQ(read_as("-9223372036854775808", wide), "");
  EXPECT_EQ(wide, INT64_MIN);
}

TEST(Read, RefusesNul) {
  std::string text;
  std::map<std::string, std::string> map;
  EXPECT_EQ(read_as(R"("a\u0000b")", text), "has a NUL byte");
  EXPECT_THAT(read_as(R"({"a\u0000b": "c"})", map), HasSubstr("has a NUL byte in its name"));
}

TEST(Read, UnescapesAndKeepsTheLastDuplicate) {
  std::map<std::string, std::string> map;
  EXPECT_EQ(read_as(R"({"k": "1", "\u00e9": "\ud83d\ude00\n", "k": "2", "gone": null})", map), "");
  EXPECT_EQ(map, (std::map<std::string, std::string>{{"k", "2"}, {"é", "😀\n"}}));
}

}  // namespace
}  // namespace amphora::oci
