// SPDX-License-Identifier: Apache-2.0
// Intel RDT in a directory that stands in for resctrl: what is made, written, joined and removed. The
// kernel makes a directory's files by itself there; here they are put in place where they are wanted.
#include "executor/cgroup/intel_rdt.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

namespace amphora::cgroup {
namespace {

namespace fs = std::filesystem;

class IntelRdtTest : public testing::Test {
 protected:
  IntelRdtTest() {
    char name[] = "/tmp/rdt.XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~IntelRdtTest() override { fs::remove_all(root_); }

  std::string group(const std::string& name) {
    const std::string dir = root_ + (name.empty() ? "" : "/" + name);
    fs::create_directories(dir);
    for (const char* file : {"/schemata", "/tasks"}) std::ofstream(dir + file).close();
    return dir;
  }
  static std::string text(const std::string& path) {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  }

  std::string root_;
  oci::State state_;
};

TEST_F(IntelRdtTest, OwnClassIsNamedForTheContainerAndRemoved) {
  oci::IntelRdt rdt;
  rdt.schemata = {"L3:0=f", "MB:0=50"};
  plan_rdt(root_, "web", rdt, state_);
  EXPECT_EQ(state_.rdt_class, root_ + "/web");
  EXPECT_TRUE(state_.rdt_own);
  group("web");
  ASSERT_TRUE(make_rdt(rdt, state_));
  EXPECT_EQ(text(root_ + "/web/schemata"), "L3:0=f\nMB:0=50\n");
  ASSERT_TRUE(add_to_rdt(state_, 4242));
  EXPECT_EQ(text(root_ + "/web/tasks"), "4242");
  for (const char* file : {"/web/schemata", "/web/tasks"})
    fs::remove(root_ + file);  // the kernel's to do
  ASSERT_TRUE(remove_rdt(state_));
  EXPECT_FALSE(fs::exists(root_ + "/web"));
  EXPECT_TRUE(remove_rdt(state_)) << "what is gone is no failure";
}

TEST_F(IntelRdtTest, NoSchemaIsNoWrite) {
  const oci::IntelRdt rdt;
  group("");
  plan_rdt(root_, "web", rdt, state_);
  ASSERT_TRUE(make_rdt(rdt, state_));
  EXPECT_TRUE(fs::is_directory(root_ + "/web"));
  EXPECT_FALSE(fs::exists(root_ + "/web/schemata"));
  ASSERT_TRUE(remove_rdt(state_));
  EXPECT_FALSE(fs::exists(root_ + "/web"));
}

TEST_F(IntelRdtTest, CacheAndBandwidthAreMerged) {
  oci::IntelRdt rdt;
  rdt.schemata = {"L2:0=3"};
  rdt.l3_cache_schema = "L3:0=f\nMB:0=90\n";
  rdt.mem_bw_schema = "MB:0=20";
  plan_rdt(root_, "web", rdt, state_);
  group("web");
  ASSERT_TRUE(make_rdt(rdt, state_));
  EXPECT_EQ(text(root_ + "/web/schemata"), "L3:0=f\nMB:0=20\nL2:0=3\n");
}

TEST_F(IntelRdtTest, ANamedClassStays) {
  oci::IntelRdt rdt;
  rdt.clos_id = "gold";
  plan_rdt(root_, "web", rdt, state_);
  const auto missing = make_rdt(rdt, state_);
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().what().find("linux.intelRdt.closID gold"), std::string::npos);
  EXPECT_FALSE(fs::exists(root_ + "/gold")) << "nothing is made for it";
  group("gold");
  ASSERT_TRUE(make_rdt(rdt, state_));
  ASSERT_TRUE(add_to_rdt(state_, 7));
  EXPECT_EQ(text(root_ + "/gold/tasks"), "7");
  ASSERT_TRUE(remove_rdt(state_));
  EXPECT_TRUE(fs::exists(root_ + "/gold/tasks"));
}

TEST_F(IntelRdtTest, TheDefaultClassIsTheRoot) {
  oci::IntelRdt rdt;
  rdt.clos_id = "/";
  rdt.enable_monitoring = true;
  plan_rdt(root_, "web", rdt, state_);
  group("");
  group("mon_groups/web");
  ASSERT_TRUE(make_rdt(rdt, state_));
  ASSERT_TRUE(add_to_rdt(state_, 9));
  EXPECT_EQ(text(root_ + "/tasks"), "9");
  EXPECT_EQ(text(root_ + "/mon_groups/web/tasks"), "9");
  for (const char* file : {"schemata", "tasks"}) fs::remove(root_ + "/mon_groups/web/" + file);
  ASSERT_TRUE(remove_rdt(state_));
  EXPECT_FALSE(fs::exists(root_ + "/mon_groups/web"));
  EXPECT_TRUE(fs::exists(root_ + "/tasks"));
}

TEST_F(IntelRdtTest, WhyTheKernelTookNoLineIsInTheError) {
  oci::IntelRdt rdt;
  rdt.schemata = {"L9:0=f"};
  plan_rdt(root_, "web", rdt, state_);
  fs::create_directories(root_ + "/info");
  std::ofstream(root_ + "/info/last_cmd_status") << "Unknown or unsupported resource name 'L9'\n";
  const auto refused = make_rdt(rdt, state_);  // no file schemata: the write fails
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what().find("unsupported resource name 'L9'"), std::string::npos)
      << refused.error().what();
}

TEST_F(IntelRdtTest, ANamedClassMayNotBeALink) {
  oci::IntelRdt rdt;
  rdt.clos_id = "gold";
  rdt.schemata = {"L3:0=f"};
  plan_rdt(root_, "web", rdt, state_);
  const std::string other = group("other");
  fs::create_directory_symlink(other, root_ + "/gold");
  EXPECT_FALSE(make_rdt(rdt, state_));
  EXPECT_FALSE(add_to_rdt(state_, 7));
  EXPECT_EQ(text(other + "/schemata") + text(other + "/tasks"), "");
}

TEST_F(IntelRdtTest, UpdateWritesLinesAndGivesTheOldOnes) {
  EXPECT_NE(change_rdt(state_, {"L3:0=f", ""}).error().what().find("non-existent"),
            std::string::npos);
  plan_rdt(root_, "web", oci::IntelRdt(), state_);
  const std::string dir = group("web");
  std::ofstream(dir + "/schemata") << "    MB:0=90\n    L3:0=ff\n";
  const auto refused = change_rdt(state_, {"L3:0=f", ""});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what(), "Intel RDT/CAT: l3 cache schema is not enabled");
  EXPECT_EQ(change_rdt(state_, {"", "MB:0=10"}).error().what(),
            "Intel RDT/MBA: memory bandwidth schema is not enabled");
  fs::create_directories(root_ + "/info/L3");
  fs::create_directories(root_ + "/info/MB");
  const auto before = change_rdt(state_, {"L3:0=0000000f", "MB:0=00000020"});
  ASSERT_TRUE(before) << before.error().what();
  EXPECT_EQ(*before, "    MB:0=90\n    L3:0=ff\n");
  EXPECT_TRUE(text(dir + "/schemata").starts_with("L3:0=0000000f\nMB:0=00000020\n"));
  ASSERT_TRUE(restore_rdt(state_, *before));
  EXPECT_TRUE(text(dir + "/schemata").starts_with(*before));
}

