// SPDX-License-Identifier: Apache-2.0
// Cgroups beneath a container's, as `exec --cgroup` names them: their form, which hierarchy each is for,
// and that none leads out of the container's own. Pure. Not here: entering them (v1, v2).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/layout.h"

namespace amphora::cgroup {

/// From values like `memory:sub` or `cpu,cpuacct:sub`, or one alone, `sub`, which is for all.
Result<SubGroups> parse_sub_groups(const std::vector<std::string>& words);
/// That somebody knows each controller.
Result<void> check_controllers(const SubGroups& below, const std::vector<Location>& locations);
/// What there is for one hierarchy; empty: the container's own cgroup.
std::string_view below_here(const SubGroups& below, const Location& location);
/// Its directory. Out of the container's cgroup, also beside it under a name that begins alike, is
/// refused: compared by component, not by letters (runc #5351).
Result<std::string> sub_directory(const Location& location, std::string_view below);
/// Why nobody enters `dir`, in runc's words, which name the one file whatever we open to join.
Error not_joined(const Error& cause, const std::string& dir);

}  // namespace amphora::cgroup
