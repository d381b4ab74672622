// SPDX-License-Identifier: Apache-2.0
// The v1 driver on real hierarchies (and the unified side of a hybrid host).
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

namespace amphora::cgroup {
namespace {

using namespace testing;

class V1 : public ::testing::Test {
 protected:
  void SetUp() override {
    auto probed = setup::probe_host();
    ASSERT_TRUE(probed) << probed.error().what();
    host_ = std::move(*probed);
    if (host_.euid != 0) GTEST_SKIP() << "needs root";
    if (host_.cgroup_mode != setup::CgroupMode::kV1 &&
        host_.cgroup_mode != setup::CgroupMode::kHybrid) {
      GTEST_SKIP() << "no cgroup v1 hierarchy is mounted here";
    }
    if (::access(host_.hierarchies.front().mount_point.c_str(), W_OK) != 0) {
      GTEST_SKIP() << host_.hierarchies.front().mount_point << " is read-only";
    }
  }
  Guard made(const oci::Linux& linux_, const Options& options = {}) {
    auto cgroup = create("id", linux_, host_, options);
    EXPECT_TRUE(cgroup) << cgroup.error().what();
    return Guard(cgroup ? std::move(*cgroup) : nullptr);
  }
  std::string dir(const Guard& cgroup, const std::string& controller) const {
    for (const auto& hierarchy : host_.hierarchies) {
      if (hierarchy.controllers == controller) {
        return hierarchy.mount_point + cgroup->paths().at(controller);
      }
    }
    return "/no-such-hierarchy/" + controller;
  }
  bool has(const std::string& controller) const {
    for (const auto& h : host_.hierarchies) {
      if (h.controllers == controller) return true;
    }
    return false;
  }
  setup::Host host_;
};

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
  auto join = cgroup->self_join();
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
            "unified resource \"memory.max\" can't be set: this host uses cgroup v1");

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
  EXPECT_NE(updated.error().what().find("hugetlb"), std::string::npos) << updated.error().what();
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
