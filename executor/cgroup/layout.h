// SPDX-License-Identifier: Apache-2.0
// Where a container's cgroup lies: the rules that turn linux.cgroupsPath into one directory per
// hierarchy. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/setup/host.h"

namespace amphora::cgroup {

/// One cgroup directory.
struct Location {
  std::string controllers;  ///< as in setup::Hierarchy; "" is the unified hierarchy
  std::string mount;        ///< mount point
  std::string path;         ///< below it, absolute and clean

  std::string dir() const { return path == "/" ? mount : mount + path; }
  bool has(std::string_view controller) const noexcept;
};

/// A `slice:prefix:name` path: for the systemd driver.
struct UnitPath {
  std::string slice, prefix, name;
};

/// Absolute: from the hierarchy's root. Relative: below `base`. Empty: `id` below `base`. A path with
/// ".." in it is refused rather than guessed at.
Result<std::string> resolve_path(std::string_view cgroups_path, std::string_view id,
                                 std::string_view base);
/// Every v1 hierarchy, then the unified one if there is one (hybrid joins it under the same path).
Result<std::vector<Location>> v1_locations(std::string_view cgroups_path, std::string_view id,
                                           const setup::Host& host);
/// v2: relative paths start at the parent of our own cgroup, because ours holds processes and so
/// cannot give controllers to children.
Result<Location> v2_location(std::string_view cgroups_path, std::string_view id,
                             const setup::Host& host);

/// True when the path has exactly two colons and no slash before them.
bool is_unit_path(std::string_view cgroups_path) noexcept;
/// Empty: "<default slice>:amphora:<id>"; else exactly slice:prefix:name.
Result<UnitPath> parse_unit_path(std::string_view cgroups_path, std::string_view id, bool rootless);
/// "prefix-name.scope", or the name itself when it ends in .slice.
std::string unit_name(const UnitPath& unit);
/// "a-b.slice" -> "/a.slice/a-b.slice"; "-.slice" and "-" -> "/".
Result<std::string> expand_slice(std::string_view slice);

}  // namespace amphora::cgroup
