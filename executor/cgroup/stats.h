// SPDX-License-Identifier: Apache-2.0
// The parts of reading numbers that both versions need: hugetlb, whose v2 files serve a hybrid host
// too, and the whole of v2.
#pragma once

#include <string>
#include <vector>

#include "executor/cgroup/cgroup.h"

namespace amphora::cgroup {

/// The page sizes of this kernel, as in file names: "2MB", "1GB".
std::vector<std::string> page_sizes();
/// "hugepages-2048kB" -> "2MB"; empty if it is no such name.
std::string page_size_from_name(std::string_view name);
std::vector<HugetlbStats> hugetlb_stats_v1(const std::string& dir);
std::vector<HugetlbStats> hugetlb_stats_v2(const std::string& dir);
Result<Stats> stats_v2(const std::string& dir);

}  // namespace amphora::cgroup
