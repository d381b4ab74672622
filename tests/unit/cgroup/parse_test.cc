// SPDX-License-Identifier: Apache-2.0
// Texts of cgroup files, as kernels write them, to numbers.
#include "executor/cgroup/parse.h"

#include <gtest/gtest.h>

#include "executor/cgroup/files.h"
#include "executor/cgroup/stats.h"
#include "executor/cgroup/unified.h"

namespace amphora::cgroup {
namespace {

TEST(Parse, Numbers) {
  uint64_t value = 7;
  EXPECT_TRUE(parse_number("max\n", value));
  EXPECT_EQ(value, UINT64_MAX);
  EXPECT_TRUE(parse_number("18446744073709551615", value));
  EXPECT_EQ(value, UINT64_MAX);
  for (const char* bad : {"", "-1", "1x", "0x10", "18446744073709551616", " "}) {
    EXPECT_FALSE(parse_number(bad, value)) << bad;
  }
  EXPECT_EQ(parse_numbers("12 34 \n"), (std::vector<uint64_t>{12, 34}));
}

TEST(Parse, FlatKeyed) {
  const auto stat = parse_flat_keyed("cache 4096\nrss 0\nbroken\nodd x\nhierarchical_limit max\n");
  EXPECT_EQ(stat.size(), 3u);
  EXPECT_EQ(stat.at("cache"), 4096u);
  EXPECT_EQ(stat.at("hierarchical_limit"), UINT64_MAX);
  EXPECT_EQ(keyed_number("oom 1\noom_kill 2\n", "oom_kill"), 2u);
  EXPECT_EQ(keyed_number("oom_kill_disable 1\noom_kill 3", "oom_kill"), 3u);
  EXPECT_EQ(keyed_number("oom 1\n", "oom_kill"), 0u);
}

TEST(Parse, BlkioWithAndWithoutOperations) {
  const auto entries =
      parse_blkio("8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n8:16 77\n");
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0].op, "Read");
  EXPECT_EQ(entries[0].value, 4096u);
  EXPECT_EQ(entries[3].major, 8u);
  EXPECT_EQ(entries[3].minor, 16u);
  EXPECT_EQ(entries[3].op, "");
  EXPECT_EQ(entries[3].value, 77u);
}

TEST(Parse, IoStat) {
  const IoStats stats = parse_io_stat(
      "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:0 \nnonsense\n8:16 rbytes=9\n");
  ASSERT_EQ(stats.service_bytes.size(), 3u);
  EXPECT_EQ(stats.service_bytes[1].op, "wbytes");
  EXPECT_EQ(stats.service_bytes[1].value, 2u);
  EXPECT_EQ(stats.service_bytes[2].minor, 16u);
  ASSERT_EQ(stats.serviced.size(), 2u);
  EXPECT_EQ(stats.serviced[1].value, 4u);
}

TEST(Parse, PressureOfBothLines) {
  const Pressure pressure = parse_pressure(
      "some avg10=1.50 avg60=0.20 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=2.25 "
      "total=45\n");
  EXPECT_DOUBLE_EQ(pressure.some.avg10, 1.5);
  EXPECT_EQ(pressure.some.total, 123u);
  EXPECT_DOUBLE_EQ(pressure.full.avg300, 2.25);
  EXPECT_EQ(pressure.full.total, 45u);
}

TEST(Parse, RdmaAndMax) {
  const auto entries = parse_rdma("mlx4_0 hca_handle=2 hca_object=max\nocrdma1 hca_handle=3\n");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].device, "mlx4_0");
  EXPECT_EQ(entries[0].handles, 2u);
  EXPECT_EQ(entries[0].objects, UINT32_MAX);
  EXPECT_EQ(entries[1].objects, 0u);
}

TEST(Parse, MemoryEvents) {
  const OomEvents events =
      parse_memory_events("low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n");
  EXPECT_EQ(events.low, 1u);
  EXPECT_EQ(events.high, 2u);
  EXPECT_EQ(events.max, 3u);
  EXPECT_EQ(events.oom, 4u);
  EXPECT_EQ(events.oom_kill, 5u);
  EXPECT_EQ(events.oom_group_kill, 6u);
}

TEST(Parse, ListsOfCpus) {
  EXPECT_EQ(parse_list("0-2,5\n"), (std::vector<uint16_t>{0, 1, 2, 5}));
  EXPECT_EQ(parse_list("\n"), std::vector<uint16_t>());
  EXPECT_EQ(parse_list("3,x"), std::vector<uint16_t>{3});
  EXPECT_EQ(parse_list("0-70000"), std::vector<uint16_t>());
}

TEST(PageSize, NamesOfTheKernelAndOfTheSpec) {
  EXPECT_EQ(page_size_from_name("hugepages-64kB"), "64KB");
  EXPECT_EQ(page_size_from_name("hugepages-2048kB"), "2MB");
  EXPECT_EQ(page_size_from_name("hugepages-1048576kB"), "1GB");
  EXPECT_EQ(page_size_from_name("hugepages-kB"), "");
  EXPECT_TRUE(check_page_size("2MB"));
  for (const char* bad : {"2mb", "MB", "2", "", "2MB/../x", "2XB"}) {
    EXPECT_EQ(check_page_size(bad).error().what(),
              std::string("hugepage size \"") + bad + "\": not like 64KB, 2MB or 1GB");
  }
}

}  // namespace
}  // namespace amphora::cgroup
