// SPDX-License-Identifier: Apache-2.0
// The cgroup v1 driver. On a hybrid host the unified hierarchy is one more location under the same
// path: kill comes from there, and whatever controller that side owns.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/layout.h"

namespace amphora::cgroup {

class V1Cgroup : public Cgroup {
 public:
  V1Cgroup(std::vector<Location> locations, bool skip_devices, bool tolerant);

  Result<void> apply(const oci::Resources& resources) override;
  Result<void> update(const oci::Resources& resources) override;
  Result<void> add(pid_t pid) const override;
  int clone_fd() const noexcept override { return -1; }
  Result<SelfJoin> self_join(pid_t init, const SubGroups& below) const override;
  Result<Stats> stats() const override;
  Result<void> freeze(Frozen frozen) override;
  Result<bool> is_frozen() const override;
  Result<std::vector<pid_t>> pids() const override;
  Result<void> kill_all(int signal) override;
  Result<uint64_t> oom_kills() const override;
  Result<UniqueFd> oom_watch() const override;
  Result<void> remove() override;
  void record(oci::State& state) const override;
  std::map<std::string, std::string> paths() const override;
  Result<void> delegate(uint32_t) override { return {}; }

  /// The cgroup of a controller ("memory"), or null when the host or we have none.
  const Location* find(std::string_view controller) const noexcept;
  /// The unified side, or null.
  const Location* unified() const noexcept;
  /// The location whose process list speaks for all of them.
  const Location* main_location() const noexcept;

 private:
  Result<void> write_devices(const std::vector<oci::DeviceRule>& rules);

  std::vector<Location> locations_;
  bool skip_devices_;  // rootless or in a user namespace: the kernel refuses device rules there
  bool tolerant_;      // found again from a state: missing directories are no error
};

/// Makes the directories; on failure everything made is removed again. `in_unit`: systemd made some of
/// them and a process of ours is in there already.
Result<std::unique_ptr<Cgroup>> create_v1(const std::string& id, std::string_view cgroups_path,
                                          const oci::Resources& resources, const setup::Host& host,
                                          const Options& options, bool in_unit);

/// v1_limits.cc: writes every value in `resources` but the devices.
Result<void> write_v1_limits(const V1Cgroup& cgroup, const oci::Resources& resources,
                             Writer& writer, std::vector<std::string>& warnings);
/// cpuset.cc: gives empty cpuset.cpus and cpuset.mems of `made` levels (outermost first) and of their
/// ancestors the parent's, without which nothing can join.
Result<void> fill_cpuset(const std::string& mount, const std::string& path,
                         const std::vector<std::string>& made, const oci::Resources& resources);
/// freezer_v1.cc
Result<void> freeze_v1(const std::string& dir, bool frozen);
Result<bool> is_frozen_v1(const std::string& dir);
/// stats_v1.cc
Result<Stats> stats_v1(const V1Cgroup& cgroup);

}  // namespace amphora::cgroup
