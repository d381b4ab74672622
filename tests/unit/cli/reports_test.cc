// SPDX-License-Identifier: Apache-2.0
// What verbs print: tables, the host's ps cut down, statistics, features.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "executor/cli/features.h"
#include "executor/cli/output.h"
#include "executor/cli/ps_filter.h"
#include "executor/cli/stats_json.h"
#include "executor/setup/host.h"

namespace amphora::cli {
namespace {

TEST(Table, CellsAreTwelveWideOrThreeMoreThanTheLongest) {
  EXPECT_EQ(table({{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}}),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
  EXPECT_EQ(table({{"ID", "PID"}, {"a-long-identifier", "1"}, {"x", "22"}}),
            "ID                  PID\n"
            "a-long-identifier   1\n"
            "x                   22\n");
}

constexpr char kPs[] =
    "UID          PID    PPID  C STIME TTY          TIME CMD\n"
    "root           1       0  0 00:00 ?        00:00:01 /sbin/init\n"
    "root        4242       1  0 00:10 ?        00:00:00 sleep 4243\n"
    "nobody      4244    4242  0 00:10 ?        00:00:00 sleep 1\n";

TEST(Ps, KeepsTheHeaderAndOurLines) {
  const auto lines = ps_lines(kPs, {4242, 4243});
  ASSERT_TRUE(lines);
  EXPECT_EQ(*lines,
            "UID          PID    PPID  C STIME TTY          TIME CMD\n"
            "root        4242       1  0 00:10 ?        00:00:00 sleep 4243\n");
}

TEST(Ps, WantsAPidColumn) {
  EXPECT_EQ(ps_lines("CMD\nsh\n", {1}).error().what(), "couldn't find PID field in ps output");
  EXPECT_EQ(ps_lines("", {1}).error().what(), "couldn't find PID field in ps output");
  EXPECT_EQ(ps_lines("PID CMD\nsh 1\n", {1}).error().what(), "unexpected pid 'sh'");
}

TEST(Stats, AbsentControllersAreEmptyAndNoLimitIsLeftOut) {
  cgroup::Stats stats;
  stats.pids = cgroup::PidsStats{3, UINT64_MAX};
  EXPECT_EQ(
      stats_event("web", stats),
      R"({"type":"stats","id":"web","data":{"cpu":{"usage":{"kernel":0,"user":0},)"
      R"("throttling":{}},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,)"
      R"("memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,)"
      R"("memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{"usage":{"limit":0,"failcnt":0},)"
      R"("swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},)"
      R"("kernelTCP":{"limit":0,"failcnt":0}},"pids":{"current":3},"blkio":{},)"
      R"("hugetlb":{},"intel_rdt":{},"network_interfaces":null}})");
  EXPECT_EQ(oom_event("web"), R"({"type":"oom","id":"web"})");
}

TEST(Stats, IntelRdtHasRuncsMembers) {
  cgroup::Stats stats;
  auto& rdt = stats.rdt.emplace();
  const auto event = [&] { return stats_event("web", stats); };
  EXPECT_NE(event().find(R"("intel_rdt":{},)"), std::string::npos) << event();
  rdt.cache = {"fff", 2, 16};
  rdt.bandwidth = {10, 1, 10, 8};
  rdt.l3_root = "L3:0=fff";
  rdt.l3 = "L3:0=00f";
  rdt.mb_root = "MB:0=100";
  rdt.mb = "MB:0=20";
  rdt.traffic = {{300, 200}, {0, 0}};
  rdt.occupancy = {4096, 0};
  EXPECT_NE(
      event().find(
          R"("intel_rdt":{"l3_cache_info":{"cbm_mask":"fff","min_cbm_bits":2,"num_closids":16},)"
          R"("l3_cache_schema_root":"L3:0=fff","l3_cache_schema":"L3:0=00f",)"
          R"("mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},)"
          R"("mem_bw_schema_root":"MB:0=100","mem_bw_schema":"MB:0=20",)"
          R"("mbm_stats":[{"mbm_total_bytes":300,"mbm_local_bytes":200},{"mbm_total_bytes":0,"mbm_local_bytes":0}],)"
          R"("cmt_stats":[{"llc_occupancy":4096},{"llc_occupancy":0}]},)"),
      std::string::npos)
      << event();
}

