// SPDX-License-Identifier: Apache-2.0
// Who writes the maps of a user namespace. The writing itself is tests/cli/t_rootless.py's.
#include "executor/setup/id_maps.h"

#include <gtest/gtest.h>

namespace amphora::setup {
namespace {

TEST(MapWriter, ACapabilityMakesItOurs) {
  EXPECT_EQ(map_writer({{0, 100000, 65536}}, 1000, true), MapWriter::kKernelFile);
  EXPECT_EQ(map_writer({{0, 1000, 1}, {1, 100000, 65536}}, 1000, true), MapWriter::kKernelFile);
}

TEST(MapWriter, OnesOwnIdNeedsNobody) {
  EXPECT_EQ(map_writer({{0, 1000, 1}}, 1000, false), MapWriter::kOwnId);
  EXPECT_EQ(map_writer({{5, 1000, 1}}, 1000, false), MapWriter::kOwnId) << "whatever it is inside";
}

TEST(MapWriter, AllElseIsForTheHelper) {
  EXPECT_EQ(map_writer({{0, 1001, 1}}, 1000, false), MapWriter::kHelper);
  EXPECT_EQ(map_writer({{0, 1000, 2}}, 1000, false), MapWriter::kHelper);
  EXPECT_EQ(map_writer({{0, 1000, 1}, {1, 100000, 1}}, 1000, false), MapWriter::kHelper);
  EXPECT_EQ(map_writer({}, 1000, false), MapWriter::kHelper);
}

}  // namespace
}  // namespace amphora::setup
