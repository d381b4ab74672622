// SPDX-License-Identifier: Apache-2.0
// The typed config.json of OCI runtime-spec 1.3 for Linux. Plain structs, one per object of the
// spec, in its words; absent members are empty or nullopt. Parsing (spec.cc) is the last place that
// sees JSON and refuses what is malformed; whether this host can honour it is setup's business.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::oci {

struct ConsoleSize {
  uint16_t height = 0, width = 0;
};
struct User {
  uint32_t uid = 0, gid = 0;
  std::optional<uint32_t> umask;
  std::vector<uint32_t> additional_gids;
};
struct Capabilities {  // names as in the spec: "CAP_CHOWN"
  std::vector<std::string> bounding, effective, inheritable, permitted, ambient;
};
struct Rlimit {
  std::string type;
  uint64_t soft = 0, hard = 0;
};
struct Scheduler {
  std::string policy;
  int32_t nice = 0, priority = 0;
  std::vector<std::string> flags;
  uint64_t runtime = 0, deadline = 0, period = 0;
};
struct IoPriority {
  std::string priority_class;
  int priority = 0;
};
struct ExecCpuAffinity {
  std::string initial, final;
};
struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;
  User user;
  std::vector<std::string> args, env;
  std::string cwd;
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile, selinux_label;
  std::optional<int> oom_score_adj;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::optional<ExecCpuAffinity> exec_cpu_affinity;
};

struct Root {
  std::string path;
  bool readonly = false;
};
struct IdMapping {
  uint32_t container_id = 0, host_id = 0, size = 0;
};
struct Mount {
  std::string destination, type, source;
  std::vector<std::string> options;
  std::vector<IdMapping> uid_mappings, gid_mappings;
};

struct Hook {
  std::string path;
  std::vector<std::string> args, env;
  std::optional<int> timeout;  // seconds, > 0
};
struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart,
      poststop;
};

enum class NamespaceKind : uint8_t { kPid, kNetwork, kMount, kIpc, kUts, kUser, kCgroup, kTime };
struct Namespace {
  NamespaceKind kind{};
  std::string path;
};  // empty path: a new one
struct TimeOffset {
  int64_t secs = 0;
  uint32_t nanosecs = 0;
};
struct Device {
  char type = 'c';  // c, u, b, p
  std::string path;
  int64_t major = 0, minor = 0;
  std::optional<uint32_t> file_mode, uid, gid;
};
struct NetDevice {
  std::string name;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';                      // a, c, b
  std::optional<int64_t> major, minor;  // nullopt: any
  std::string access;                   // letters of "rwm"
};
struct MemoryLimits {
  std::optional<int64_t> limit, reservation, swap, kernel, kernel_tcp;  // bytes, -1: unlimited
  std::optional<uint64_t> swappiness;
  std::optional<bool> disable_oom_killer, use_hierarchy, check_before_update;
};
struct CpuLimits {
  std::optional<uint64_t> shares, period, burst, realtime_period;
  std::optional<int64_t> quota, realtime_runtime, idle;
  std::string cpus, mems;
};
struct WeightDevice {
  int64_t major = 0, minor = 0;
  std::optional<uint16_t> weight, leaf_weight;
};
struct ThrottleDevice {
  int64_t major = 0, minor = 0;
  uint64_t rate = 0;
};
struct BlockIo {
  std::optional<uint16_t> weight, leaf_weight;
  std::vector<WeightDevice> weight_device;
  std::vector<ThrottleDevice> read_bps, write_bps, read_iops, write_iops;
};
struct HugepageLimit {
  std::string page_size;
  uint64_t limit = 0;
};
struct InterfacePriority {
  std::string name;
  uint32_t priority = 0;
};
struct NetworkLimits {
  std::optional<uint32_t> class_id;
  std::vector<InterfacePriority> priorities;
};
struct RdmaLimit {
  std::optional<uint32_t> hca_handles, hca_objects;
};
struct Resources {
  std::vector<DeviceRule> devices;
  std::optional<MemoryLimits> memory;
  std::optional<CpuLimits> cpu;
  std::optional<int64_t> pids_limit;
  std::optional<BlockIo> block_io;
  std::vector<HugepageLimit> hugepages;
  std::optional<NetworkLimits> network;
  std::map<std::string, RdmaLimit> rdma;
  std::map<std::string, std::string> unified;
};

struct SyscallArg {
  uint32_t index = 0;
  uint64_t value = 0, value_two = 0;
  std::string op;
};
struct SyscallRule {
  std::vector<std::string> names;
  std::string action;
  std::optional<uint32_t> errno_ret;
  std::vector<SyscallArg> args;
};
struct Seccomp {
  std::string default_action;
  std::optional<uint32_t> default_errno_ret;
  std::vector<std::string> architectures;
  std::optional<std::vector<std::string>> flags;
  std::string listener_path, listener_metadata;
  std::vector<SyscallRule> syscalls;
};
struct IntelRdt {
  std::string clos_id;
  std::vector<std::string> schemata;
  std::string l3_cache_schema, mem_bw_schema;
  bool enable_monitoring = false;
};
struct MemoryPolicy {
  std::string mode, nodes;
  std::vector<std::string> flags;
};
struct Personality {
  std::string domain;
  std::vector<std::string> flags;
};

struct Linux {
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::map<std::string, TimeOffset> time_offsets;
  std::vector<Device> devices;
  std::map<std::string, NetDevice> net_devices;
  std::string cgroups_path;
  Resources resources;
  std::map<std::string, std::string> sysctl;
  std::optional<Seccomp> seccomp;
  std::string rootfs_propagation;
  std::vector<std::string> masked_paths, readonly_paths;
  std::string mount_label;
  std::optional<IntelRdt> intel_rdt;
  std::optional<MemoryPolicy> memory_policy;
  std::optional<Personality> personality;
};

struct Spec {
  std::string oci_version;
  std::optional<Process> process;
  Root root;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  Linux linux_;

  /// The namespace entry of a kind, or null when the container shares the runtime's.
  const Namespace* find_namespace(NamespaceKind kind) const noexcept;
};

/// Reads and parses config.json in the bundle (at most 16 MiB). kInvalid names the member that is
/// wrong ("process.rlimits[2].type: ..."); unknown members are ignored, an unsupported ociVersion
/// (outside 1.0.0 to 1.3.x) is refused. `keep` as for read_record_at.
Result<Spec> load_spec(int bundle_fd, std::vector<UniqueFd>* keep = nullptr);
Result<Spec> parse_spec(std::string_view json);
/// An OCI Process object alone, as `exec` gets it.
Result<Process> parse_process(std::string_view json);
/// An OCI LinuxResources object alone, as `update` gets it.
Result<Resources> parse_resources(std::string_view json);
/// Only the annotations of a config.json, without building anything else (shim start path).
Result<std::map<std::string, std::string>> parse_annotations(std::string_view json);
struct Ids {
  uint32_t uid = 0, gid = 0;
};
enum class CgroupNamespace : bool { kNo, kYes };
/// The default bundle's config.json, as `amphora spec` writes it (tabs, no newline at the end, as
/// runc); `rootless`: one that this user can run, whose ids are all that is mapped; `cgroups`: with a
/// cgroup namespace, as runc's has it on a host of pure cgroup v2.
std::string default_spec_json(const std::optional<Ids>& rootless,
                              CgroupNamespace cgroups = CgroupNamespace::kNo);

}  // namespace amphora::oci
