// SPDX-License-Identifier: Apache-2.0
// The systemd driver with a real systemd: as pid 1 of namespaces or in a guest.
#include <signal.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/systemd_bus.h"
#include "support.h"

namespace amphora::cgroup {
namespace {

using namespace testing;

class SystemdDriver : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!exists("/run/systemd/system")) {
      GTEST_SKIP() << "systemd is not running here (no /run/systemd/system)";
    }
    auto probed = setup::probe_host();
    ASSERT_TRUE(probed) << probed.error().what();
    host_ = std::move(*probed);
    name_ = "test" + std::to_string(::getpid());
  }
  setup::Host host_;
  std::string name_;
};

TEST_F(SystemdDriver, AScopeLivesAsLongAsItsContainer) {
  oci::Linux linux_ = default_linux("system.slice:amphora:" + name_);
  auto made = create("id", linux_, host_, {});
  ASSERT_TRUE(made) << made.error().what();
  Guard cgroup(std::move(*made));
  const auto applied = cgroup->apply(linux_.resources);
  ASSERT_TRUE(applied) << applied.error().what();
  const std::string unit = "amphora-" + name_ + ".scope";
  for (const auto& [controllers, path] : cgroup->paths()) {
    EXPECT_NE(path.find("/system.slice/" + unit), std::string::npos) << controllers;
  }
  oci::State state;
  cgroup->record(state);
  EXPECT_EQ(state.systemd_unit, unit);
  ASSERT_EQ(cgroup->pids()->size(), 1u);  // the one who holds the place
  Child child(sleeper);
  EXPECT_EQ(cgroup->clone_fd(), -1);
  // Who comes before the container's init does not take the holder's place.
  Child before([] { return 0; });
  ASSERT_TRUE(cgroup->add(before.pid()));
  EXPECT_EQ(before.wait(), 0);
  ASSERT_EQ(cgroup->pids()->size(), 1u);
  const auto added = cgroup->add_init(child.pid());
  ASSERT_TRUE(added) << added.error().what();
  EXPECT_TRUE(eventually([&] { return *cgroup->pids() == std::vector<pid_t>{child.pid()}; }));
  EXPECT_NE(cgroups_of(child.pid()).find("/system.slice/" + unit), std::string::npos);

  auto again = open(state, host_);
  ASSERT_TRUE(again && *again);
  if (host_.cgroup_mode == setup::CgroupMode::kUnified) {
    EXPECT_GE((*again)->clone_fd(), 0);
  }
  ASSERT_TRUE((*again)->kill_all(SIGKILL));
  EXPECT_EQ(child.wait(), 128 + SIGKILL);
  const auto removed = (*again)->remove();
  ASSERT_TRUE(removed) << removed.error().what();
  EXPECT_TRUE(cgroup->pids()->empty());
}

TEST_F(SystemdDriver, TheSameNameCanBeUsedAgainAndAgain) {
  for (int n = 0; n < 3; ++n) {
    auto made = create("id", default_linux("::" + name_), host_, {});
    ASSERT_TRUE(made) << n << ": " << made.error().what();
    Guard cgroup(std::move(*made));
    Child child(sleeper);
    ASSERT_TRUE(cgroup->add_init(child.pid()));
    ASSERT_TRUE(cgroup->kill_all(SIGKILL));
  }
}

TEST_F(SystemdDriver, LimitsSurviveADaemonReload) {
  if (file("/sys/fs/cgroup/cgroup.controllers").find("pids") == std::string::npos) {
    GTEST_SKIP() << "controller pids is not on this host's cgroup2";
  }
  oci::Linux linux_ = default_linux("system.slice:amphora:" + name_);
  linux_.resources.pids_limit = 44;
  auto made = create("id", linux_, host_, {});
  ASSERT_TRUE(made) << made.error().what();
  Guard cgroup(std::move(*made));
  Child child(sleeper);
  ASSERT_TRUE(cgroup->add_init(child.pid()));
  ASSERT_TRUE(cgroup->apply(linux_.resources));
  oci::Resources update;
  update.pids_limit = 55;
  ASSERT_TRUE(cgroup->update(update));
  EXPECT_EQ(::system("systemctl daemon-reload"), 0);
  EXPECT_EQ(file("/sys/fs/cgroup" + cgroup->paths().at("") + "/pids.max"), "55");
}

TEST_F(SystemdDriver, UnknownSlicesAndUnitsAreErrorsOrNothing) {
  const auto bad = create("id", default_linux("a--b.slice:p:" + name_), host_, {});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().what(), "invalid slice name \"a--b.slice\"");
  auto systemd = Systemd::connect(false);
  ASSERT_TRUE(systemd) << systemd.error().what();
  EXPECT_GT(systemd->version(), 200u);
  EXPECT_TRUE(systemd->stop("amphora-nothing-" + name_ + ".scope"));
}

}  // namespace
}  // namespace amphora::cgroup
