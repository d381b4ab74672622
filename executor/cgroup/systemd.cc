// SPDX-License-Identifier: Apache-2.0
// The systemd driver. See systemd.h. Talking to systemd is systemd_bus.cc's, words for limits are
// systemd_properties.cc's; here is the life of a unit around the life of a container.
#include "executor/cgroup/systemd.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/gvariant.h"
#include "executor/cgroup/layout.h"
#include "executor/cgroup/systemd_bus.h"
#include "executor/cgroup/systemd_properties.h"
#include "executor/cgroup/v1.h"
#include "executor/cgroup/v2.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/setup/host.h"

namespace amphora::cgroup {
namespace {

/// systemd makes no scope without a process and ends it when the last one leaves; this one keeps the
/// place until the container's init is in.
class Holder {
 public:
  Holder() = default;
  Holder(Holder&& other) noexcept : process_(std::exchange(other.process_, Process{})) {}
  Holder& operator=(Holder&&) = delete;
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() { release(); }

  Result<void> start() {
    int pidfd = -1;
    struct clone_args args{};
    args.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    const pid_t pid = sys::clone3(args);
    if (pid < 0) return fail_errno(errno, "clone a process to hold the scope");
    if (pid == 0) {
      // SAFETY: only system calls from here. It must not outlive us nor keep a descriptor open.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      sys::close_range(0, ~0U, 0);
      for (;;) ::pause();
    }
    process_ = Process{pid, UniqueFd(pidfd), 0};
    return {};
  }
  pid_t pid() const noexcept { return process_.pid; }
  void release() noexcept {
    if (process_.pid == 0) return;
    sys::pidfd_send_signal(process_.pidfd.get(), SIGKILL);
    siginfo_t info{};
    // Made without an exit signal, so that nobody mistakes it for a child of theirs: __WALL.
    while (::waitid(P_PIDFD, static_cast<id_t>(process_.pidfd.get()), &info, WEXITED | __WALL) !=
               0 &&
           errno == EINTR) {
    }
    process_ = Process{};
  }

 private:
  Process process_;
};

class SystemdCgroup : public Cgroup {
 public:
  SystemdCgroup(std::string unit, bool user, bool v2, std::unique_ptr<Cgroup> inner, Holder holder)
      : unit_(std::move(unit)),
        user_(user),
        v2_(v2),
        inner_(std::move(inner)),
        holder_(std::move(holder)) {}

  Result<void> apply(const oci::Resources& resources) override {
    auto result = inner_->apply(resources);
    warnings_ = inner_->warnings();
    return result;
  }
  Result<void> update(const oci::Resources& resources) override {
    // The files first: they can be put back, and the unit follows only what the kernel took.
    auto result = inner_->update(resources);
    warnings_ = inner_->warnings();
    TRY(std::move(result));
    TRY_ASSIGN(Systemd systemd, Systemd::connect(user_));
    TRY_ASSIGN(const auto properties, limit_properties(resources, {v2_, systemd.version(), {}}));
    return systemd.set_properties(unit_, properties);
  }
  Result<void> add(pid_t pid) const override { return inner_->add(pid); }
  Result<void> add_init(pid_t pid) const override {
    TRY(inner_->add(pid));
    holder_.release();
    return {};
  }
  // As long as the holder keeps the scope, `add_init` has to be told who takes its place: with a pids
  // limit of one nobody could be cloned into it.
  int clone_fd() const noexcept override { return holder_.pid() != 0 ? -1 : inner_->clone_fd(); }
  Result<SelfJoin> self_join(pid_t init, const SubGroups& below) const override {
    if (holder_.pid() == 0) return inner_->self_join(init, below);
    return fail(Errc::kUnsupported, "a scope's first process has to be added");
  }
  Result<Stats> stats() const override { return inner_->stats(); }
  Result<void> freeze(Frozen frozen) override { return inner_->freeze(frozen); }
  Result<bool> is_frozen() const override { return inner_->is_frozen(); }
  Result<std::vector<pid_t>> pids() const override { return inner_->pids(); }
  Result<void> kill_all(int signal) override { return inner_->kill_all(signal); }
  Result<uint64_t> oom_kills() const override { return inner_->oom_kills(); }
  Result<UniqueFd> oom_watch() const override { return inner_->oom_watch(); }
  Result<void> remove() override {
    holder_.release();
    auto systemd = Systemd::connect(user_);
    Result<void> stopped;
    if (systemd) {
      stopped = systemd->stop(unit_);
    } else {
      stopped = std::unexpected(std::move(systemd).error());
    }
    // Whatever systemd says, the directories go: it leaves those that it did not make.
    TRY(inner_->remove());
    return stopped;
  }
  void record(oci::State& state) const override {
    inner_->record(state);
    state.systemd_unit = unit_;
  }
  std::map<std::string, std::string> paths() const override { return inner_->paths(); }
  Result<void> delegate(uint32_t uid) override { return inner_->delegate(uid); }

