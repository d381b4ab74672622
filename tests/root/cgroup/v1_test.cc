// SPDX-License-Identifier: Apache-2.0
// The v1 driver on real hierarchies (and the unified side of a hybrid host): placing, limits, freezing,
// killing. Figures, updates and removal are in v1_life_test.cc.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/files.h"
#include "support.h"
#include "v1_fixture.h"

namespace amphora::cgroup {
namespace {

TEST_F(V1, AProcessIsPlacedInEveryHierarchyAndNothingStays) {
  const std::string path = unique_path() + "/deep";
  Child child(sleeper);
  std::map<std::string, std::string> paths;
  {
    Guard cgroup = made(default_linux(path));
    paths = cgroup->paths();
    ASSERT_EQ(paths.size(), host_.hierarchies.size() + (host_.unified_mount.empty() ? 0 : 1));
    ASSERT_TRUE(cgroup->add(child.pid()));
    const std::string text = cgroups_of(child.pid());
    for (const auto& [controllers, below] : paths) {
      EXPECT_NE(text.find(":" + controllers + ":" + path + "\n"), std::string::npos) << text;
    }
    EXPECT_EQ(*cgroup->pids(), std::vector<pid_t>{child.pid()});
    const auto second = create("id", default_linux(path), host_, {});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errc::kExists);
    EXPECT_NE(second.error().what().find("container's cgroup is not empty: 1 process(es) found in"),
              std::string::npos);
  }
  for (const auto& hierarchy : host_.hierarchies) {
    EXPECT_FALSE(exists(hierarchy.mount_point + path)) << hierarchy.mount_point;
    ::rmdir((hierarchy.mount_point + path.substr(0, path.rfind('/'))).c_str());
  }
  ::rmdir((host_.unified_mount + path.substr(0, path.rfind('/'))).c_str());
}

TEST_F(V1, AChildCanPlaceItself) {
  Guard cgroup = made(default_linux(unique_path()));
  auto join = cgroup->self_join(0, {});
  ASSERT_TRUE(join) << join.error().what();
  EXPECT_EQ(join->tasks.size(), host_.hierarchies.size());
  Child child(
      [&] {
        for (const UniqueFd& fd : join->tasks) {
          if (::write(fd.get(), "0", 1) != 1) return 1;
        }
        return sleeper();
      },
      join->clone_into.get());
  child.release();
  const std::string path = cgroup->paths().at("memory");
  EXPECT_TRUE(eventually([&] {
    size_t found = 0, at = 0;
    const std::string text = cgroups_of(child.pid());
    while ((at = text.find(path + "\n", at)) != std::string::npos) ++found, ++at;
    return found == cgroup->paths().size();
  })) << cgroups_of(child.pid());
}

TEST_F(V1, LimitsAreInTheFiles) {
  oci::Linux linux_ = default_linux(unique_path());
  auto& resources = linux_.resources;
  auto& memory = resources.memory.emplace();
  memory.limit = 64 << 20;
  memory.swap = 96 << 20;
  memory.reservation = 32 << 20;
  memory.swappiness = 7;
  memory.disable_oom_killer = true;
  memory.kernel = 1 << 20;
  auto& cpu = resources.cpu.emplace();
  cpu.shares = 512;
  cpu.period = 50000;
  cpu.quota = 25000;
  cpu.burst = 10000;
  cpu.cpus = "0";
  cpu.mems = "0";
  resources.pids_limit = 33;
  Guard cgroup = made(linux_);
  const auto applied = cgroup->apply(resources);
  ASSERT_TRUE(applied) << applied.error().what();
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.limit_in_bytes"), "67108864");
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.memsw.limit_in_bytes"), "100663296");
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.soft_limit_in_bytes"), "33554432");
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.swappiness"), "7");
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.oom_control").rfind("oom_kill_disable 1", 0), 0u);
  EXPECT_EQ(file(dir(cgroup, "cpu") + "/cpu.shares"), "512");
  EXPECT_EQ(file(dir(cgroup, "cpu") + "/cpu.cfs_period_us"), "50000");
  EXPECT_EQ(file(dir(cgroup, "cpu") + "/cpu.cfs_quota_us"), "25000");
  EXPECT_EQ(file(dir(cgroup, "cpu") + "/cpu.cfs_burst_us"), "10000");
  EXPECT_EQ(file(dir(cgroup, "cpuset") + "/cpuset.cpus"), "0");
  EXPECT_EQ(file(dir(cgroup, "pids") + "/pids.max"), "33");
  ASSERT_EQ(cgroup->warnings().size(), 1u);
  EXPECT_EQ(cgroup->warnings()[0],
            "kernel memory limits are ignored: the kernel no longer has them");
}

TEST_F(V1, ErrorsNameFileValueAndReason) {
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources;
  resources.cpu.emplace().cpus = "4000";
  auto applied = cgroup->apply(resources);
  ASSERT_FALSE(applied);
  EXPECT_NE(applied.error().what().find("write cpuset.cpus = 4000 in "), std::string::npos)
      << applied.error().what();
  EXPECT_NE(applied.error().what().find("online on this host"), std::string::npos);

  resources = {};
  resources.unified["memory.max"] = "1";
  EXPECT_EQ(cgroup->apply(resources).error().what(),
            "invalid configuration: unified resource \"memory.max\" can't be set: this host uses "
            "cgroup v1");

  resources = {};
  resources.network.emplace().class_id = 5;
  if (!has("net_cls")) {
    EXPECT_EQ(cgroup->apply(resources).error().what(),
              "cannot set network class id: controller net_cls is not available on this host");
  }
  resources = {};
  resources.memory.emplace().swappiness = 101;
  EXPECT_EQ(cgroup->apply(resources).error().what(),
            "memory swappiness 101: the valid range is 0-100");
}

TEST_F(V1, MissingHierarchyMattersOnlyWhenAsked) {
  std::erase_if(host_.hierarchies, [](const auto& h) { return h.controllers == "pids"; });
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources;
  EXPECT_TRUE(cgroup->apply(resources));
  resources.pids_limit = 5;
  const auto applied = cgroup->apply(resources);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().what(),
            "cannot set pids limit: controller pids is not available on this host");
  EXPECT_EQ(applied.error().code(), Errc::kUnsupported);
}

