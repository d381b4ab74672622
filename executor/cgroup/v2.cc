// SPDX-License-Identifier: Apache-2.0
// The cgroup v2 driver: making, joining, devices, removing. Limits are in v2_limits.cc.
#include "executor/cgroup/v2.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cgroup/bpf.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/device_rules.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/layout.h"
#include "executor/cgroup/signal.h"
#include "executor/cgroup/stats.h"
#include "executor/cgroup/sub_groups.h"
#include "executor/cgroup/unified.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/setup/host.h"

namespace amphora::cgroup {
namespace {

constexpr int kKillTimeoutMs = 10000;
constexpr int kRemoveTimeoutMs = 2000;

void undo(const std::vector<std::string>& made) noexcept {
  for (auto dir = made.rbegin(); dir != made.rend(); ++dir) ::rmdir(dir->c_str());
}

Result<void> check_unused(const std::string& dir) {
  TRY_ASSIGN(const std::vector<pid_t> pids, list_pids(dir));
  if (!pids.empty()) {
    return fail(Errc::kExists,
                fmt::format("container's cgroup is not empty: {} process(es) found in {}",
                            pids.size(), dir));
  }
  const auto frozen = is_frozen_unified(dir);
  if (frozen && *frozen) {
    return fail(Errc::kPrecondition, "container's cgroup unexpectedly frozen: " + dir);
  }
  return {};
}

/// Below a threaded cgroup a new one is "domain invalid" until it is made threaded too, which only
/// some controllers can bear.
Result<void> settle_type(const std::vector<std::string>& made, const oci::Resources& resources) {
  for (const std::string& dir : made) {
    const auto type = read_value(dir, "cgroup.type");
    if (!type || trim(*type) != "domain invalid") continue;
    if (wants_domain_controllers(resources)) {
      return fail(Errc::kUnsupported,
                  "cannot enter cgroup " + dir +
                      ": it lies below a threaded cgroup, where only cpu, cpuset, pids and perf "
                      "controllers work");
    }
    TRY(write_value(dir, "cgroup.type", "threaded"));
  }
  return {};
}

Result<V2Cgroup::Origin> prepare(const Location& location, const oci::Resources& resources,
                                 bool in_unit, std::vector<std::string>& made) {
  V2Cgroup::Origin origin;
  const std::string dir = location.dir();
  TRY(make_dirs(location.mount, location.path, made));
  origin.fresh = !made.empty();
  if (!origin.fresh && !in_unit) TRY(check_unused(dir));
  TRY_ASSIGN(const std::vector<std::string> controllers, unified_controllers(location.mount));
  // Only a value that needs a controller makes it an error that it could not be given.
  auto enabled = enable_controllers(location.mount, location.path, controllers);
  if (!enabled) origin.not_enabled = enabled.error().what();
  TRY(settle_type(made, resources));
  return origin;
}

}  // namespace

Result<std::unique_ptr<Cgroup>> create_v2(Location location, const oci::Resources& resources,
                                          const setup::Host& host, const Options& options,
                                          bool in_unit) {
  std::vector<std::string> made;
  auto origin = prepare(location, resources, in_unit, made);
  if (!origin) {
    undo(made);
    return std::unexpected(std::move(origin).error());
  }
  origin->skip_devices = options.rootless || host.in_user_namespace;
  auto fd = open_file(location.dir(), ".", O_RDONLY | O_DIRECTORY);
  if (!fd) {
    undo(made);
    return std::unexpected(std::move(fd).error());
  }
  return std::make_unique<V2Cgroup>(std::move(location), std::move(*fd), std::move(*origin));
}

std::unique_ptr<Cgroup> open_v2(Location location, const setup::Host& host) {
  auto fd = open_file(location.dir(), ".", O_RDONLY | O_DIRECTORY);
  V2Cgroup::Origin origin;
  origin.skip_devices = host.in_user_namespace;
  return std::make_unique<V2Cgroup>(std::move(location), fd ? std::move(*fd) : UniqueFd(),
                                    std::move(origin));
}

V2Cgroup::V2Cgroup(Location location, UniqueFd dir_fd, Origin origin)
    : location_(std::move(location)), dir_fd_(std::move(dir_fd)), origin_(std::move(origin)) {}

Result<void> V2Cgroup::apply(const oci::Resources& resources) {
  TRY(write_devices(resources.devices));
  Writer writer(Writer::Mode::kFresh);
  return write_v2_limits(location_.dir(), resources, origin_.not_enabled, writer, warnings_);
}

Result<void> V2Cgroup::update(const oci::Resources& resources) {
  Writer writer(Writer::Mode::kUpdate);
  auto result = write_v2_limits(location_.dir(), resources, origin_.not_enabled, writer, warnings_);
  if (result) return {};
  const std::string failed = writer.roll_back();
  if (failed.empty()) return result;
  return std::unexpected(std::move(result).error().hint("and could not be undone: " + failed));
}

Result<void> V2Cgroup::write_devices(const std::vector<oci::DeviceRule>& rules) {
  if (origin_.skip_devices) return {};
  TRY_ASSIGN(const DeviceFilter filter, fold_device_rules(rules));
  const std::vector<struct bpf_insn> program = device_program(filter);
  auto loaded = load_device_program(program);
  Result<void> result;
  if (loaded) {
    result = attach_device_program(dir_fd_.get(), loaded->get(), origin_.fresh);
  } else {
    result = std::unexpected(std::move(loaded).error());
  }
  if (result) {
    origin_.fresh = false;
    return {};
  }
  const bool denies = std::any_of(rules.begin(), rules.end(),
                                  [](const oci::DeviceRule& rule) { return !rule.allow; });
  // Without a rule that denies something nothing is lost.
  if (result.error().sys_errno() == EPERM && !denies) {
    warnings_.push_back("device rules are not enforced: " + result.error().what());
    return {};
  }
  return std::unexpected(
      std::move(result).error().context("set device rules of " + location_.dir()));
}

Result<void> V2Cgroup::add(pid_t pid) const {
  auto written = write_pid(location_.dir(), "cgroup.procs", pid);
  if (written) return {};
  if (written.error().sys_errno() == EBUSY) {
    // The container made children with controllers: beside the first process found there.
    TRY_ASSIGN(const std::vector<pid_t> others, list_pids(location_.dir()));
    if (!others.empty()) {
      TRY_ASSIGN(const std::string dir, directory_of(others.front(), Where::kBelow));
      return write_pid(dir, "cgroup.procs", pid);
    }
  }
  return std::unexpected(std::move(written).error().context(
      fmt::format("add process {} to cgroup {}", pid, location_.path)));
}

/// The directory of a process; with kBelow one that is in neither this cgroup nor below is an error.
Result<std::string> V2Cgroup::directory_of(pid_t pid, Where where) const {
  TRY_ASSIGN(const std::string lines, read_list("/proc/" + fmt::format_int(pid).str(), "cgroup"));
  const std::string own = "0::" + location_.path;
  std::string_view rest = lines;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const bool anywhere = where == Where::kAnywhere && line.starts_with("0::/");
    if (anywhere || line == own || line.starts_with(own + "/")) {
      return location_.mount + std::string(line.substr(3));
    }
  }
  return fail(Errc::kPrecondition,
              fmt::format("process {} is not in the container's cgroup {}", pid, location_.path));
}