 private:
  std::string unit_;
  bool user_, v2_;
  std::unique_ptr<Cgroup> inner_;
  mutable Holder holder_;  // ends inside the const `add_init`
};

/// The properties that are the same for every container.
Result<std::vector<UnitProperty>> unit_properties(const std::string& id, const UnitPath& path,
                                                  const std::string& unit,
                                                  const oci::Resources& resources,
                                                  const Options& options,
                                                  const UnitTarget& target) {
  const bool slice = unit.ends_with(".slice");
  std::vector<UnitProperty> out{{"Description", "amphora container " + id}};
  if (slice) {
    out.push_back({"Wants", std::vector<std::string>{path.slice}});
  } else {
    out.push_back({"Slice", path.slice});
    out.push_back({"Delegate", true});
  }
  out.push_back({"CPUAccounting", true});
  out.push_back({"MemoryAccounting", true});
  out.push_back({"TasksAccounting", true});
  out.push_back({target.v2 ? "IOAccounting" : "BlockIOAccounting", true});
  out.push_back({"DefaultDependencies", false});
  if (options.annotations != nullptr) {
    TRY_ASSIGN(auto asked, annotated_properties(*options.annotations));
    for (NamedValue& property : asked) {
      out.push_back({std::move(property.name), std::move(property.value)});
    }
  }
  TRY_ASSIGN(auto limits, limit_properties(resources, target));
  out.insert(out.end(), limits.begin(), limits.end());
  return out;
}

Result<std::unique_ptr<Cgroup>> create_inner(const std::string& id, const std::string& path,
                                             const oci::Resources& resources,
                                             const setup::Host& host, const Options& options) {
  if (host.cgroup_mode == setup::CgroupMode::kUnified) {
    return create_v2({"", host.unified_mount, path}, resources, host, options, true);
  }
  return create_v1(id, path, resources, host, options, true);
}

}  // namespace

Result<std::unique_ptr<Cgroup>> create_systemd(const std::string& id, const oci::Linux& linux_,
                                               const setup::Host& host, const Options& options) {
  if (host.cgroup_mode == setup::CgroupMode::kNone) {
    return fail(Errc::kUnsupported, "cannot make a cgroup: no cgroup hierarchy is mounted here");
  }
  TRY_ASSIGN(const UnitPath path, parse_unit_path(linux_.cgroups_path, id, options.rootless));
  const std::string unit = unit_name(path);
  TRY(expand_slice(path.slice));
  const bool v2 = host.cgroup_mode == setup::CgroupMode::kUnified;
  TRY_ASSIGN(Systemd systemd, Systemd::connect(options.rootless));
  UnitTarget const target{v2, systemd.version(),
                          read_list("/proc", "devices").value_or(std::string())};
  TRY_ASSIGN(auto properties, unit_properties(id, path, unit, linux_.resources, options, target));
  if (!options.rootless && !host.in_user_namespace) {
    TRY_ASSIGN(auto devices, device_properties(linux_.resources.devices, target));
    properties.insert(properties.end(), devices.begin(), devices.end());
  }
  Holder holder;
  if (!unit.ends_with(".slice")) TRY(holder.start());
  TRY(systemd.start_transient(unit, properties, holder.pid()));
  auto place = systemd.control_group(unit);
  auto inner = place ? create_inner(id, *place, linux_.resources, host, options)
                     : Result<std::unique_ptr<Cgroup>>(std::unexpected(std::move(place).error()));
  if (!inner || *inner == nullptr) {
    holder.release();
    static_cast<void>(systemd.stop(unit));
    return inner;
  }
  return std::make_unique<SystemdCgroup>(unit, options.rootless, v2, std::move(*inner),
                                         std::move(holder));
}

std::unique_ptr<Cgroup> open_systemd(std::string unit, std::unique_ptr<Cgroup> inner,
                                     const setup::Host& host) {
  const bool user = host.euid != 0 || host.in_user_namespace;
  const bool v2 = host.cgroup_mode == setup::CgroupMode::kUnified;
  return std::make_unique<SystemdCgroup>(std::move(unit), user, v2, std::move(inner), Holder());
}

}  // namespace amphora::cgroup
