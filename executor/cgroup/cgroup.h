// SPDX-License-Identifier: Apache-2.0
// A container's cgroup, whichever driver and version manage it: v1 (and hybrid, where hugetlb and
// kill are on the unified side), v2, and systemd on top of either. Paths are opened beneath the
// hierarchy's mount by descriptor. Not here: deciding limits (the spec does), stats as protobuf
// (shim/), device nodes (setup/devices).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/setup/host.h"

namespace amphora::cgroup {

enum class Frozen : bool { kNo = false, kYes = true };

// ---- Stats: numbers as the files give them; nullopt = the controller is absent. "max" is UINT64_MAX.
struct PidsStats {
  uint64_t current = 0, limit = 0;
};
struct CpuStats {  // nanoseconds, whatever the version
  uint64_t usage = 0, user = 0, system = 0;
  std::vector<uint64_t> per_cpu, per_cpu_kernel, per_cpu_user;  // v1 only
  uint64_t periods = 0, throttled_periods = 0, throttled_time = 0, bursts = 0, burst_time = 0;
};
struct CpusetStats {
  std::vector<uint16_t> cpus,
      mems;  // one by one, as in "0-2,5"; what is effective where the own is empty
  std::map<std::string, int64_t> flags;  // v1: the other files, by their names without "cpuset."
};
struct MemoryEntry {
  uint64_t usage = 0, limit = 0, max = 0, failcnt = 0;
};
struct MemoryStats {
  MemoryEntry usage, swap, kernel, kernel_tcp;  // v2: usage and swap only
  std::map<std::string, uint64_t> stat;         // memory.stat, key as in the file
  bool oom_kill_disable = false, under_oom = false;
};
struct OomEvents {
  uint64_t low = 0, high = 0, max = 0, oom = 0, oom_kill = 0, oom_group_kill = 0;
};
struct IoEntry {
  uint64_t major = 0, minor = 0;
  std::string op;
  uint64_t value = 0;
};
struct IoStats {  // v1: lists by file; v2: service_bytes/serviced with op rbytes,wbytes,rios,wios
  std::vector<IoEntry> service_bytes, serviced, queued, service_time, wait_time, merged, time,
      sectors;
};
struct HugetlbStats {
  std::string page_size;
  uint64_t usage = 0, max = 0, failcnt = 0;
};
struct PressureLine {
  double avg10 = 0, avg60 = 0, avg300 = 0;
  uint64_t total = 0;
};
struct Pressure {
  PressureLine some, full;
};
struct RdmaEntry {
  std::string device;
  uint32_t handles = 0, objects = 0;
};
/// Intel RDT, of resctrl; empty texts and nullopt: this processor has none of it.
struct RdtStats {
  struct CacheInfo {
    std::string cbm_mask;
    uint64_t min_cbm_bits = 0, num_closids = 0;
  };
  struct BandwidthInfo {
    uint64_t bandwidth_gran = 0, delay_linear = 0, min_bandwidth = 0, num_closids = 0;
  };
  struct Traffic {  ///< bytes
    uint64_t total = 0, local = 0;
  };
  std::optional<CacheInfo> cache;
  std::optional<BandwidthInfo> bandwidth;
  std::string l3_root, l3, mb_root, mb;  ///< lines of the schemata: everybody's and the container's
  std::optional<std::vector<Traffic>> traffic;     ///< by NUMA node
  std::optional<std::vector<uint64_t>> occupancy;  ///< bytes of the last level cache, likewise
};
struct Stats {
  bool v2 = false;
  std::optional<PidsStats> pids;
  std::optional<CpuStats> cpu;
  std::optional<CpusetStats> cpuset;
  std::optional<MemoryStats> memory;
  std::optional<OomEvents> oom;
  std::optional<IoStats> io;
  std::vector<HugetlbStats> hugetlb;
  std::optional<Pressure> cpu_pressure, memory_pressure, io_pressure;
  std::vector<RdmaEntry> rdma_current, rdma_limit;
  std::optional<RdtStats>
      rdt;  ///< of a container that has a class of service or a monitoring group
};

/// What a child needs to enter the cgroup on its own, without the wait that the kernel imposes on
/// whoever moves another process (one RCU grace period, milliseconds): clone it with
/// CLONE_INTO_CGROUP into `clone_into` if that is set, and let it, while it has a single thread and
/// before it does anything else, write "0" to each of `tasks`. Then `add` is not needed.
struct SelfJoin {
  UniqueFd clone_into;          ///< unified hierarchy (v2, or the unified side of a hybrid host)
  std::vector<UniqueFd> tasks;  ///< v1 hierarchies; empty on v2
};

/// Cgroups beneath the container's by controller; "" speaks for all of them.
using SubGroups = std::map<std::string, std::string>;

/// The cgroup of one container. Not for use from two threads at once.
class Cgroup {
 public:
  virtual ~Cgroup() = default;
  /// Writes the limits (create: before the first process). Values absent in `resources` stay.
  virtual Result<void> apply(const oci::Resources& resources) = 0;
  /// `update`: like apply, but rolls everything back when one write fails; devices untouched.
  virtual Result<void> update(const oci::Resources& resources) = 0;
  /// Places a process in every hierarchy.
  virtual Result<void> add(pid_t pid) const = 0;
  /// The same for the process the cgroup is for, where it cannot enter by itself (see self_join): others
  /// may come and go before it, the compiler of a module for one.
  virtual Result<void> add_init(pid_t pid) const { return add(pid); }
  /// v2: directory descriptor for CLONE_INTO_CGROUP; -1 elsewhere (then `add_init` is needed).
  virtual int clone_fd() const noexcept = 0;
  /// See SelfJoin. Made anew by each call. `init`: who runs in it already, 0 if nobody: once a v2 container
  /// made children with controllers, its own cgroup takes no process, and who comes later joins init's.
  /// `below`: existing cgroups beneath the container's to join instead.
  virtual Result<SelfJoin> self_join(pid_t init, const SubGroups& below) const = 0;
  virtual Result<Stats> stats() const = 0;
  /// Freezes or thaws and waits until the kernel says so.
  virtual Result<void> freeze(Frozen frozen) = 0;
  virtual Result<bool> is_frozen() const = 0;
  /// Every pid in it and below, in our pid namespace.
  virtual Result<std::vector<pid_t>> pids() const = 0;
  /// SIGKILL (or `signal`) to every process in it and below; thaws if needed, waits until empty
  /// (bounded) when the signal is SIGKILL.
  virtual Result<void> kill_all(int signal) = 0;
  /// Number of OOM kills so far in it and below. ENOENT or ENODEV: it has been removed.
  virtual Result<uint64_t> oom_kills() const = 0;
  /// A descriptor that becomes readable (v1 eventfd: POLLIN; v2 inotify: POLLIN) when oom_kills may
  /// have changed. The caller reads it empty and asks oom_kills; on v1 it fires just before the kill,
  /// so a count that has not moved is asked again some milliseconds later, and v1 fires once more
  /// when the cgroup is removed. Absent controller: kUnsupported.
  virtual Result<UniqueFd> oom_watch() const = 0;
  /// Removes it, deepest first, retrying EBUSY (bounded). Missing is no error.
  virtual Result<void> remove() = 0;
  /// What state.json needs to find it again.
  virtual void record(oci::State& state) const = 0;
  /// Path below the mount for messages and for mounts of type cgroup, by controllers ("" = unified).
  virtual std::map<std::string, std::string> paths() const = 0;
  /// v2: gives the directory and the files of /sys/kernel/cgroup/delegate to `uid` (a host uid). Only
  /// for a container with its own cgroup namespace and a writable cgroup mount. v1: does nothing, as
  /// v1 has no safe delegation.
  virtual Result<void> delegate(uint32_t uid) = 0;
  /// Values that apply or update left out, in words; not errors (ignored by all runtimes).
  const std::vector<std::string>& warnings() const noexcept { return warnings_; }

 protected:
  std::vector<std::string> warnings_;
};

struct Options {
  bool systemd = false;   ///< --systemd-cgroup, runtime option, or cgroupsPath with two colons
  bool rootless = false;  ///< no cgroup rights: acceptable only without limits and without a path
  /// The spec's, for org.systemd.property.NAME (systemd driver only); null: none.
  const std::map<std::string, std::string>* annotations = nullptr;
};

/// Creates the container's cgroup (fails with kExists-like text when it holds processes already, as
/// runc: "container's cgroup is not empty"). Null Cgroup only when the host has no cgroups at all and
/// nothing was asked, or rootless without rights and nothing was asked.
Result<std::unique_ptr<Cgroup>> create(const std::string& id, const oci::Linux& linux_,
                                       const setup::Host& host, const Options& options);
/// Records where `create` will make it, for who has to clean up when the creator dies in between.
/// kInvalid: a cgroupsPath that names no place.
Result<void> record_intent(const std::string& id, const oci::Linux& linux_, const setup::Host& host,
                           const Options& options, oci::State& state);
/// Finds it again from the state; missing directories are tolerated (remove stays possible).
Result<std::unique_ptr<Cgroup>> open(const oci::State& state, const setup::Host& host);

}  // namespace amphora::cgroup