TEST(Stats, NumbersStandWhereRuncHasThem) {
  cgroup::Stats stats;
  stats.cpu.emplace();
  stats.cpu->usage = 10;
  stats.cpu->per_cpu = {4, 6};
  stats.cpu->per_cpu_kernel = {1, 2};
  stats.cpu->per_cpu_user = {3, 4};
  stats.cpu->throttled_time = 9;
  stats.cpuset.emplace().cpus = {0, 1, 5};
  stats.cpuset->flags = {{"sched_relax_domain_level", -1}};
  stats.cpu_pressure.emplace().some = {0.5, 0, 0, 7};
  stats.memory.emplace();
  stats.memory->usage = {100, UINT64_MAX, 200, 1};
  stats.memory->stat = {{"cache", 5}, {"rss", 6}};
  stats.io.emplace();
  stats.io->service_bytes = {{8, 0, "Read", 512}};
  stats.hugetlb = {{"2MB", 0, 2, 0}};
  const auto data = nlohmann::json::parse(stats_event("x", stats))["data"];
  EXPECT_EQ(data["cpu"]["usage"]["total"], 10);
  EXPECT_EQ(data["cpu"]["usage"]["percpu"], (std::vector<int>{4, 6}));
  EXPECT_EQ(data["cpu"]["throttling"]["throttledTime"], 9);
  EXPECT_EQ(data["cpu"]["usage"]["percpu_kernel"], (std::vector<int>{1, 2}));
  EXPECT_EQ(data["cpu"]["usage"]["percpu_user"], (std::vector<int>{3, 4}));
  EXPECT_EQ(data["cpu"]["psi"]["some"]["avg10"], 0.5);
  EXPECT_EQ(data["cpu"]["psi"]["some"]["total"], 7);
  EXPECT_EQ(data["cpuset"]["cpus"], (std::vector<int>{0, 1, 5}));
  EXPECT_EQ(data["cpuset"]["sched_relax_domain_level"], -1);
  EXPECT_EQ(data["memory"]["cache"], 5);
  EXPECT_EQ(data["memory"]["usage"]["limit"], UINT64_MAX);
  EXPECT_EQ(data["memory"]["raw"]["rss"], 6);
  EXPECT_EQ(data["blkio"]["ioServiceBytesRecursive"][0]["op"], "Read");
  EXPECT_EQ(data["hugetlb"]["2MB"]["max"], 2);
}

TEST(Features, IsTheSpecsDocumentWithFourSpaces) {
  setup::Host host;
  host.last_capability = 37;  // CAP_AUDIT_READ
  const std::string text = features_json(host);
  EXPECT_TRUE(text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n")) << text;
  EXPECT_TRUE(text.ends_with("}"));
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["ociVersionMax"], kSpecVersion);
  EXPECT_EQ(json["hooks"].size(), 6U);
  EXPECT_EQ(json["linux"]["namespaces"].size(), 8U);
  EXPECT_EQ(json["linux"]["capabilities"].back(), "CAP_AUDIT_READ");
  EXPECT_EQ(json["linux"]["seccomp"]["enabled"], true);
  EXPECT_EQ(json["linux"]["mountExtensions"]["idmap"]["enabled"], true);
  EXPECT_TRUE(json["annotations"].contains("io.github.seccomp.libseccomp.version"));
  const auto options = json["mountOptions"].get<std::vector<std::string>>();
  EXPECT_TRUE(std::is_sorted(options.begin(), options.end()));
  EXPECT_NE(std::find(options.begin(), options.end(), "rro"), options.end());
}

TEST(Features, OlderKernelsCapabilitiesAreAPrefix) {
  setup::Host host;
  host.last_capability = 63;  // newer than we know
  const auto json = nlohmann::json::parse(features_json(host));
  EXPECT_EQ(json["linux"]["capabilities"].size(), 41U);
}

}  // namespace
}  // namespace amphora::cli
