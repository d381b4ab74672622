// SPDX-License-Identifier: Apache-2.0
// Names of a component's imports and exports, and that no length of a file is believed.
#include "image/component.h"

#include <string>

#include <gtest/gtest.h>

namespace amphora::image {
namespace {

const std::string kHead("\0asm\x0d\0\1\0", 8);

std::string component() {
  // import "a:b/c" (instance of type 0), custom section, export "run" (function 1) without a type.
  return kHead +
         std::string(
             "\x0a\x0a\x01\x00\x05"
             "a:b/c\x05\x00",
             12) +
         std::string("\x00\x02\x01x", 4) + std::string("\x0b\x09\x01\x00\x03run\x01\x01\x00", 11);
}

TEST(Binary, ByTheFirstEightBytes) {
  EXPECT_EQ(binary_of(kHead), Binary::kComponent);
  EXPECT_EQ(binary_of(std::string("\0asm\1\0\0\0", 8)), Binary::kModule);
  EXPECT_EQ(binary_of(std::string("\0asm\1\0\0", 7)), Binary::kOther);
  EXPECT_EQ(binary_of(""), Binary::kOther);
}

TEST(Component, ImportsAndExports) {
  const auto names = component_names(component());
  ASSERT_TRUE(names.has_value());
  EXPECT_EQ(names->imports, std::vector<std::string>{"a:b/c"});
  EXPECT_EQ(names->exports, std::vector<std::string>{"run"});
}

TEST(Component, CutOffAnywhereIsNothingOrLess) {
  const std::string whole = component();
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto names = component_names(std::string_view(whole).substr(0, size));
    const size_t count = names ? names->imports.size() + names->exports.size() : 0;
    EXPECT_LE(count, 1U) << size;
  }
}

TEST(Component, AnyByteMayBeAnyValue) {
  const std::string whole = component();
  for (size_t at = 8; at < whole.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = whole;
      changed[at] = static_cast<char>(value);
      const auto names = component_names(changed);
      const size_t count = names ? names->imports.size() + names->exports.size() : 0;
      EXPECT_LE(count, whole.size());
    }
  }
}

TEST(Component, AModuleHasNone) {
  EXPECT_FALSE(component_names(std::string("\0asm\1\0\0\0", 8)).has_value());
}

}  // namespace
}  // namespace amphora::image
