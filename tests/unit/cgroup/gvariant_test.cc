// SPDX-License-Identifier: Apache-2.0
// Unit properties from annotations: GVariant's text, seconds, names, and the bytes that go to systemd.
#include "executor/cgroup/gvariant.h"

#include <bit>

#include <gtest/gtest.h>

namespace amphora::cgroup {
namespace {

DBusValue good(std::string_view text) {
  auto value = parse_gvariant(text);
  EXPECT_TRUE(value) << text << ": " << (value ? "" : value.error().what());
  return value ? *value : DBusValue{};
}
DBusValue number(const char* type, uint64_t value) { return {type, value, {}, {}}; }
DBusValue string(const char* text) { return {"s", 0, text, {}}; }

TEST(GVariant, Plain) {
  EXPECT_EQ(good("true"), number("b", 1));
  EXPECT_EQ(good(" false "), number("b", 0));
  EXPECT_EQ(good("5"), number("i", 5));
  EXPECT_EQ(good("-5"), number("i", static_cast<uint64_t>(-5)));
  EXPECT_EQ(good("uint64 18446744073709551615"), number("t", UINT64_MAX));
  EXPECT_EQ(good("@t 0x10"), number("t", 16));
  EXPECT_EQ(good("byte 255"), number("y", 255));
  EXPECT_EQ(good("1.5"), number("d", std::bit_cast<uint64_t>(1.5)));
  EXPECT_EQ(good("double 2"), number("d", std::bit_cast<uint64_t>(2.0)));
  EXPECT_EQ(good("'inactive-or-failed'"), string("inactive-or-failed"));
  EXPECT_EQ(good(R"("a \"word\"\n")"), string("a \"word\"\n"));
}

TEST(GVariant, Containers) {
  EXPECT_EQ(good("['a', 'b']"), (DBusValue{"as", 0, {}, {string("a"), string("b")}}));
  EXPECT_EQ(good("@as []"), (DBusValue{"as", 0, {}, {}}));
  EXPECT_EQ(good("[uint32 1, 2]"), (DBusValue{"au", 0, {}, {number("u", 1), number("u", 2)}}));
  const DBusValue pair{"(ss)", 0, {}, {string("/dev/fuse"), string("rw")}};
  EXPECT_EQ(good("[('/dev/fuse', 'rw')]"), (DBusValue{"a(ss)", 0, {}, {pair}}));
  EXPECT_EQ(good("@a(st) [('/', 5)]").items.at(0).items.at(1), number("t", 5));
}

TEST(GVariant, Refused) {
  for (const char* text : {"",
                           "x",
                           "5 6",
                           "'open",
                           "[1, 'a']",
                           "[]",
                           "()",
                           "uint64 -1",
                           "byte 256",
                           "int16 40000",
                           "@q 'a'",
                           "@z 5",
                           "@ 5",
                           "@a 5",
                           "@(s 'a'",
                           "uint32 true",
                           "[1",
                           "(1",
                           "inf",
                           "nan",
                           "@as 5",
                           "99999999999",
                           "1e999",
                           "[[[[[[[[[[[[1]]]]]]]]]]]]",
                           "\"\\u0041\"",
                           "@(ss) ('a',)",
                           "@aaaaaaaaaaaaaas []"}) {
    EXPECT_FALSE(parse_gvariant(text)) << text;
  }
  EXPECT_FALSE(parse_gvariant(std::string(1 << 20, '[')));
}

TEST(GVariant, Bytes) {
  dbus::Writer out;
  append(out, good("[('a', uint64 7)]"));
  using namespace std::string_literals;
  EXPECT_EQ(out.bytes(),
            "\x10\0\0\0"s + "\0\0\0\0"s + "\x01\0\0\0a\0\0\0"s + "\x07\0\0\0\0\0\0\0"s);
}

TEST(AnnotatedProperties, NamesAndSeconds) {
  const auto found =
      annotated_properties({{"org.systemd.property.CollectMode", "'inactive-or-failed'"},
                            {"org.systemd.property.TimeoutStopSec", "123"},
                            {"org.systemd.property.RuntimeMaxSec", "uint32 2"},
                            {"org.systemd.property.WatchdogSec", "1.25"},
                            {"org.systemd.property.IOSec", "5"},
                            {"other", "x"}});
  ASSERT_TRUE(found) << found.error().what();
  ASSERT_EQ(found->size(), 5U);
  EXPECT_EQ((*found)[0].name, "CollectMode");
  EXPECT_EQ((*found)[1].name, "IOSec") << "runc takes it for seconds behind a small letter only";
  EXPECT_EQ((*found)[2].name, "RuntimeMaxUSec");
  EXPECT_EQ((*found)[2].value, number("t", 2000000));
  EXPECT_EQ((*found)[3].value, number("t", 123000000));
  EXPECT_EQ((*found)[4].value, number("t", 1250000));
}

TEST(AnnotatedProperties, TheErrorNamesTheAnnotation) {
  const auto text = [](const char* key, const char* value) {
    const auto found = annotated_properties({{key, value}});
    return found ? std::string() : found.error().what();
  };
  EXPECT_EQ(text("org.systemd.property.Collect-Mode", "'x'"),
            "annotation org.systemd.property.Collect-Mode: \"Collect-Mode\" is not the name of a "
            "unit's property");
  EXPECT_NE(text("org.systemd.property.ab", "'x'"), "");
  EXPECT_NE(text("org.systemd.property.CollectMode", "x")
                .find("org.systemd.property.CollectMode: value \"x\""),
            std::string::npos);
  EXPECT_NE(text("org.systemd.property.TimeoutStopSec", "'x'"), "");
  EXPECT_NE(text("org.systemd.property.TimeoutStopSec", "-1"), "");
}

}  // namespace
}  // namespace amphora::cgroup
