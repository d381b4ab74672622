// SPDX-License-Identifier: Apache-2.0
// The cgroup v1 driver: making, joining, killing, removing. Limits are in v1_limits.cc, numbers in
// stats_v1.cc, the freezer in freezer_v1.cc.
#include "executor/cgroup/v1.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/convert.h"
#include "executor/cgroup/device_rules.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/layout.h"
#include "executor/cgroup/signal.h"
#include "executor/cgroup/sub_groups.h"
#include "executor/cgroup/unified.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/setup/host.h"

namespace amphora::cgroup {
namespace {

constexpr int kKillTimeoutMs = 10000;
constexpr int kRemoveTimeoutMs = 2000;

bool no_rights(int err) noexcept { return err == EACCES || err == EPERM || err == EROFS; }

void undo(const std::vector<std::string>& made) noexcept {
  for (auto dir = made.rbegin(); dir != made.rend(); ++dir) ::rmdir(dir->c_str());
}

/// A directory that was there already is only ours to use when nothing lives in it.
Result<void> check_unused(const Location& location) {
  TRY_ASSIGN(const std::vector<pid_t> pids, list_pids(location.dir()));
  if (!pids.empty()) {
    return fail(Errc::kExists,
                fmt::format("container's cgroup is not empty: {} process(es) found in {}",
                            pids.size(), location.dir()));
  }
  if (location.has("freezer")) {
    TRY_ASSIGN(const bool frozen, is_frozen_v1(location.dir()));
    if (frozen) {
      return fail(Errc::kPrecondition, "container's cgroup unexpectedly frozen: " + location.dir());
    }
  }
  return {};
}

Result<void> make_location(const Location& location, const oci::Resources& resources, bool in_unit,
                           std::vector<std::string>& made) {
  std::vector<std::string> levels;
  auto result = make_dirs(location.mount, location.path, levels);
  made.insert(made.end(), levels.begin(), levels.end());
  TRY(std::move(result));
  if (levels.empty() && !in_unit) TRY(check_unused(location));
  if (location.has("cpuset")) {
    TRY(fill_cpuset(location.mount, location.path, levels, resources));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Cgroup>> create_v1(const std::string& id, std::string_view cgroups_path,
                                          const oci::Resources& resources, const setup::Host& host,
                                          const Options& options, bool in_unit) {
  TRY_ASSIGN(std::vector<Location> wanted, v1_locations(cgroups_path, id, host));
  std::vector<Location> got;
  std::vector<std::string> made;
  std::string refused;
  for (Location& location : wanted) {
    const size_t before = made.size();
    auto result = make_location(location, resources, in_unit, made);
    if (result) {
      got.push_back(std::move(location));
      continue;
    }
    const bool excused = options.rootless && cgroups_path.empty();
    if (excused && no_rights(result.error().sys_errno())) {
      undo({made.begin() + static_cast<ptrdiff_t>(before), made.end()});
      made.resize(before);
      refused = result.error().what();
      continue;
    }
    undo(made);
    return std::unexpected(std::move(result).error());
  }
  if (!refused.empty() && has_limits(resources)) {
    undo(made);
    return fail(Errc::kUnsupported,
                "rootless needs no limits + no cgrouppath when no permission is granted for "
                "cgroups: " +
                    refused);
  }
  if (got.empty()) return std::unique_ptr<Cgroup>();
  return std::make_unique<V1Cgroup>(std::move(got), options.rootless || host.in_user_namespace,
                                    false);
}

V1Cgroup::V1Cgroup(std::vector<Location> locations, bool skip_devices, bool tolerant)
    : locations_(std::move(locations)), skip_devices_(skip_devices), tolerant_(tolerant) {}

const Location* V1Cgroup::find(std::string_view controller) const noexcept {
  for (const Location& location : locations_) {
    if (location.has(controller)) return &location;
  }
  return nullptr;
}

const Location* V1Cgroup::unified() const noexcept {
  for (const Location& location : locations_) {
    if (location.controllers.empty()) return &location;
  }
  return nullptr;
}

const Location* V1Cgroup::main_location() const noexcept {
  // devices and freezer first: a container cannot have left those on its own, as it might have left
  // a named hierarchy that it was given to manage.
  for (const char* name : {"devices", "freezer", "pids", "memory"}) {
    if (const Location* location = find(name)) return location;
  }
  return locations_.empty() ? nullptr : &locations_.front();
}

Result<void> V1Cgroup::apply(const oci::Resources& resources) {
  TRY(write_devices(resources.devices));
  Writer writer(Writer::Mode::kFresh);
  return write_v1_limits(*this, resources, writer, warnings_);
}

Result<void> V1Cgroup::update(const oci::Resources& resources) {
  Writer writer(Writer::Mode::kUpdate);
  auto result = write_v1_limits(*this, resources, writer, warnings_);
  if (result) return {};
  const std::string failed = writer.roll_back();
  if (failed.empty()) return result;
  return std::unexpected(std::move(result).error().hint("and could not be undone: " + failed));
}

Result<void> V1Cgroup::write_devices(const std::vector<oci::DeviceRule>& rules) {
  if (skip_devices_) return {};
  const Location* location = find("devices");
  if (location == nullptr) {
    return fail(Errc::kUnsupported,
                "cannot set device rules: controller devices is not available on this host");
  }
  TRY_ASSIGN(const DeviceFilter filter, fold_device_rules(rules));
  TRY_ASSIGN(const std::vector<DeviceLine> lines, v1_device_lines(filter));
  const std::string dir = location->dir();
  std::vector<UniqueFd> files(2);
  for (const DeviceLine& line : lines) {
    const char* name = line.allow ? "devices.allow" : "devices.deny";
    UniqueFd& fd = files[line.allow ? 1 : 0];
    if (!fd) {
      TRY_ASSIGN(fd, open_file(dir, name, O_WRONLY));
    }
    // The kernel reads one rule per write, whatever follows in the same buffer.
    if (::write(fd.get(), line.text.data(), line.text.size()) < 0) {
      return fail_errno(errno, fmt::format("write {} = {} in {}", name, line.text, dir));
    }
  }
  sys::close_all(files);
  return {};
}

Result<void> V1Cgroup::add(pid_t pid) const {
  for (const Location& location : locations_) {
    auto written = write_pid(location.dir(), "cgroup.procs", pid);
    if (written) continue;
    if (tolerant_ && written.error().sys_errno() == ENOENT) continue;
    return std::unexpected(std::move(written).error().context(
        fmt::format("add process {} to cgroup {}", pid, location.path)));
  }
  return {};
}

Result<SelfJoin> V1Cgroup::self_join(pid_t, const SubGroups& below) const {
  SelfJoin join;
  TRY(check_controllers(below, locations_));
  // The unified side, which is last, is opened first: the child has no use for it, and closes it in one
  // call with what was opened before.
  for (const Location& location : std::views::reverse(locations_)) {
    const bool unified_side = location.controllers.empty();
    const std::string_view sub = below_here(below, location);
    TRY_ASSIGN(const std::string dir, sub_directory(location, sub));
    auto fd = unified_side ? open_file(dir, ".", O_RDONLY | O_DIRECTORY)
                           : open_file(dir, "tasks", O_WRONLY);
    if (!fd) {
      if (tolerant_ && sub.empty() && fd.error().sys_errno() == ENOENT) continue;
      return std::unexpected(not_joined(fd.error(), dir));
    }
    if (unified_side) {
      join.clone_into = std::move(*fd);
    } else {
      join.tasks.push_back(std::move(*fd));
    }
  }
  return join;
}

Result<Stats> V1Cgroup::stats() const { return stats_v1(*this); }

Result<void> V1Cgroup::freeze(Frozen frozen) {
  if (const Location* location = find("freezer")) {
    return freeze_v1(location->dir(), frozen == Frozen::kYes);
  }
  if (const Location* side = unified()) return freeze_unified(side->dir(), frozen == Frozen::kYes);
  return fail(Errc::kUnsupported,
              "cannot freeze: controller freezer is not available on this host");
}

Result<bool> V1Cgroup::is_frozen() const {
  if (const Location* location = find("freezer")) return is_frozen_v1(location->dir());
  if (const Location* side = unified()) return is_frozen_unified(side->dir());
  return false;
}

Result<std::vector<pid_t>> V1Cgroup::pids() const {
  const Location* location = main_location();
  if (location == nullptr) return std::vector<pid_t>();
  return list_pids(location->dir());
}

Result<void> V1Cgroup::kill_all(int signal) {
  const Location* location = main_location();
  if (location == nullptr) return {};
  if (signal != SIGKILL) {
    TRY(signal_all(location->dir(), signal));
    return {};
  }
  const int64_t deadline = now_ms() + kKillTimeoutMs;
  // All at once where it can be had, so that a fork bomb cannot outrun the list.
  if (const Location* side = unified()) {
    auto killed = kill_unified(side->dir());
    if (!killed && killed.error().sys_errno() != ENOENT) {
      return std::unexpected(std::move(killed).error());
    }
  }
  // A frozen v1 task dies only when it is thawed, and the signal has to be there before it runs.
  if (const Location* freezer = find("freezer")) {
    TRY(signal_all(location->dir(), SIGKILL));
    auto thawed = write_value(freezer->dir(), "freezer.state", "THAWED");
    if (!thawed && thawed.error().sys_errno() != ENOENT) {
      return std::unexpected(std::move(thawed).error());
    }
  }
  return kill_until_empty(location->dir(), deadline);
}

Result<uint64_t> V1Cgroup::oom_kills() const {
  const Location* location = find("memory");
  if (location == nullptr) {
    return fail(Errc::kUnsupported,
                "cannot count OOM kills: controller memory is not available on this host");
  }
  uint64_t total = 0;
  // v1 counts in the cgroup that held the victim only, so those below are added up.
  TRY(walk(location->dir(), [&](const std::string& dir) -> Result<void> {
    auto text = read_value(dir, "memory.oom_control");
    if (text) total += keyed_number(*text, "oom_kill");
    // One below may go meanwhile, but not the container's own: 0 would be no answer.
    const bool own = dir == location->dir();
    if (!text && (own || !is_gone(text.error()))) {
      return std::unexpected(std::move(text).error());
    }
    return {};
  }));
  return total;
}

Result<UniqueFd> V1Cgroup::oom_watch() const {
  const Location* location = find("memory");
  if (location == nullptr) {
    return fail(Errc::kUnsupported,
                "cannot watch for OOM: controller memory is not available on this host");
  }
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno(errno, "make an eventfd");
  const std::string dir = location->dir();
  TRY_ASSIGN(const UniqueFd control, open_file(dir, "memory.oom_control", O_RDONLY));
  TRY(write_value(dir, "cgroup.event_control", fmt::format("{} {}", event.get(), control.get())));
  return event;
}

Result<void> V1Cgroup::remove() {
  const int64_t deadline = now_ms() + kRemoveTimeoutMs;
  Result<void> result;
  for (const Location& location : locations_) {
    if (location.path == "/") continue;
    auto removed = remove_tree(location.dir(), deadline);
    if (!removed) result = std::move(removed);
  }
  return result;
}

void V1Cgroup::record(oci::State& state) const { state.cgroup_dirs = paths(); }

std::map<std::string, std::string> V1Cgroup::paths() const {
  std::map<std::string, std::string> paths;
  for (const Location& location : locations_) paths.emplace(location.controllers, location.path);
  return paths;
}

}  // namespace amphora::cgroup
