// SPDX-License-Identifier: Apache-2.0
// The front: which driver a container gets, by the host's mode and the options.
#include "executor/cgroup/cgroup.h"

#include <errno.h>

#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/cgroup/convert.h"
#include "executor/cgroup/layout.h"
#include "executor/cgroup/systemd.h"
#include "executor/cgroup/v1.h"
#include "executor/cgroup/v2.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/setup/host.h"

namespace amphora::cgroup {
namespace {

Result<std::unique_ptr<Cgroup>> create_unified(const std::string& id, const oci::Linux& linux_,
                                               const setup::Host& host, const Options& options) {
  TRY_ASSIGN(Location location, v2_location(linux_.cgroups_path, id, host));
  auto cgroup = create_v2(std::move(location), linux_.resources, host, options, false);
  if (cgroup || !options.rootless || !linux_.cgroups_path.empty()) return cgroup;
  const int err = cgroup.error().sys_errno();
  if (err != EACCES && err != EPERM && err != EROFS) return cgroup;
  if (!has_limits(linux_.resources)) return std::unique_ptr<Cgroup>();
  return std::unexpected(std::move(cgroup).error().context(
      "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"));
}

std::unique_ptr<Cgroup> open_files(const oci::State& state, const setup::Host& host) {
  if (state.cgroup_dirs.empty()) return nullptr;
  if (host.cgroup_mode == setup::CgroupMode::kUnified) {
    const auto entry = state.cgroup_dirs.find("");
    if (entry == state.cgroup_dirs.end()) return nullptr;
    return open_v2({"", host.unified_mount, entry->second}, host);
  }
  std::vector<Location> locations;
  for (const setup::Hierarchy& hierarchy : host.hierarchies) {
    const auto entry = state.cgroup_dirs.find(hierarchy.controllers);
    if (entry == state.cgroup_dirs.end()) continue;
    locations.push_back({hierarchy.controllers, hierarchy.mount_point, entry->second});
  }
  if (const auto entry = state.cgroup_dirs.find("");
      entry != state.cgroup_dirs.end() && !host.unified_mount.empty()) {
    locations.push_back({"", host.unified_mount, entry->second});
  }
  return std::make_unique<V1Cgroup>(std::move(locations), host.in_user_namespace, true);
}

}  // namespace

Result<std::unique_ptr<Cgroup>> create(const std::string& id, const oci::Linux& linux_,
                                       const setup::Host& host, const Options& options) {
  if (options.systemd || is_unit_path(linux_.cgroups_path)) {
    return create_systemd(id, linux_, host, options);
  }
  switch (host.cgroup_mode) {
    case setup::CgroupMode::kV1:
    case setup::CgroupMode::kHybrid:
      return create_v1(id, linux_.cgroups_path, linux_.resources, host, options, false);
    case setup::CgroupMode::kUnified:
      return create_unified(id, linux_, host, options);
    case setup::CgroupMode::kNone:
      break;
  }
  if (!linux_.cgroups_path.empty() || has_limits(linux_.resources)) {
    return fail(Errc::kUnsupported, "cannot make a cgroup: no cgroup hierarchy is mounted here");
  }
  return std::unique_ptr<Cgroup>();
}

Result<void> record_intent(const std::string& id, const oci::Linux& linux_, const setup::Host& host,
                           const Options& options, oci::State& state) {
  if (host.cgroup_mode == setup::CgroupMode::kNone) return {};
  std::string path = linux_.cgroups_path;
  if (options.systemd || is_unit_path(path)) {
    TRY_ASSIGN(const UnitPath parts, parse_unit_path(path, id, options.rootless));
    state.systemd_unit = unit_name(parts);
    const bool slice = state.systemd_unit.ends_with(".slice");
    TRY_ASSIGN(path, expand_slice(slice ? state.systemd_unit : parts.slice));
    if (!slice) path += (path.ends_with('/') ? "" : "/") + state.systemd_unit;
  }
  if (host.cgroup_mode == setup::CgroupMode::kUnified) {
    TRY_ASSIGN(const Location location, v2_location(path, id, host));
    state.cgroup_dirs[""] = location.path;
    return {};
  }
  TRY_ASSIGN(const std::vector<Location> locations, v1_locations(path, id, host));
  for (const Location& location : locations) {
    state.cgroup_dirs[location.controllers] = location.path;
  }
  return {};
}

Result<std::unique_ptr<Cgroup>> open(const oci::State& state, const setup::Host& host) {
  auto cgroup = open_files(state, host);
  if (!cgroup || state.systemd_unit.empty()) return cgroup;
  return open_systemd(state.systemd_unit, std::move(cgroup), host);
}

}  // namespace amphora::cgroup