Result<SelfJoin> V2Cgroup::self_join(pid_t init, const SubGroups& below) const {
  SelfJoin join;
  TRY(check_controllers(below, {location_}));
  if (const std::string_view sub = below_here(below, location_); !sub.empty()) {
    TRY_ASSIGN(const std::string dir, sub_directory(location_, sub));
    auto fd = open_file(dir, ".", O_RDONLY | O_DIRECTORY);
    if (!fd) return std::unexpected(not_joined(fd.error(), dir));
    join.clone_into = std::move(*fd);
    return join;
  }
  if (init != 0) {
    const auto given = read_value(location_.dir(), "cgroup.subtree_control");
    const bool gone = !given && is_gone(given.error());
    if (!given && !gone) return std::unexpected(given.error());
    if (gone || !trim(*given).empty()) {
      // Gone: init has moved elsewhere and somebody, systemd perhaps, removed what was empty then.
      TRY_ASSIGN(const std::string dir,
                 directory_of(init, gone ? Where::kAnywhere : Where::kBelow));
      TRY_ASSIGN(join.clone_into, open_file(dir, ".", O_RDONLY | O_DIRECTORY));
      return join;
    }
  }
  TRY_ASSIGN(join.clone_into, duplicate(dir_fd_.get()));
  return join;
}

