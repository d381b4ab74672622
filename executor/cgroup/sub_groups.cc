// SPDX-License-Identifier: Apache-2.0
// See sub_groups.h.
#include "executor/cgroup/sub_groups.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/layout.h"

namespace amphora::cgroup {

Result<SubGroups> parse_sub_groups(const std::vector<std::string>& words) {
  SubGroups groups;
  for (const std::string& word : words) {
    const size_t colon = word.find(':');
    if (colon == std::string::npos) {
      if (words.size() != 1) {
        return fail(Errc::kInvalid,
                    "invalid --cgroup argument: " + word + " (missing <controller>: prefix)");
      }
      groups[""] = word;
      continue;
    }
    std::string_view rest = std::string_view(word).substr(0, colon);
    for (bool more = true; more;) {
      const size_t comma = rest.find(',');
      const std::string controller(rest.substr(0, comma));
      more = comma != std::string_view::npos;
      if (more) rest.remove_prefix(comma + 1);
      if (controller.empty()) {
        return fail(Errc::kInvalid,
                    "invalid --cgroup argument: " + word + " (empty <controller> prefix)");
      }
      if (!groups.emplace(controller, word.substr(colon + 1)).second) {
        return fail(Errc::kInvalid, "invalid --cgroup argument(s): controller " + controller +
                                        " specified multiple times");
      }
    }
  }
  return groups;
}

Result<void> check_controllers(const SubGroups& below, const std::vector<Location>& locations) {
  for (const auto& [controller, path] : below) {
    const auto has = [&](const Location& location) { return location.has(controller); };
    if (!controller.empty() && std::none_of(locations.begin(), locations.end(), has)) {
      return fail(Errc::kInvalid, "unknown controller " + controller + " in --cgroup");
    }
  }
  return {};
}

std::string_view below_here(const SubGroups& below, const Location& location) {
  for (const auto& [controller, path] : below) {
    if (controller.empty() || location.has(controller)) return path;
  }
  return {};
}

Result<std::string> sub_directory(const Location& location, std::string_view below) {
  // clean() alone would stop ".." at the root and hide that it was asked for.
  const std::string base = path::clean(location.path);
  const std::string wanted = path::clean(base + "/" + std::string(below));
  if (!path::is_below(wanted, base)) {
    return fail(Errc::kInvalid, "bad sub cgroup path: " + std::string(below) +
                                    " is not a sub cgroup path of the container's");
  }
  return wanted == "/" ? location.mount : location.mount + wanted;
}

Error not_joined(const Error& cause, const std::string& dir) {
  return Error::from_errno(cause.sys_errno(),
                           "error adding pid to cgroup: open " + dir + "/cgroup.procs");
}

}  // namespace amphora::cgroup
