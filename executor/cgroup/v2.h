// SPDX-License-Identifier: Apache-2.0
// The cgroup v2 driver. What any directory of the unified hierarchy can do is in unified.h; here is
// what makes one a container's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/layout.h"

namespace amphora::cgroup {

class V2Cgroup : public Cgroup {
 public:
  struct Origin {
    bool fresh = false;         ///< the directory was made by us just now
    bool skip_devices = false;  ///< rootless or in a user namespace: bpf(2) is refused there
    std::string not_enabled;    ///< why a controller could not be given to it, empty if all could
  };
  V2Cgroup(Location location, UniqueFd dir_fd, Origin origin);

  Result<void> apply(const oci::Resources& resources) override;
  Result<void> update(const oci::Resources& resources) override;
  Result<void> add(pid_t pid) const override;
  int clone_fd() const noexcept override { return dir_fd_.get(); }
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
  Result<void> delegate(uint32_t uid) override;

 private:
  enum class Where : bool { kBelow, kAnywhere };
  Result<std::string> directory_of(pid_t pid, Where where) const;
  Result<void> write_devices(const std::vector<oci::DeviceRule>& rules);

  Location location_;
  UniqueFd dir_fd_;  // empty when the directory is gone
  Origin origin_;
};

/// Makes the directory and gives it every controller of the host. `in_unit`: systemd made it and a
/// process of ours is in it already.
Result<std::unique_ptr<Cgroup>> create_v2(Location location, const oci::Resources& resources,
                                          const setup::Host& host, const Options& options,
                                          bool in_unit);
/// Finds it again; a missing directory is no error.
std::unique_ptr<Cgroup> open_v2(Location location, const setup::Host& host);

/// v2_limits.cc: writes every value in `resources` but the devices. `not_enabled` explains a missing
/// controller better than "not available".
Result<void> write_v2_limits(const std::string& dir, const oci::Resources& resources,
                             std::string_view not_enabled, Writer& writer,
                             std::vector<std::string>& warnings);
/// True when a controller is asked for that cannot be used in a threaded cgroup.
bool wants_domain_controllers(const oci::Resources& resources);

}  // namespace amphora::cgroup
