// SPDX-License-Identifier: Apache-2.0
// Path rules. See layout.h.
#include "executor/cgroup/layout.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/setup/host.h"

namespace amphora::cgroup {

bool Location::has(std::string_view controller) const noexcept {
  std::string_view rest = controllers;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    if (rest.substr(0, comma) == controller) return true;
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
  }
  return false;
}

Result<std::string> resolve_path(std::string_view cgroups_path, std::string_view id,
                                 std::string_view base) {
  const std::string_view path = cgroups_path.empty() ? id : cgroups_path;
  for (const std::string_view part : path::components(path)) {
    if (part == "..") {
      return fail(Errc::kInvalid, fmt::format("cgroups path \"{}\": \"..\" is not allowed", path));
    }
  }
  if (path.find('\0') != std::string_view::npos || path.find('\n') != std::string_view::npos) {
    return fail(Errc::kInvalid, "cgroups path: a NUL or a newline is not allowed");
  }
  return path.starts_with('/') ? path::clean(path) : path::join(base.empty() ? "/" : base, path);
}

Result<std::vector<Location>> v1_locations(std::string_view cgroups_path, std::string_view id,
                                           const setup::Host& host) {
  std::vector<Location> locations;
  locations.reserve(host.hierarchies.size() + 1);
  for (const setup::Hierarchy& hierarchy : host.hierarchies) {
    TRY_ASSIGN(std::string path, resolve_path(cgroups_path, id, hierarchy.own_path));
    locations.push_back({hierarchy.controllers, hierarchy.mount_point, std::move(path)});
  }
  if (!host.unified_mount.empty()) {
    TRY_ASSIGN(std::string path, resolve_path(cgroups_path, id, host.unified_own_path));
    locations.push_back({"", host.unified_mount, std::move(path)});
  }
  return locations;
}

Result<Location> v2_location(std::string_view cgroups_path, std::string_view id,
                             const setup::Host& host) {
  const std::string_view own = host.unified_own_path;
  const std::string_view parent = own.empty() ? own : path::dir_name(own);
  TRY_ASSIGN(std::string path, resolve_path(cgroups_path, id, parent));
  return Location{"", host.unified_mount, std::move(path)};
}

bool is_unit_path(std::string_view cgroups_path) noexcept {
  return std::count(cgroups_path.begin(), cgroups_path.end(), ':') == 2 &&
         cgroups_path.find('/') == std::string_view::npos;
}

Result<UnitPath> parse_unit_path(std::string_view cgroups_path, std::string_view id,
                                 bool rootless) {
  const char* default_slice = rootless ? "user.slice" : "system.slice";
  if (cgroups_path.empty()) return UnitPath{default_slice, "amphora", std::string(id)};
  if (!is_unit_path(cgroups_path)) {
    return fail(Errc::kInvalid,
                fmt::format("cgroups path \"{}\": systemd wants slice:prefix:name", cgroups_path));
  }
  const size_t first = cgroups_path.find(':');
  const size_t second = cgroups_path.find(':', first + 1);
  UnitPath unit{std::string(cgroups_path.substr(0, first)),
                std::string(cgroups_path.substr(first + 1, second - first - 1)),
                std::string(cgroups_path.substr(second + 1))};
  if (unit.name.empty()) {
    return fail(Errc::kInvalid,
                fmt::format("cgroups path \"{}\": the name is empty", cgroups_path));
  }
  if (unit.slice.empty()) unit.slice = default_slice;
  if (unit.slice == "-") unit.slice = "-.slice";
  return unit;
}

std::string unit_name(const UnitPath& unit) {
  if (unit.name.ends_with(".slice")) return unit.name;
  return unit.prefix.empty() ? unit.name + ".scope"
                             : fmt::format("{}-{}.scope", unit.prefix, unit.name);
}

Result<std::string> expand_slice(std::string_view slice) {
  constexpr std::string_view kSuffix = ".slice";
  if (slice == "-.slice" || slice == "-") return "/";
  const auto bad = [&] {
    return fail(Errc::kInvalid, fmt::format("invalid slice name \"{}\"", slice));
  };
  if (slice.size() <= kSuffix.size() || !slice.ends_with(kSuffix)) return bad();
  if (slice.find('/') != std::string_view::npos) return bad();
  const std::string_view stem = slice.substr(0, slice.size() - kSuffix.size());
  if (stem.starts_with('-') || stem.ends_with('-') || stem.find("--") != std::string_view::npos) {
    return bad();
  }
  std::string path;
  for (size_t at = 0; at != std::string_view::npos;) {
    at = stem.find('-', at);
    path.append("/").append(stem.substr(0, at)).append(kSuffix);
    if (at != std::string_view::npos) ++at;
  }
  return path;
}

}  // namespace amphora::cgroup
