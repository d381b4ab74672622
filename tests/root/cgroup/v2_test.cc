// SPDX-License-Identifier: Apache-2.0
// The v2 driver, in a mount namespace of this program's own where cgroup2 is what lies on
// /sys/fs/cgroup. On a hybrid host that side owns few controllers: limits of the others are tested
// as errors here, and as limits where a host has them.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>

#include <gtest/gtest.h>

#include "executor/cgroup/bpf.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/device_rules.h"
#include "executor/cgroup/files.h"
#include "support.h"

namespace amphora::cgroup {
namespace {

using namespace testing;

class V2 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (::geteuid() != 0) {
      why_not_ = "needs root";
    } else if (::unshare(CLONE_NEWNS) != 0 ||
               ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
               ::mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, nullptr) != 0) {
      why_not_ = std::string("no cgroup2 in a private mount namespace: ") + ::strerror(errno);
    }
  }
  void SetUp() override {
    if (!why_not_.empty()) GTEST_SKIP() << why_not_;
    auto probed = setup::probe_host();
    ASSERT_TRUE(probed) << probed.error().what();
    host_ = std::move(*probed);
    ASSERT_EQ(host_.cgroup_mode, setup::CgroupMode::kUnified);
    controllers_ = " " + file("/sys/fs/cgroup/cgroup.controllers") + " ";
  }
  Guard made(const oci::Linux& linux_, const Options& options = {}) {
    auto cgroup = create("id", linux_, host_, options);
    EXPECT_TRUE(cgroup) << cgroup.error().what();
    return Guard(cgroup ? std::move(*cgroup) : nullptr);
  }
  static std::string dir(const Guard& cgroup) { return "/sys/fs/cgroup" + cgroup->paths().at(""); }
  bool has(const char* controller) const {
    return controllers_.find(std::string(" ") + controller + " ") != std::string::npos;
  }
  /// What writing a limit should answer: nothing, or that its controller is missing.
  void expect_applied(const Result<void>& applied, const char* controller, const char* what) {
    if (has(controller)) {
      EXPECT_TRUE(applied) << applied.error().what();
    } else {
      ASSERT_FALSE(applied);
      EXPECT_EQ(applied.error().what(), std::string("cannot set ") + what + ": controller " +
                                            controller + " is not available on this host");
      EXPECT_EQ(applied.error().code(), Errc::kUnsupported);
    }
  }
  setup::Host host_;
  std::string controllers_;
  static inline std::string why_not_;
};

TEST_F(V2, AChildIsBornInside) {
  const std::string path = unique_path();
  {
    Guard cgroup = made(default_linux(path));
    ASSERT_GE(cgroup->clone_fd(), 0);
    Child child(sleeper, cgroup->clone_fd());
    EXPECT_NE(cgroups_of(child.pid()).find("0::" + path + "\n"), std::string::npos);
    Child later(sleeper);
    ASSERT_TRUE(cgroup->add(later.pid()));
    EXPECT_EQ(cgroup->pids()->size(), 2u);
    const auto second = create("id", default_linux(path), host_, {});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().what(),
              "container's cgroup is not empty: 2 process(es) found in /sys/fs/cgroup" + path);
  }
  EXPECT_FALSE(exists("/sys/fs/cgroup" + path));
}

TEST_F(V2, FreezeAndKillEvenFrozen) {
  Guard cgroup = made(default_linux(unique_path()));
  const Beat beat;
  Child counting([&] { return beat.run(); }, cgroup->clone_fd());
  Child tree(fork_tree, cgroup->clone_fd());
  counting.release();
  tree.release();
  ASSERT_TRUE(eventually([&] { return cgroup->pids()->size() == 18; }));
  ASSERT_TRUE(beat.moves(5000));
  EXPECT_FALSE(*cgroup->is_frozen());
  ASSERT_TRUE(cgroup->freeze(Frozen::kYes));
  EXPECT_TRUE(*cgroup->is_frozen());
  EXPECT_FALSE(beat.moves(100));
  ASSERT_TRUE(cgroup->freeze(Frozen::kNo));
  EXPECT_TRUE(beat.moves(5000));
  ASSERT_TRUE(cgroup->freeze(Frozen::kYes));
  const auto killed = cgroup->kill_all(SIGKILL);
  ASSERT_TRUE(killed) << killed.error().what();
  EXPECT_TRUE(cgroup->pids()->empty());
  EXPECT_EQ(counting.wait(), 128 + SIGKILL);
  EXPECT_EQ(tree.wait(), 128 + SIGKILL);
}