TEST_F(V1, AnUpdateThatFailsLateGivesTheOomKillerBack) {
  std::erase_if(host_.hierarchies, [](const auto& h) { return h.controllers == "pids"; });
  Guard cgroup = made(default_linux(unique_path()));
  const std::string control = dir(cgroup, "memory") + "/memory.oom_control";
  for (const bool before : {false, true}) {
    oci::Resources resources;
    resources.memory.emplace().disable_oom_killer = before;
    ASSERT_TRUE(cgroup->update(resources));
    resources.memory->disable_oom_killer = !before;
    resources.pids_limit = 5;
    EXPECT_FALSE(cgroup->update(resources)) << "there is no pids controller";
    EXPECT_TRUE(file(control).starts_with(before ? "oom_kill_disable 1" : "oom_kill_disable 0"))
        << file(control);
  }
}

TEST_F(V1, HugepagesComeFromTheUnifiedSideOfAHybridHost) {
  if (host_.cgroup_mode != setup::CgroupMode::kHybrid || has("hugetlb") ||
      file(host_.unified_mount + "/cgroup.controllers").find("hugetlb") == std::string::npos) {
    GTEST_SKIP() << "hugetlb is not on the unified side of this host";
  }
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources;
  resources.hugepages.push_back({"2MB", 4 << 20});
  const auto applied = cgroup->apply(resources);
  ASSERT_TRUE(applied) << applied.error().what();
  const std::string side = host_.unified_mount + cgroup->paths().at("");
  EXPECT_EQ(file(side + "/hugetlb.2MB.max"), "4194304");
  EXPECT_EQ(file(side + "/hugetlb.2MB.rsvd.max"), "4194304");
  const auto stats = cgroup->stats();
  ASSERT_TRUE(stats);
  const auto entry = std::find_if(stats->hugetlb.begin(), stats->hugetlb.end(),
                                  [](const HugetlbStats& h) { return h.page_size == "2MB"; });
  ASSERT_NE(entry, stats->hugetlb.end());
  EXPECT_EQ(entry->max, uint64_t{4} << 20);
}

