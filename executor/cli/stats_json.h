// SPDX-License-Identifier: Apache-2.0
// The statistics of a container in the layout of runc's events. Pure.
#pragma once

#include <string>
#include <string_view>

#include "executor/cgroup/cgroup.h"

namespace amphora::cli {

/// {"type":"stats","id":...,"data":{...}} on one line, without its end.
std::string stats_event(std::string_view id, const cgroup::Stats& stats);
/// {"type":"oom","id":...}.
std::string oom_event(std::string_view id);

}  // namespace amphora::cli