Result<Stats> V2Cgroup::stats() const { return stats_v2(location_.dir()); }

Result<void> V2Cgroup::freeze(Frozen frozen) {
  return freeze_unified(location_.dir(), frozen == Frozen::kYes);
}

Result<bool> V2Cgroup::is_frozen() const {
  auto frozen = is_frozen_unified(location_.dir());
  if (!frozen && is_gone(frozen.error())) return false;
  return frozen;
}

Result<std::vector<pid_t>> V2Cgroup::pids() const { return list_pids(location_.dir()); }

Result<void> V2Cgroup::kill_all(int signal) {
  const std::string dir = location_.dir();
  if (signal != SIGKILL) {
    TRY(signal_all(dir, signal));
    return {};
  }
  const int64_t deadline = now_ms() + kKillTimeoutMs;
  auto killed = kill_unified(dir);
  if (!killed && is_gone(killed.error())) return {};
  if (!killed) return std::unexpected(std::move(killed).error());
  // cgroup.kill reaches tasks that are frozen, and forks in flight; where there is none, the list is
  // gone through until it is empty.
  if (*killed) {
    TRY_ASSIGN(const bool empty, wait_empty(dir, deadline));
    if (empty) return {};
  }
  return kill_until_empty(dir, deadline);
}

Result<uint64_t> V2Cgroup::oom_kills() const {
  auto text = read_value(location_.dir(), "memory.events");
  if (text) return keyed_number(*text, "oom_kill");
  if (text.error().sys_errno() == ENOENT) {
    return fail(Errc::kUnsupported,
                "cannot count OOM kills: controller memory is not available on this host");
  }
  return std::unexpected(std::move(text).error());
}

Result<UniqueFd> V2Cgroup::oom_watch() const { return watch_memory_events(location_.dir()); }

Result<void> V2Cgroup::remove() {
  if (location_.path == "/") return {};
  return remove_tree(location_.dir(), now_ms() + kRemoveTimeoutMs);
}

void V2Cgroup::record(oci::State& state) const { state.cgroup_dirs = paths(); }

std::map<std::string, std::string> V2Cgroup::paths() const {
  return {{location_.controllers, location_.path}};
}

Result<void> V2Cgroup::delegate(uint32_t uid) {
  constexpr gid_t kKeepGroup = static_cast<gid_t>(-1);
  const std::string dir = location_.dir();
  if (::fchown(dir_fd_.get(), uid, kKeepGroup) != 0) {
    return fail_errno(errno, fmt::format("give cgroup {} to uid {}", dir, uid));
  }
  const std::string files = read_value("/sys/kernel/cgroup", "delegate")
                                .value_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
  std::string_view rest = files;
  while (!rest.empty()) {
    const std::string name(rest.substr(0, rest.find('\n')));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    // The list is of all that the kernel knows; absent controllers have no files.
    if (name.empty() || name.find('/') != std::string::npos) continue;
    if (::fchownat(dir_fd_.get(), name.c_str(), uid, kKeepGroup, AT_SYMLINK_NOFOLLOW) != 0 &&
        errno != ENOENT) {
      return fail_errno(errno, fmt::format("give {}/{} to uid {}", dir, name, uid));
    }
  }
  return {};
}

}  // namespace amphora::cgroup