TEST_F(V2, OtherSignalsReachEveryProcess) {
  Guard cgroup = made(default_linux(unique_path()));
  Child tree(fork_tree, cgroup->clone_fd());
  tree.release();
  ASSERT_TRUE(eventually([&] { return cgroup->pids()->size() == 17; }));
  ASSERT_TRUE(cgroup->kill_all(SIGTERM));
  EXPECT_EQ(tree.wait(), 128 + SIGTERM);
  EXPECT_TRUE(eventually([&] { return cgroup->pids()->empty(); }));
}

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

int only_null_opens() {
  if (open_device(S_IFCHR, 1, 3, O_RDWR) != 0) return 1;         // null
  if (open_device(S_IFCHR, 1, 11, O_RDONLY) != EPERM) return 2;  // kmsg: made, not opened
  return 0;
}

TEST_F(V2, TheDeviceProgramDecidesAndIsReplacedNotAdded) {
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources = default_linux("").resources;
  const auto applied = cgroup->apply(resources);
  ASSERT_TRUE(applied) << applied.error().what();
  EXPECT_EQ(*count_device_programs(cgroup->clone_fd()), 1u);
  Child child(only_null_opens, cgroup->clone_fd());
  child.release();
  EXPECT_EQ(child.wait(), 0);

  resources.devices.push_back({true, 'c', 1, 11, "rwm"});
  for (int n = 0; n < 70; ++n) ASSERT_TRUE(cgroup->apply(resources)) << n;
  EXPECT_EQ(*count_device_programs(cgroup->clone_fd()), 1u);
  Child again([] { return open_device(S_IFCHR, 1, 11, O_RDONLY); }, cgroup->clone_fd());
  again.release();
  EXPECT_EQ(again.wait(), 0);
}

TEST_F(V2, SeveralProgramsOfOursBecomeOne) {
  Guard cgroup = made(default_linux(unique_path()));
  const auto program = device_program(*fold_device_rules({}));
  for (int n = 0; n < 3; ++n) {
    const auto fd = load_device_program(program);
    ASSERT_TRUE(fd) << fd.error().what();
    ASSERT_TRUE(attach_device_program(cgroup->clone_fd(), fd->get(), true));
  }
  EXPECT_EQ(*count_device_programs(cgroup->clone_fd()), 3u);
  const auto fd = load_device_program(program);
  ASSERT_TRUE(fd);
  ASSERT_TRUE(attach_device_program(cgroup->clone_fd(), fd->get(), false));
  EXPECT_EQ(*count_device_programs(cgroup->clone_fd()), 1u);
}

TEST_F(V2, TheVerifierTakesManyShapesOfRules) {
  for (const char* access : {"r", "w", "m", "rw", "rwm"}) {
    for (const char type : {'a', 'b', 'c'}) {
      for (const bool allow : {false, true}) {
        std::vector<oci::DeviceRule> rules{{!allow, 'a', {}, {}, "rwm"},
                                           {allow, type, {}, 7, access},
                                           {allow, type, 259, {}, access}};
        const auto fd = load_device_program(device_program(*fold_device_rules(rules)));
        EXPECT_TRUE(fd) << type << access << allow << ": " << fd.error().what();
      }
    }
  }
}

