// SPDX-License-Identifier: Apache-2.0
// Parsing of snapshot mounts' options; the mounting itself needs root and is tested with containerd.
#include "shim/rootfs.h"

#include <sys/mount.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amphora::shim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ParsedOptions parse(const std::vector<std::string>& options) {
  auto parsed = parse_mount_options(options);
  EXPECT_TRUE(parsed.has_value()) << parsed.error().what();
  return parsed.value_or(ParsedOptions{});
}

TEST(MountOptions, Overlay) {
  const auto parsed = parse({"index=off", "userxattr", "workdir=/s/3/work", "upperdir=/s/3/fs",
                             "lowerdir=/s/2/fs:/s/1/fs"});
  EXPECT_EQ(parsed.flags, 0U);
  EXPECT_FALSE(parsed.is_bind());
  EXPECT_EQ(parsed.data, "index=off,userxattr,workdir=/s/3/work,upperdir=/s/3/fs");
  EXPECT_THAT(parsed.lower, ElementsAre("/s/2/fs", "/s/1/fs"));
}

TEST(MountOptions, BindsAndLaterWordsWin) {
  const auto parsed = parse({"rbind", "ro", "nosuid"});
  EXPECT_TRUE(parsed.is_bind());
  EXPECT_EQ(parsed.flags, static_cast<unsigned long>(MS_BIND | MS_REC | MS_RDONLY | MS_NOSUID));
  EXPECT_EQ(parse({"ro", "rw", "noexec", "exec"}).flags, 0U);
  EXPECT_EQ(parse({"rslave"}).propagation, static_cast<unsigned long>(MS_SLAVE | MS_REC));
}

TEST(MountOptions, DataKeepsItsCommasAndOrder) {
  EXPECT_EQ(parse({"context=\"system_u:object_r:x:s0:c1,c2\"", "subvol=a"}).data,
            "context=\"system_u:object_r:x:s0:c1,c2\",subvol=a");
  EXPECT_TRUE(parse({"loop"}).loop);
}

TEST(MountOptions, WhatCannotBeHonouredIsRefused) {
  EXPECT_THAT(parse_mount_options({"X-containerd.mkfs=1"}).error().what(),
              HasSubstr("containerd's own"));
  for (const char* const text :
       {"uidmap=0:100000", "gidmap=0:1:0", "uidmap=a:b:c", "uidmap=0:1:2;"}) {
    const auto mapped = parse_mount_options({text});
    ASSERT_FALSE(mapped.has_value()) << text;
    EXPECT_EQ(mapped.error().code(), Errc::kInvalid);
  }
}

TEST(MountOptions, IdMapsAreRanges) {
  const auto options = parse({"uidmap=0:100000:65536,65536:1:1", "gidmap=0:5:10"});
  ASSERT_EQ(options.ids.uids.size(), 2U);
  EXPECT_EQ(options.ids.uids[0].outside, 100000U);
  EXPECT_EQ(options.ids.uids[1].inside, 65536U);
  ASSERT_EQ(options.ids.gids.size(), 1U);
  EXPECT_EQ(options.ids.gids[0].size, 10U);
}

TEST(Unmount, WhatIsNotMountedIsNoError) {
  EXPECT_TRUE(unmount_rootfs("/tmp/amphora-no-such-dir").has_value());
  EXPECT_FALSE(is_mount_point("/tmp/amphora-no-such-dir"));
  EXPECT_TRUE(is_mount_point("/proc"));
}

}  // namespace
}  // namespace amphora::shim
