// SPDX-License-Identifier: Apache-2.0
// The fixture of the v1 driver's tests: skips where there is no v1, finds a cgroup's directories.
#pragma once

#include <unistd.h>

#include <gtest/gtest.h>

#include "executor/cgroup/cgroup.h"
#include "support.h"

namespace amphora::cgroup {

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

}  // namespace amphora::cgroup
