// SPDX-License-Identifier: Apache-2.0
// D-Bus bytes: what a call looks like, reading answers back, and that no cut or bent message is read
// beyond its end. That systemd understands them is tests/systemd's proof.
#include "executor/cgroup/dbus_message.h"

#include <string>

#include <gtest/gtest.h>

#include "executor/cgroup/dbus.h"

namespace amphora::cgroup::dbus {
namespace {

using std::string_literals::operator""s;

TEST(DbusMessage, ACallIsTheBytesOfTheSpecification) {
  // D-Bus specification, "Header Fields": an array of (BYTE, VARIANT), each at a multiple of eight.
  const std::string want =
      "l\1\0\1\0\0\0\0\7\0\0\0\x3d\0\0\0"s  // order, call, flags, version, body, serial, fields
      "\1\1o\0\2\0\0\0/a\0\0\0\0\0\0"s      // path
      "\6\1s\0\1\0\0\0d\0\0\0\0\0\0\0"s     // destination
      "\2\1s\0\3\0\0\0i.i\0\0\0\0\0"s       // interface
      "\3\1s\0\4\0\0\0Ping\0\0\0\0"s;       // member, padded to the body
  EXPECT_EQ(encode({"d", "/a", "i.i", "Ping", "", ""}, 7), want);
}

std::string answer(std::string_view body) {
  // As a reply to serial 9: what decode has to take from it.
  Writer out;
  out.raw(std::string("l\2\1\1", 4));
  out.u32(static_cast<uint32_t>(body.size()));
  out.u32(5);
  const auto fields = out.begin_array(8);
  out.pad(8);
  out.byte(5);
  out.signature("u");
  out.u32(9);
  out.pad(8);
  out.byte(8);
  out.signature("g");
  out.signature("s");
  out.pad(8);
  out.byte(7);
  out.signature("s");
  out.text(":1.4");
  out.end_array(fields);
  out.pad(8);
  out.raw(body);
  return out.bytes();
}

TEST(DbusMessage, AnAnswerIsReadBack) {
  Writer body;
  body.text("/org/freedesktop/systemd1/job/1");
  const std::string bytes = answer(body.bytes());
  EXPECT_EQ(message_size(bytes.substr(0, 16)), bytes.size());
  const auto message = decode(bytes);
  ASSERT_TRUE(message) << message.error().what();
  EXPECT_EQ(message->type, Type::kReturn);
  EXPECT_EQ(message->reply_serial, 9u);
  EXPECT_EQ(message->signature, "s");
  Reader in(message->body);
  EXPECT_EQ(in.text(), "/org/freedesktop/systemd1/job/1");
  EXPECT_TRUE(in.ok());
}

TEST(DbusMessage, NoCutOrBentMessageIsReadBeyondItsEnd) {
  Writer body;
  body.text("word");
  const std::string whole = answer(body.bytes());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(decode(whole.substr(0, size))) << size;
  }
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char bent : {'\xff', '\x7f', '\0'}) {
      std::string bytes = whole;
      bytes[at] = bent;
      const size_t size = message_size(bytes);
      if (size == 0 || size > bytes.size()) continue;
      const auto message = decode(std::string_view(bytes).substr(0, size));
      if (message) Reader(message->body).text();  // the sanitizers watch
    }
  }
}

TEST(DbusMessage, ReadingPastTheEndIsNoticedAndGivesNothing) {
  Reader in(
      std::string_view("\xff\xff\xff\xff"
                       "abc",
                       7));
  EXPECT_EQ(in.text(), "");
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.u32(), 0u);
}

TEST(DbusMessage, AMessageTooLargeOrOfAnotherByteOrderIsRefused) {
  std::string head = answer("").substr(0, 16);
  head[0] = 'B';
  EXPECT_EQ(message_size(head), 0u);
  head[0] = 'l';
  head[7] = '\x7f';
  EXPECT_EQ(message_size(head), 0u);
}

TEST(DbusMessage, ArraysOfStructuresStartAtEightAndDoNotCountIt) {
  Writer out;
  out.text("abc");  // ends at 8
  const auto array = out.begin_array(8);
  out.text("x");
  out.end_array(array);
  EXPECT_EQ(out.bytes(), "\3\0\0\0abc\0"s + "\6\0\0\0\0\0\0\0"s + "\1\0\0\0x\0"s);
}

TEST(DbusPath, UnitNamesAreEscapedAsSystemdDoes) {
  EXPECT_EQ(escape_path("amphora-a.scope"), "amphora_2da_2escope");
  EXPECT_EQ(escape_path("1a"), "_31a");
  EXPECT_EQ(escape_path(""), "_");
}

TEST(DbusAddress, PathsAndAbstractNamesAreFound) {
  EXPECT_EQ(socket_names("unix:path=/run/a%20b,guid=12;tcp:host=x;unix:abstract=/tmp/y"),
            (std::vector<std::string>{"/run/a b", "\0/tmp/y"s}));
  EXPECT_TRUE(socket_names("").empty());
  EXPECT_TRUE(socket_names("unix:guid=1").empty());
}

TEST(DbusConnection, NobodyThereIsAnErrorWithTheName) {
  const auto connection = Connection::open({"/no/such/socket"}, 0);
  ASSERT_FALSE(connection);
  EXPECT_NE(connection.error().what().find("connect to /no/such/socket: no such file"),
            std::string::npos);
}

}  // namespace
}  // namespace amphora::cgroup::dbus
