// SPDX-License-Identifier: Apache-2.0
// Which of an image's wasm layers an entrypoint means, and the messages between client and helper.
#include "content/resolve.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wasm/content_protocol.h"

namespace amphora::content {
namespace {

using ::testing::HasSubstr;

image::Descriptor layer(const std::string& digest, const std::string& title) {
  image::Descriptor out;
  out.digest = digest;
  if (!title.empty()) out.annotations["org.opencontainers.image.title"] = title;
  return out;
}

TEST(ChooseLayer, OneIsMeantByAnyName) {
  EXPECT_EQ(choose_layer({layer("d", "x.wasm")}, "/other"), 0U);
  EXPECT_EQ(choose_layer({layer("d", "")}, ""), 0U);
  // What cannot be told apart from nothing needs no name.
  EXPECT_EQ(choose_layer({layer("d", "a\nb")}, ""), 0U);
}

TEST(ChooseLayer, AmongSeveralTheTitleDecides) {
  const std::vector<image::Descriptor> layers{layer("1", "a.wasm"), layer("2", "b.wasm"),
                                              layer("3", "")};
  EXPECT_EQ(choose_layer(layers, "/bin/b.wasm"), 1U);
  EXPECT_EQ(choose_layer(layers, "a.wasm"), 0U);
  EXPECT_EQ(choose_layer(layers, "/x/b.wasm#run"), 1U);
  const auto none = choose_layer(layers, "/c.wasm");
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().what(), HasSubstr("3 wasm layers (a.wasm, b.wasm, 3)"));
  // A layer without a title is not what an empty name means.
  EXPECT_FALSE(choose_layer(layers, "/").has_value());
}

TEST(ChooseLayer, TitlesThatSayNothingAreRefused) {
  const auto reason = [](const std::vector<image::Descriptor>& layers) {
    const auto chosen = choose_layer(layers, "/a.wasm");
    return chosen ? std::string() : chosen.error().what();
  };
  EXPECT_THAT(reason({layer("1", "a.wasm"), layer("2", "a.wasm")}),
              HasSubstr("two of its wasm layers are titled \"a.wasm\""));
  EXPECT_EQ(reason({layer("1", "a.wasm"), layer("2", "b.wasm"), layer("3", "b.wasm")}), "");
  for (const std::string& title :
       {std::string("a\0b", 3), std::string("a\nb"), std::string(256, 'x')}) {
    EXPECT_THAT(reason({layer("1", "a.wasm"), layer("2", title)}), HasSubstr("no file name"));
  }
  EXPECT_THAT(reason(std::vector<image::Descriptor>(66, layer("1", ""))),
              HasSubstr("it has 66 wasm layers; at most 65"));
}

TEST(Messages, FieldsComeBackAsTheyWere) {
  const std::vector<std::string> fields{"open", "", "a b", ""};
  EXPECT_EQ(wasm::unpack(wasm::pack({"open", "", "a b", ""})), fields);
  EXPECT_TRUE(wasm::unpack("").empty());
  EXPECT_EQ(wasm::unpack("no end"), std::vector<std::string>{"no end"});
}

}  // namespace
}  // namespace amphora::content
