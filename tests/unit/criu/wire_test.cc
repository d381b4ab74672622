// SPDX-License-Identifier: Apache-2.0
// The wire format of CRIU's RPC: bytes as protobuf's documentation has them, and bytes that are wrong.
#include "executor/criu/wire.h"

#include <gtest/gtest.h>

namespace amphora::criu {
namespace {

using namespace std::string_literals;

TEST(CriuWire, BytesAreTheDocumentations) {
  // protobuf.dev, "Encoding": field 1 = 150; field 2 = "testing"; field 3 = { field 1 = 150 }.
  EXPECT_EQ(Writer().number(1, 150).bytes(), "\x08\x96\x01");
  EXPECT_EQ(Writer().text(2, "testing").bytes(), "\x12\x07testing");
  EXPECT_EQ(Writer().message(3, Writer().number(1, 150)).bytes(), "\x1a\x03\x08\x96\x01");
  EXPECT_EQ(Writer().signed_number(1, -1).bytes(), "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
  EXPECT_EQ(Writer().flag(3, true).flag(4, false).bytes(), "\x18\x01");
  EXPECT_EQ(Writer().number(37, 0).bytes(), "\xa8\x02\x00"s);
}

TEST(CriuWire, WhatWasWrittenIsRead) {
  const Writer w =
      Writer().number(1, UINT64_MAX).text(37, "mnt[/x]:mount-0").message(5, Writer().number(2, 9));
  Reader reader(w.bytes());
  auto field = reader.next();
  ASSERT_TRUE(field);
  EXPECT_EQ(field->number, 1U);
  EXPECT_EQ(field->value, UINT64_MAX);
  field = reader.next();
  ASSERT_TRUE(field);
  EXPECT_EQ(field->number, 37U);
  EXPECT_EQ(field->text, "mnt[/x]:mount-0");
  field = reader.next();
  ASSERT_TRUE(field);
  Reader inner(field->text);
  const auto part = inner.next();
  ASSERT_TRUE(part);
  EXPECT_EQ(part->value, 9U);
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.is_broken());
}

TEST(CriuWire, FixedNumbersAreSteppedOver) {
  const std::string bytes =
      std::string("\x09") + "12345678" + std::string("\x0d") + "1234" + std::string("\x08\x05");
  Reader reader(bytes);
  EXPECT_EQ(reader.next()->text, "12345678");
  EXPECT_EQ(reader.next()->text, "1234");
  EXPECT_EQ(reader.next()->value, 5U);
  EXPECT_FALSE(reader.next());
}

TEST(CriuWire, BrokenBytesEndIt) {
  for (const std::string& bytes :
       {"\x08"s, "\x08\x80"s,
        "\x12\x05"
        "abc"s,
        "\x12"s, "\x0b"s,
        "\x09"
        "1234"s,
        std::string(11, '\xff'), "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s}) {
    Reader reader(bytes);
    while (reader.next()) {
    }
    EXPECT_TRUE(reader.is_broken()) << testing::PrintToString(bytes);
  }
}

}  // namespace
}  // namespace amphora::criu
