// SPDX-License-Identifier: Apache-2.0
// HOME out of a container's /etc/passwd: which line counts, and lines that its image should not have.
#include "executor/runtime/passwd.h"

#include <gtest/gtest.h>

namespace amphora::runtime {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kPasswd =
    "root:x:0:0:root:/root:/bin/bash\nno line\nweb:x:1000:1000:,,,:/home/web:/bin/sh\n"
    "again:x:1000:1000::/home/again:/bin/sh\nlast:x:33:33::/var/www";

TEST(Passwd, TheFirstLineOfAUserCounts) {
  EXPECT_EQ(home_in(kPasswd, 0), "/root");
  EXPECT_EQ(home_in(kPasswd, 1000), "/home/web");
  EXPECT_EQ(home_in(kPasswd, 33), "/var/www");
}

TEST(Passwd, WithoutALineItIsTheRoot) {
  EXPECT_EQ(home_in(kPasswd, 7), "/");
  EXPECT_EQ(home_in("", 0), "/");
  EXPECT_EQ(home_in("root:x:0:0:root::/bin/sh\n", 0), "/") << "an empty one";
  EXPECT_EQ(home_in("root:x:0\n", 0), "/") << "a line cut short";
  EXPECT_EQ(home_in("a:x:4294967296:0::/a:\nb:x:0x0:0::/b:\nc:x:+0:0::/c:\n", 0), "/");
}

TEST(Passwd, ANulIsInNoVariable) {
  EXPECT_EQ(home_in("root:x:0:0:\0:/r\0oot:/bin/sh\n"sv, 0), "/");
  EXPECT_EQ(home_in("root:x:0:0::/r\0oot:\nroot:x:0:0::/root:\n"sv, 0), "/root");
}

}  // namespace
}  // namespace amphora::runtime
