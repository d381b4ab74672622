// SPDX-License-Identifier: Apache-2.0
// Where cgroups lie: path rules and systemd's names.
#include "executor/cgroup/layout.h"

#include <gtest/gtest.h>

namespace amphora::cgroup {
namespace {

setup::Host hybrid() {
  setup::Host host;
  host.cgroup_mode = setup::CgroupMode::kHybrid;
  host.hierarchies = {{"cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/own"},
                      {"memory", "/sys/fs/cgroup/memory", "/other/own"}};
  host.unified_mount = "/sys/fs/cgroup/unified";
  host.unified_own_path = "/u";
  return host;
}

std::vector<std::string> dirs(std::string_view path) {
  std::vector<std::string> out;
  const auto locations = v1_locations(path, "web", hybrid());
  if (!locations) return {locations.error().what()};
  for (const Location& location : *locations) out.push_back(location.dir());
  return out;
}

TEST(Layout, AbsolutePathsStartAtTheMount) {
  EXPECT_EQ(dirs("/k8s.io//pod/./web"),
            (std::vector<std::string>{"/sys/fs/cgroup/cpu,cpuacct/k8s.io/pod/web",
                                      "/sys/fs/cgroup/memory/k8s.io/pod/web",
                                      "/sys/fs/cgroup/unified/k8s.io/pod/web"}));
}

TEST(Layout, RelativeAndEmptyPathsStartAtOurOwn) {
  EXPECT_EQ(dirs("a/b")[1], "/sys/fs/cgroup/memory/other/own/a/b");
  EXPECT_EQ(dirs("")[0], "/sys/fs/cgroup/cpu,cpuacct/own/web");
  EXPECT_EQ(dirs("")[2], "/sys/fs/cgroup/unified/u/web");
}

TEST(Layout, DotDotIsRefused) {
  EXPECT_EQ(dirs("/a/../../etc")[0], "cgroups path \"/a/../../etc\": \"..\" is not allowed");
  EXPECT_EQ(dirs("..")[0], "cgroups path \"..\": \"..\" is not allowed");
}

TEST(Layout, V2RelativePathsStartAtOurParent) {
  setup::Host host;
  host.unified_mount = "/sys/fs/cgroup";
  host.unified_own_path = "/user.slice/session-1.scope";
  EXPECT_EQ(v2_location("a", "web", host)->dir(), "/sys/fs/cgroup/user.slice/a");
  EXPECT_EQ(v2_location("", "web", host)->dir(), "/sys/fs/cgroup/user.slice/web");
  EXPECT_EQ(v2_location("/a", "web", host)->dir(), "/sys/fs/cgroup/a");
  host.unified_own_path = "/";
  EXPECT_EQ(v2_location("a", "web", host)->dir(), "/sys/fs/cgroup/a");
  EXPECT_EQ(v2_location("/", "web", host)->dir(), "/sys/fs/cgroup");
}

TEST(Layout, CoMountedControllersAreFound) {
  const Location location{"cpu,cpuacct", "/m", "/p"};
  EXPECT_TRUE(location.has("cpu"));
  EXPECT_TRUE(location.has("cpuacct"));
  EXPECT_FALSE(location.has("cpuset"));
  EXPECT_FALSE((Location{"", "/m", "/p"}).has("cpu"));
}

TEST(UnitPath, IsSliceColonPrefixColonName) {
  EXPECT_TRUE(is_unit_path("system.slice:runc:web"));
  EXPECT_FALSE(is_unit_path("/a:b:c"));
  EXPECT_FALSE(is_unit_path("a:b"));
  const auto unit = parse_unit_path("machine.slice:libpod:web", "x", false);
  ASSERT_TRUE(unit);
  EXPECT_EQ(unit_name(*unit), "libpod-web.scope");
  EXPECT_EQ(unit_name(*parse_unit_path("::web", "x", false)), "web.scope");
  EXPECT_EQ(unit_name(*parse_unit_path("a.slice:p:b.slice", "x", false)), "b.slice");
  EXPECT_EQ(unit_name(*parse_unit_path("", "x", false)), "amphora-x.scope");
  EXPECT_EQ(parse_unit_path("", "x", true)->slice, "user.slice");
  EXPECT_EQ(parse_unit_path("/abs", "x", false).error().what(),
            "cgroups path \"/abs\": systemd wants slice:prefix:name");
  EXPECT_EQ(parse_unit_path("s.slice:p:", "x", false).error().what(),
            "cgroups path \"s.slice:p:\": the name is empty");
}

TEST(UnitPath, SlicesNestByTheirDashes) {
  EXPECT_EQ(*expand_slice("-.slice"), "/");
  EXPECT_EQ(*expand_slice("system.slice"), "/system.slice");
  EXPECT_EQ(*expand_slice("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice");
  for (const char* bad : {"a", ".slice", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice"}) {
    EXPECT_EQ(expand_slice(bad).error().what(), std::string("invalid slice name \"") + bad + "\"");
  }
}

}  // namespace
}  // namespace amphora::cgroup