/// Makes a device node and opens it: 0, or the errno.
int open_device(mode_t type, unsigned major_number, unsigned minor_number, int flags) {
  char path[] = "/tmp/amphora-device-XXXXXX";
  const int made = ::mkstemp(path);
  ::close(made);
  ::unlink(path);
  if (::mknod(path, type | 0600, makedev(major_number, minor_number)) != 0) return errno;
  const int fd = ::open(path, flags);
  const int err = fd < 0 ? errno : 0;
  if (fd >= 0) ::close(fd);
  ::unlink(path);
  return err;
}

TEST_F(V1, DevicesAreTheRuntimesListAndNoMore) {
  Guard cgroup = made(default_linux(unique_path()));
  auto linux_ = default_linux("");
  linux_.resources.devices.push_back({true, 'c', 10, 229, "rw"});
  const auto applied = cgroup->apply(linux_.resources);
  ASSERT_TRUE(applied) << applied.error().what();
  const std::string list = file(dir(cgroup, "devices") + "/devices.list");
  EXPECT_NE(list.find("c 10:229 rw"), std::string::npos) << list;
  EXPECT_NE(list.find("c 136:* rwm"), std::string::npos) << list;
  EXPECT_EQ(list.find("a *:*"), std::string::npos) << list;
  Child child([] {
    if (open_device(S_IFCHR, 1, 3, O_RDWR) != 0) return 1;         // null
    if (open_device(S_IFCHR, 1, 11, O_RDONLY) != EPERM) return 2;  // kmsg: made, not opened
    return 0;
  });
  ASSERT_TRUE(cgroup->add(child.pid()));
  child.release();
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(V1, FreezeStopsAndThawStarts) {
  Guard cgroup = made(default_linux(unique_path()));
  const Beat beat;
  Child child([&] { return beat.run(); });
  ASSERT_TRUE(cgroup->add(child.pid()));
  child.release();
  ASSERT_TRUE(beat.moves(5000));
  EXPECT_FALSE(*cgroup->is_frozen());
  ASSERT_TRUE(cgroup->freeze(Frozen::kYes));
  EXPECT_TRUE(*cgroup->is_frozen());
  EXPECT_FALSE(beat.moves(100));
  const auto second = create("id", default_linux(cgroup->paths().at("freezer")), host_, {});
  EXPECT_FALSE(second);
  ASSERT_TRUE(cgroup->freeze(Frozen::kNo));
  EXPECT_FALSE(*cgroup->is_frozen());
  EXPECT_TRUE(beat.moves(5000));
}

TEST_F(V1, AnEmptyButFrozenCgroupIsRefused) {
  Guard cgroup = made(default_linux(unique_path()));
  ASSERT_TRUE(cgroup->freeze(Frozen::kYes));
  const auto second = create("id", default_linux(cgroup->paths().at("freezer")), host_, {});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().what().find("container's cgroup unexpectedly frozen"),
            std::string::npos);
}

TEST_F(V1, KillReachesAForkTreeFrozenOrNot) {
  for (const bool frozen : {false, true}) {
    Guard cgroup = made(default_linux(unique_path()));
    Child child(fork_tree);
    ASSERT_TRUE(cgroup->add(child.pid()));
    child.release();
    ASSERT_TRUE(eventually([&] { return cgroup->pids()->size() == 17; }));
    if (frozen) {
      ASSERT_TRUE(cgroup->freeze(Frozen::kYes));
    }
    const auto killed = cgroup->kill_all(SIGKILL);
    ASSERT_TRUE(killed) << killed.error().what();
    EXPECT_TRUE(cgroup->pids()->empty());
    EXPECT_EQ(child.wait(), 128 + SIGKILL);
  }
}

TEST_F(V1, KillWithoutTheUnifiedSideWorksToo) {
  host_.unified_mount.clear();
  host_.cgroup_mode = setup::CgroupMode::kV1;
  Guard cgroup = made(default_linux(unique_path()));
  Child child(fork_tree);
  ASSERT_TRUE(cgroup->add(child.pid()));
  child.release();
  ASSERT_TRUE(eventually([&] { return cgroup->pids()->size() == 17; }));
  ASSERT_TRUE(cgroup->kill_all(SIGTERM));
  EXPECT_EQ(child.wait(), 128 + SIGTERM);
  EXPECT_TRUE(eventually([&] { return cgroup->pids()->empty(); }));
}

}  // namespace
}  // namespace amphora::cgroup
