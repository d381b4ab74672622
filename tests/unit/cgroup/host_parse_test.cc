// SPDX-License-Identifier: Apache-2.0
// Finding hierarchies in the mount table of hosts that are not this one.
#include "executor/setup/host_parse.h"

#include <gtest/gtest.h>

namespace amphora::setup {
namespace {

Host hosted(std::string_view own, std::string_view mounts) {
  CgroupTable table(parse_own_cgroups(own));
  table.add_mounts(mounts);
  Host host;
  table.fill(host);
  return host;
}

TEST(HostParse, CoMountedNamedAndUnified) {
  const Host host =
      hosted("12:cpu,cpuacct:/user\n3:name=systemd:/user/s\n1:net_cls:/\n0::/user/s (deleted)\n",
             "25 20 0:5 / /proc rw - proc proc rw\n"
             "30 25 0:26 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup "
             "rw,xattr,name=systemd\n"
             "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
             "32 25 0:28 / /sys/fs/cgroup/unified rw shared:11 - cgroup2 cgroup2 rw,nsdelegate\n");
  ASSERT_EQ(host.hierarchies.size(), 2u);  // net_cls is not mounted
  EXPECT_EQ(host.hierarchies[0].controllers, "cpu,cpuacct");
  EXPECT_EQ(host.hierarchies[0].mount_point, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(host.hierarchies[0].own_path, "/user");
  EXPECT_EQ(host.hierarchies[1].controllers, "name=systemd");
  EXPECT_EQ(host.hierarchies[1].own_path, "/user/s");
  EXPECT_EQ(host.unified_mount, "/sys/fs/cgroup/unified");
  EXPECT_EQ(host.unified_own_path, "/user/s");
}

TEST(HostParse, CpuIsNotCpusetAndTheFirstMountCounts) {
  const Host host = hosted("4:cpuset:/\n3:cpu:/\n",
                           "1 0 0:1 / /c/cpuset rw - cgroup cgroup rw,cpuset\n"
                           "2 0 0:2 / /c/cpu rw - cgroup cgroup rw,cpu\n"
                           "3 0 0:2 / /again rw - cgroup cgroup rw,cpu\n");
  ASSERT_EQ(host.hierarchies.size(), 2u);
  EXPECT_EQ(host.hierarchies[0].mount_point, "/c/cpuset");
  EXPECT_EQ(host.hierarchies[1].mount_point, "/c/cpu");
}

TEST(HostParse, NestedContainersSeeAPartOfTheHierarchy) {
  const auto own_path = [](const char* own) {
    return hosted(std::string("1:memory:") + own + "\n",
                  "1 0 0:1 /docker/abc /my\\040cg rw - cgroup cgroup rw,memory\n")
        .hierarchies.at(0);
  };
  EXPECT_EQ(own_path("/docker/abc").own_path, "/");
  EXPECT_EQ(own_path("/docker/abc/x").own_path, "/x");
  EXPECT_EQ(own_path("/docker/abcd").own_path, "/");  // outside of what the mount shows
  EXPECT_EQ(own_path("/docker/abc").mount_point, "/my cg");
}

TEST(HostParse, ReadingStopsWhenAllIsFound) {
  CgroupTable table(parse_own_cgroups("1:memory:/\n0::/\n"));
  EXPECT_FALSE(table.complete());
  table.add_mounts("1 0 0:1 / /m rw - cgroup cgroup rw,memory\n");
  EXPECT_FALSE(table.complete());
  table.add_mounts("1 0 0:1 / /u rw - cgroup2 cgroup2 rw\n");
  EXPECT_TRUE(table.complete());
}

TEST(HostParse, GarbageIsSkipped) {
  const Host host = hosted("x\n::\n5:memory\n7:pids:relative\n", " - cgroup\n - cgroup2 \n\n");
  EXPECT_TRUE(host.hierarchies.empty());
}

TEST(HostParse, KernelFilesystemsComeDeepestFirst) {
  const auto points = parse_kernel_mounts(
      "1 0 0:1 / / rw - ext4 /dev/vda rw\n"
      "2 1 0:2 / /proc rw shared:5 - proc proc rw\n"
      "3 1 0:3 / /sys rw - sysfs sysfs rw\n"
      "4 1 0:4 / /processes rw - tmpfs proc rw\n"
      "5 1 0:2 / /my\\040root/proc rw - proc proc rw\n"
      "6 1 0:2 / /short\n");
  EXPECT_EQ(points, (std::vector<std::string>{"/my root/proc", "/proc", "/sys"}));
}

TEST(ProbeHost, KnowsThisMachine) {
  const auto host = probe_host();
  ASSERT_TRUE(host) << host.error().what();
  EXPECT_GE(host->last_capability, 37);
  EXPECT_LE(host->last_capability, 63);
  EXPECT_TRUE(host->proc_fd);
  for (const Hierarchy& hierarchy : host->hierarchies) {
    EXPECT_TRUE(hierarchy.mount_point.starts_with('/')) << hierarchy.controllers;
    EXPECT_TRUE(hierarchy.own_path.starts_with('/')) << hierarchy.controllers;
  }
}

}  // namespace
}  // namespace amphora::setup
