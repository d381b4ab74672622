// SPDX-License-Identifier: Apache-2.0
// Path algebra.
#include "executor/base/path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amphora::path {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Path, Clean) {
  for (const auto& [in, out] :
       std::vector<std::pair<const char*, const char*>>{{"", "."},
                                                        {".", "."},
                                                        {"/", "/"},
                                                        {"//", "/"},
                                                        {"a", "a"},
                                                        {"a/", "a"},
                                                        {"/a//b/", "/a/b"},
                                                        {"./a/./b", "a/b"},
                                                        {"a/../b", "b"},
                                                        {"a/..", "."},
                                                        {"/a/..", "/"},
                                                        {"/../x", "/x"},
                                                        {"/../../..", "/"},
                                                        {"../a", "../a"},
                                                        {"a/../../b", "../b"},
                                                        {"../../a", "../../a"},
                                                        {"/a/b/../../c", "/c"},
                                                        {"...", "..."},
                                                        {"/a/.b", "/a/.b"}}) {
    EXPECT_EQ(clean(in), out) << in;
  }
}

TEST(Path, Join) {
  EXPECT_EQ(join("/a", "b"), "/a/b");
  EXPECT_EQ(join("/a", "/b"), "/a/b") << "below, though absolute";
  EXPECT_EQ(join("/a/", "./b/../c"), "/a/c");
  EXPECT_EQ(join("/", "b"), "/b");
  EXPECT_EQ(join("/a", ""), "/a");
  EXPECT_EQ(join("/a", "../../../b"), "/b") << "stopped at the root";
}

TEST(Path, BaseAndDirectory) {
  EXPECT_EQ(base_name("/a/b"), "b");
  EXPECT_EQ(base_name("b"), "b");
  EXPECT_EQ(base_name("/a/"), "");
  EXPECT_EQ(dir_name("/a/b"), "/a");
  EXPECT_EQ(dir_name("/a"), "/");
  EXPECT_EQ(dir_name("a"), ".");
  EXPECT_EQ(dir_name("a/b"), "a");
}

TEST(Path, IsBelowGoesByComponent) {
  EXPECT_TRUE(is_below("/foo", "/foo"));
  EXPECT_TRUE(is_below("/foo/bar", "/foo"));
  EXPECT_FALSE(is_below("/foobar", "/foo"));
  EXPECT_FALSE(is_below("/fo", "/foo"));
  EXPECT_TRUE(is_below("/anything", "/"));
  EXPECT_FALSE(is_below("relative", "/"));
}

TEST(Path, Components) {
  EXPECT_THAT(components("/a//b/./c/"), ElementsAre("a", "b", ".", "c"));
  EXPECT_THAT(components("a"), ElementsAre("a"));
  EXPECT_THAT(components("/"), IsEmpty());
  EXPECT_THAT(components(""), IsEmpty());
}

}  // namespace
}  // namespace amphora::path
