// SPDX-License-Identifier: Apache-2.0
// The v1 driver on real hierarchies: OOM, updates, stats, finding again and removal.
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

TEST_F(V1, OomIsCountedAndWatched) {
  oci::Linux linux_ = default_linux(unique_path());
  linux_.resources.memory.emplace().limit = 16 << 20;
  Guard cgroup = made(linux_);
  ASSERT_TRUE(cgroup->apply(linux_.resources));
  auto watch = cgroup->oom_watch();
  ASSERT_TRUE(watch) << watch.error().what();
  EXPECT_EQ(*cgroup->oom_kills(), 0u);
  Child child(greedy);
  ASSERT_TRUE(cgroup->add(child.pid()));
  child.release();
  EXPECT_EQ(child.wait(), 128 + SIGKILL);
  struct pollfd wait{watch->get(), POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 5000), 1);
  EXPECT_TRUE(eventually([&] { return *cgroup->oom_kills() == 1; }));
  const auto stats = cgroup->stats();
  ASSERT_TRUE(stats && stats->oom);
  EXPECT_EQ(stats->oom->oom_kill, 1u);
  EXPECT_EQ(stats->memory->usage.limit, uint64_t{16} << 20);
}

TEST_F(V1, UpdateKeepsWhatIsAbsentAndRollsBackWhatFails) {
  oci::Linux linux_ = default_linux(unique_path());
  linux_.resources.cpu.emplace().shares = 200;
  linux_.resources.pids_limit = 10;
  linux_.resources.memory.emplace().limit = 64 << 20;
  linux_.resources.memory->swap = 64 << 20;
  Guard cgroup = made(linux_);
  ASSERT_TRUE(cgroup->apply(linux_.resources));
  const auto devices = file(dir(cgroup, "devices") + "/devices.list");

  oci::Resources grow;  // beyond the present memory+swap: the order matters
  grow.memory.emplace().limit = 128 << 20;
  grow.memory->swap = 256 << 20;
  const auto grown = cgroup->update(grow);
  ASSERT_TRUE(grown) << grown.error().what();
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.limit_in_bytes"), "134217728");
  EXPECT_EQ(file(dir(cgroup, "cpu") + "/cpu.shares"), "200");
  EXPECT_EQ(file(dir(cgroup, "pids") + "/pids.max"), "10");
  EXPECT_EQ(file(dir(cgroup, "devices") + "/devices.list"), devices);

  oci::Resources bad;
  bad.cpu.emplace().shares = 300;
  bad.cpu->cpus = "0";
  bad.pids_limit = 20;
  bad.memory.emplace().limit = 32 << 20;
  bad.memory->swap = 32 << 20;
  bad.hugepages.push_back({"3MB", 1});
  const auto before = file(dir(cgroup, "cpuset") + "/cpuset.cpus");
  const auto updated = cgroup->update(bad);
  ASSERT_FALSE(updated);
  EXPECT_NE(updated.error().what().find("hugepage size 3MB"), std::string::npos)
      << updated.error().what();
  EXPECT_EQ(updated.error().what().find("could not be undone"), std::string::npos)
      << updated.error().what();
  EXPECT_EQ(file(dir(cgroup, "cpu") + "/cpu.shares"), "200");
  EXPECT_EQ(file(dir(cgroup, "cpuset") + "/cpuset.cpus"), before);
  EXPECT_EQ(file(dir(cgroup, "pids") + "/pids.max"), "10");
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.limit_in_bytes"), "134217728");
  EXPECT_EQ(file(dir(cgroup, "memory") + "/memory.memsw.limit_in_bytes"), "268435456");

  oci::Resources unlimited;
  unlimited.memory.emplace().limit = -1;
  ASSERT_TRUE(cgroup->update(unlimited));
  EXPECT_EQ(cgroup->stats()->memory->usage.limit, UINT64_MAX);
  EXPECT_EQ(cgroup->stats()->memory->swap.limit, UINT64_MAX);
}

TEST_F(V1, ALimitBelowUsageSaysHowMuchIsUsed) {
  Guard cgroup = made(default_linux(unique_path()));
  const Beat beat;
  Child child([&] {
    constexpr size_t kSize = size_t{24} << 20;
    void* block =
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::memset(block, 1, kSize);
    return beat.run();
  });
  ASSERT_TRUE(cgroup->add(child.pid()));
  child.release();
  ASSERT_TRUE(beat.moves(5000));
  oci::Resources resources;
  resources.memory.emplace().limit = 4 << 20;
  resources.memory->check_before_update = true;
  auto updated = cgroup->update(resources);
  ASSERT_FALSE(updated);
  EXPECT_EQ(updated.error().what().rfind("rejecting memory limit 4194304: current usage is ", 0),
            0u);
  resources.memory->check_before_update = false;
  updated = cgroup->update(resources);
  ASSERT_FALSE(updated);
  EXPECT_NE(updated.error().what().find("write memory.limit_in_bytes = 4194304 in "),
            std::string::npos);
  EXPECT_NE(updated.error().what().find("(current usage "), std::string::npos)
      << updated.error().what();
}