TEST_F(V2, LimitsAreWrittenOrTheMissingControllerIsNamed) {
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources;
  resources.pids_limit = 0;
  expect_applied(cgroup->apply(resources), "pids", "pids limit");
  if (has("pids")) {
    EXPECT_EQ(file(dir(cgroup) + "/pids.max"), "1");
  }
  resources = {};
  resources.memory.emplace().limit = 64 << 20;
  resources.memory->reservation = 32 << 20;
  expect_applied(cgroup->apply(resources), "memory", "memory limit");
  if (has("memory")) {
    EXPECT_EQ(file(dir(cgroup) + "/memory.max"), "67108864");
    EXPECT_EQ(file(dir(cgroup) + "/memory.low"), "33554432");
  }
  resources = {};
  resources.cpu.emplace().shares = 512;
  resources.cpu->quota = 25000;
  resources.cpu->period = 50000;
  resources.cpu->burst = 10000;
  expect_applied(cgroup->apply(resources), "cpu", "cpu limits");
  if (has("cpu")) {
    EXPECT_EQ(file(dir(cgroup) + "/cpu.weight"), "59");
    EXPECT_EQ(file(dir(cgroup) + "/cpu.max"), "25000 50000");
    EXPECT_EQ(file(dir(cgroup) + "/cpu.max.burst"), "10000");
    resources = {};
    resources.cpu.emplace().period = 20000;
    EXPECT_TRUE(cgroup->update(resources));
    EXPECT_EQ(file(dir(cgroup) + "/cpu.max"), "25000 20000");
    resources.cpu = {};
    resources.cpu.emplace().quota = 40000;
    EXPECT_TRUE(cgroup->update(resources));
    EXPECT_EQ(file(dir(cgroup) + "/cpu.max"), "40000 20000");
  }
  resources = {};
  resources.cpu.emplace().cpus = "0";
  expect_applied(cgroup->apply(resources), "cpuset", "cpuset cpus and mems");
}

TEST_F(V2, HugepagesAndRollBack) {
  if (!has("hugetlb")) GTEST_SKIP() << "controller hugetlb is not on this host's cgroup2";
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources;
  resources.hugepages.push_back({"2MB", 4 << 20});
  const auto applied = cgroup->apply(resources);
  ASSERT_TRUE(applied) << applied.error().what();
  EXPECT_EQ(file(dir(cgroup) + "/hugetlb.2MB.max"), "4194304");
  EXPECT_EQ(file(dir(cgroup) + "/hugetlb.2MB.rsvd.max"), "4194304");
  resources.hugepages = {{"2MB", 8 << 20}};
  resources.unified["hugetlb.3MB.max"] = "1";
  const auto updated = cgroup->update(resources);
  ASSERT_FALSE(updated);
  EXPECT_EQ(updated.error().what().rfind("unified resource \"hugetlb.3MB.max\" can't be set", 0),
            0u)
      << updated.error().what();
  EXPECT_EQ(file(dir(cgroup) + "/hugetlb.2MB.max"), "4194304");
  EXPECT_EQ(file(dir(cgroup) + "/hugetlb.2MB.rsvd.max"), "4194304");
  const auto stats = cgroup->stats();
  ASSERT_TRUE(stats);
  EXPECT_TRUE(stats->v2);
  EXPECT_FALSE(stats->hugetlb.empty());
}

TEST_F(V2, UnifiedResources) {
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources;
  resources.unified["cgroup.max.depth"] = "3";
  const auto applied = cgroup->apply(resources);
  ASSERT_TRUE(applied) << applied.error().what();
  EXPECT_EQ(file(dir(cgroup) + "/cgroup.max.depth"), "3");
  resources.unified = {{"nothere.max", "1"}};
  EXPECT_EQ(cgroup->apply(resources).error().what(),
            "unified resource \"nothere.max\" can't be set: controller \"nothere\" not available");
  resources.unified = {{"../cgroup.procs", "1"}};
  EXPECT_EQ(cgroup->apply(resources).error().what(),
            "unified resource \"../cgroup.procs\" must be a file name (no slashes)");
}

TEST_F(V2, WhatV2LacksIsAWarningOrAnError) {
  Guard cgroup = made(default_linux(unique_path()));
  oci::Resources resources;
  resources.memory.emplace().swappiness = 5;
  resources.memory->disable_oom_killer = true;
  resources.memory->kernel = 1;
  EXPECT_TRUE(cgroup->apply(resources));
  EXPECT_EQ(cgroup->warnings().size(), 3u);
  resources = {};
  resources.network.emplace().class_id = 1;
  EXPECT_EQ(
      cgroup->apply(resources).error().what(),
      "cannot set network class id: this host uses cgroup v2, which has no net_cls controller");
}