TEST_F(IntelRdtTest, FiguresAreTheFiles) {
  oci::IntelRdt rdt;
  rdt.enable_monitoring = true;
  plan_rdt(root_, "web", rdt, state_);
  const auto put = [&](const std::string& name, const std::string& content) {
    fs::create_directories(fs::path(root_ + name).parent_path());
    std::ofstream(root_ + name) << content;
  };
  put("/schemata", "    MB:0=100;1=100\n    L3:0=fff;1=fff\n");
  put("/web/schemata", "    MB:0=20;1=70\n    L3:0=00f;1=0ff\n");
  put("/info/L3/cbm_mask", "fff\n");
  put("/info/L3/min_cbm_bits", "2\n");
  put("/info/L3/num_closids", "16\n");
  put("/info/MB/bandwidth_gran", "10\n");
  put("/info/MB/delay_linear", "1\n");
  put("/info/MB/min_bandwidth", "10\n");
  put("/info/MB/num_closids", "8\n");
  const std::string monitor = "/web/mon_groups/web/mon_data";
  put(monitor + "/mon_L3_01/mbm_total_bytes", "300\n");
  put(monitor + "/mon_L3_01/mbm_local_bytes", "200\n");
  put(monitor + "/mon_L3_01/llc_occupancy", "4096\n");
  put(monitor + "/mon_L3_00/mbm_total_bytes", "30\n");
  put(monitor + "/mon_L3_00/mbm_local_bytes", "Unavailable\n");
  put(monitor + "/mon_L3_00/llc_occupancy", "64\n");
  const auto stats = rdt_stats(state_);
  ASSERT_TRUE(stats) << stats.error().what();
  EXPECT_EQ(stats->cache->cbm_mask, "fff");
  EXPECT_EQ(stats->cache->min_cbm_bits, 2U);
  EXPECT_EQ(stats->bandwidth->num_closids, 8U);
  EXPECT_EQ(stats->l3_root, "L3:0=fff;1=fff");
  EXPECT_EQ(stats->l3, "L3:0=00f;1=0ff");
  EXPECT_EQ(stats->mb_root, "MB:0=100;1=100");
  EXPECT_EQ(stats->mb, "MB:0=20;1=70");
  ASSERT_EQ(stats->traffic->size(), 2U);
  EXPECT_EQ((*stats->traffic)[0].total, 30U);
  EXPECT_EQ((*stats->traffic)[0].local, 0U);
  EXPECT_EQ((*stats->traffic)[1].local, 200U);
  EXPECT_EQ(*stats->occupancy, (std::vector<uint64_t>{64, 4096}));
}

TEST(Resctrl, IsFoundInTheMountTable) {
  EXPECT_EQ(resctrl_root("30 1 0:25 / /sys/fs/resctrl rw,nosuid - resctrl resctrl rw\n"),
            "/sys/fs/resctrl");
  EXPECT_EQ(resctrl_root("1 0 0:1 / / rw - ext4 /dev/a rw\n30 1 0:25 / /mnt/rdt rw shared:1 - "
                         "resctrl none rw,mba_MBps\n"),
            "/mnt/rdt");
  EXPECT_EQ(resctrl_root("1 0 0:1 / / rw - ext4 resctrl rw\n"), "");
  EXPECT_EQ(resctrl_root(""), "");
  EXPECT_EQ(resctrl_root("30 1 0:25 / /mnt/a\\040b rw - resctrl resctrl rw\n"), "/mnt/a b");
}

}  // namespace
}  // namespace amphora::cgroup