TEST_F(V1, StatsAreFilled) {
  Guard cgroup = made(default_linux(unique_path()));
  const Beat beat;
  Child child([&] {
    constexpr size_t kSize = size_t{4} << 20;
    void* block =
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::memset(block, 1, kSize);
    const int64_t until = now_ms() + 30;
    while (now_ms() < until) {
    }
    return beat.run();
  });
  ASSERT_TRUE(cgroup->add(child.pid()));
  child.release();
  ASSERT_TRUE(beat.moves(20000));
  const auto stats = cgroup->stats();
  ASSERT_TRUE(stats) << stats.error().what();
  EXPECT_FALSE(stats->v2);
  ASSERT_TRUE(stats->pids && stats->cpu && stats->memory && stats->io && stats->oom);
  EXPECT_EQ(stats->pids->current, 1u);
  EXPECT_EQ(stats->pids->limit, UINT64_MAX);
  EXPECT_GT(stats->cpu->usage, 1000000u);
  EXPECT_FALSE(stats->cpu->per_cpu.empty());
  EXPECT_GT(stats->memory->usage.usage, uint64_t{3} << 20);
  EXPECT_TRUE(stats->memory->stat.contains("total_rss"));
}

TEST_F(V1, FoundAgainFromTheStateEvenWhenGone) {
  Guard cgroup = made(default_linux(unique_path()));
  Child child(sleeper);
  ASSERT_TRUE(cgroup->add(child.pid()));
  oci::State state;
  cgroup->record(state);
  EXPECT_EQ(state.cgroup_dirs, cgroup->paths());
  auto again = open(state, host_);
  ASSERT_TRUE(again && *again);
  EXPECT_EQ(*(*again)->pids(), std::vector<pid_t>{child.pid()});
  ASSERT_TRUE((*again)->kill_all(SIGKILL));
  ASSERT_TRUE((*again)->remove());
  auto gone = open(state, host_);
  ASSERT_TRUE(gone && *gone);
  EXPECT_TRUE((*gone)->pids()->empty());
  EXPECT_FALSE(*(*gone)->is_frozen());
  EXPECT_TRUE((*gone)->kill_all(SIGKILL));
  EXPECT_TRUE((*gone)->remove());
}

TEST_F(V1, RemoveTakesWhatTheContainerMadeInside) {
  Guard cgroup = made(default_linux(unique_path()));
  const std::string inner = dir(cgroup, "memory") + "/a/b";
  ASSERT_EQ(::mkdir((dir(cgroup, "memory") + "/a").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(inner.c_str(), 0755), 0);
  ASSERT_TRUE(cgroup->remove());
  EXPECT_FALSE(exists(inner));
}

TEST_F(V1, RemoveOfAnInhabitedCgroupSaysSo) {
  Guard cgroup = made(default_linux(unique_path()));
  Child child(sleeper);
  ASSERT_TRUE(cgroup->add(child.pid()));
  const auto removed = cgroup->remove();
  ASSERT_FALSE(removed);
  EXPECT_NE(removed.error().what().find("container's cgroup is not empty: 1 process(es) found"),
            std::string::npos)
      << removed.error().what();
}

TEST_F(V1, AFailedCreateLeavesNothing) {
  const std::string path = unique_path();
  host_.hierarchies.push_back({"nothere", "/proc/no-such-mount", "/"});
  const auto cgroup = create("id", default_linux(path + "/x"), host_, {});
  ASSERT_FALSE(cgroup);
  EXPECT_NE(cgroup.error().what().find("make cgroup /proc/no-such-mount"), std::string::npos)
      << cgroup.error().what();
  for (const auto& hierarchy : host_.hierarchies) {
    EXPECT_FALSE(exists(hierarchy.mount_point + path)) << hierarchy.mount_point;
  }
}

TEST_F(V1, RelativePathsLieBelowOurOwn) {
  const std::string base = unique_path();
  for (auto& hierarchy : host_.hierarchies) hierarchy.own_path = base;
  host_.unified_own_path = base;
  {
    Guard cgroup = made(default_linux("sub"));
    EXPECT_EQ(cgroup->paths().at("memory"), base + "/sub");
    EXPECT_EQ(file(dir(cgroup, "cpuset") + "/cpuset.cpus"),
              file("/sys/fs/cgroup/cpuset/cpuset.cpus"));
  }
  for (const auto& h : host_.hierarchies) EXPECT_EQ(::rmdir((h.mount_point + base).c_str()), 0);
  if (!host_.unified_mount.empty()) {
    EXPECT_EQ(::rmdir((host_.unified_mount + base).c_str()), 0);
  }
}

TEST_F(V1, RootlessWithoutRightsWantsNothing) {
  for (auto& hierarchy : host_.hierarchies) hierarchy.own_path = "/";
  host_.unified_own_path = "/";
  const int result = in_child([&] {
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 1;
    Options options;
    options.rootless = true;
    oci::Linux linux_ = default_linux("");
    const auto none = create("rootless-id", linux_, host_, options);
    if (!none || *none != nullptr) return 2;
    linux_.resources.pids_limit = 5;
    const auto limited = create("rootless-id", linux_, host_, options);
    if (limited || limited.error().what().find("rootless needs no limits + no cgrouppath when no "
                                               "permission is granted for cgroups") != 0) {
      return 3;
    }
    const auto placed = create("rootless-id", default_linux("/rootless"), host_, options);
    if (placed || placed.error().sys_errno() != EACCES) return 4;
    return 0;
  });
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace amphora::cgroup