TEST_F(V2, OomNeedsTheMemoryController) {
  Guard cgroup = made(default_linux(unique_path()));
  if (!has("memory")) {
    EXPECT_EQ(cgroup->oom_kills().error().what(),
              "cannot count OOM kills: controller memory is not available on this host");
    EXPECT_EQ(cgroup->oom_watch().error().what(),
              "cannot watch for OOM: controller memory is not available on this host");
    return;
  }
  oci::Resources resources;
  resources.memory.emplace().limit = 16 << 20;
  resources.memory->swap = 16 << 20;
  ASSERT_TRUE(cgroup->apply(resources));
  auto watch = cgroup->oom_watch();
  ASSERT_TRUE(watch);
  Child child(greedy, cgroup->clone_fd());
  child.release();
  EXPECT_EQ(child.wait(), 128 + SIGKILL);
  struct pollfd wait{watch->get(), POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 5000), 1);
  EXPECT_TRUE(eventually([&] { return *cgroup->oom_kills() == 1; }));
}

TEST_F(V2, FoundAgainFromTheStateEvenWhenGone) {
  Guard cgroup = made(default_linux(unique_path()));
  oci::State state;
  cgroup->record(state);
  EXPECT_EQ(state.cgroup_dirs.size(), 1u);
  Child child(sleeper, cgroup->clone_fd());
  auto again = open(state, host_);
  ASSERT_TRUE(again && *again);
  EXPECT_GE((*again)->clone_fd(), 0);
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

TEST_F(V2, DelegationGivesTheKernelsListOfFiles) {
  Guard cgroup = made(default_linux(unique_path()));
  ASSERT_TRUE(cgroup->delegate(12345));
  struct stat info{};
  for (const char* name : {"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"}) {
    ASSERT_EQ(::stat((dir(cgroup) + name).c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, 12345u) << name;
  }
  ASSERT_EQ(::stat((dir(cgroup) + "/cgroup.freeze").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0u);
}

TEST_F(V2, BelowAThreadedCgroupOnlyThreadedControllersGo) {
  const std::string base = "/sys/fs/cgroup" + unique_path();
  const std::string threaded = base + "/t";
  ASSERT_EQ(::mkdir(base.c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(threaded.c_str(), 0755), 0);
  ASSERT_TRUE(write_value(threaded, "cgroup.type", "threaded"));
  oci::Linux linux_ = default_linux(threaded.substr(strlen("/sys/fs/cgroup")) + "/c");
  linux_.resources.memory.emplace().limit = 1 << 20;
  const auto refused = create("id", linux_, host_, {});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what().find("lies below a threaded cgroup"), std::string::npos)
      << refused.error().what();
  EXPECT_FALSE(exists(threaded + "/c"));
  linux_.resources.memory.reset();
  {
    Guard cgroup = made(linux_);
    EXPECT_EQ(file(dir(cgroup) + "/cgroup.type"), "threaded");
  }
  EXPECT_EQ(::rmdir(threaded.c_str()), 0);
  EXPECT_EQ(::rmdir(base.c_str()), 0);
}

TEST_F(V2, AParentWithProcessesCannotGiveControllers) {
  if (!has("hugetlb")) GTEST_SKIP() << "controller hugetlb is not on this host's cgroup2";
  Guard parent = made(default_linux(unique_path()));
  Child child(sleeper, parent->clone_fd());
  oci::Linux linux_ = default_linux(parent->paths().at("") + "/inner");
  linux_.resources.hugepages.push_back({"2MB", 4 << 20});
  Guard inner = made(linux_);
  const auto applied = inner->apply(linux_.resources);
  ASSERT_FALSE(applied);
  EXPECT_NE(applied.error().what().find("this cgroup holds processes of its own"),
            std::string::npos)
      << applied.error().what();
}

}  // namespace
}  // namespace amphora::cgroup
