// SPDX-License-Identifier: Apache-2.0
// From spec to plan: the one place that knows the order in which a container is made, native or wasm,
// and the parts it is put together from. Pure, given the Host: nothing is opened, nothing is changed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "executor/base/error.h"
#include "executor/oci/spec.h"
#include "executor/setup/exec_plan.h"
#include "executor/setup/host.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"

namespace amphora::setup {

/// Everything planning needs to know about one process, by reference: values live with the caller.
struct PlanInput {
  const std::string& id;
  const oci::Spec& spec;
  const oci::Process& process;  ///< init's, or the one to exec
  const Host& host;
  const ExecPlan& exec;
  const std::string& rootfs;  ///< absolute path on the host
  /// The container's own cgroup below each hierarchy's mount, by controllers ("" = unified).
  const std::map<std::string, std::string>& cgroup_paths;
  /// Tasks files of v1 hierarchies (borrowed), which the child enters by itself.
  std::span<const UniqueFd> cgroup_tasks = {};
  bool placed_by_parent = false;  ///< the parent places the child instead (a new systemd scope)
  int stdio[3] = {-1, -1, -1};    ///< borrowed; -1: the caller's own
  int start_socket = -1;          ///< borrowed listener; -1: no waiting for start
  int preserve_fds = 0;
  bool no_pivot = false;
  std::span<const std::string> kernel_mounts = {};  ///< without a pivot: see setup::kernel_mounts
  bool no_new_keyring = false;
  bool parent_records = false;  ///< exec: the parent writes down the pid before the program may run
};

/// The plan of a container's init.
Result<Plan> make_plan(const PlanInput& input);
/// The plan of a further process: joins the namespaces of the container whose init is `init_pidfd`
/// (borrowed) instead of making new ones, and mounts nothing.
Result<Plan> make_exec_plan(const PlanInput& input, int init_pidfd);

/// What is wrong with a spec on any host: namespaces that other members need, names, paths. The first
/// error names the member.
Result<void> validate(const oci::Spec& spec);

/// The namespace that a sysctl belongs to; none: it is the whole host's.
std::optional<oci::NamespaceKind> sysctl_namespace(const std::string& key);

/// Whether the container has a new namespace of this kind (an entry without a path).
bool has_new(const oci::Spec& spec, oci::NamespaceKind kind) noexcept;
/// A pid namespace is joined when the container's root and mounts stand (kFork); before clone3, by the
/// launcher, only where a new user namespace takes the right to join one away.
bool joins_pid_late(const oci::Spec& spec) noexcept;
/// A new pid namespace in a joined user namespace, which must own it: its first process is forked as
/// soon as both are there.
bool makes_pid_late(const oci::Spec& spec) noexcept;
/// The descriptor of the namespace that `ns` joins, one for all steps that name it.
int32_t joined_namespace(const oci::Namespace& ns, Builder& b);
/// CLONE_NEW* of a kind; "pid" and so on for messages.
uint64_t clone_flag(oci::NamespaceKind kind) noexcept;
const char* to_string(oci::NamespaceKind kind) noexcept;

/// What the spec asks and a caller who is not root cannot have (rootless.cc).
Result<void> check_rootless(const PlanInput& in, const MountTable& table);
Result<void> check_rootless_exec(const PlanInput& in);
/// oom_score_adj by the process itself, where its parent may not write it; before anything else.
void plan_own_oom_score(const PlanInput& in, Builder& b);  // rootless.cc
/// Lets an unprivileged caller find its container again.
void plan_dumpable(const PlanInput& in, Builder& b);  // rootless.cc
/// A write to a file of procfs, by our own handle.
void plan_write(const PlanInput& in, Builder& b, const std::string& what, const std::string& file,
                const std::string& value);  // process.cc

/// Joins a session keyring of the container's own (unless PlanInput::no_new_keyring).
void plan_keyring(const PlanInput& in, Builder& b);  // process.cc

// ---- The parts, in the order in which make_plan calls them. Each appends its steps.
void plan_cgroups(const PlanInput& in, Builder& b);  // namespaces.cc
/// CPUs that a process may use: `list`, or every one of its cpuset when that is empty.
Result<void> plan_affinity(const std::string& list, const char* noun, Builder& b);  // process.cc
Result<void> plan_namespaces(const PlanInput& in, Builder& b);                      // namespaces.cc
void plan_pid_join(const PlanInput& in, Builder& b);
/// Goes on in a child, which the pid namespace takes in.
/// `has_terminal`: stdin is the terminal already, and the child's session is to control it.
void plan_fork(const PlanInput& in, const char* what, bool has_terminal,
               Builder& b);  // namespaces.cc
/// Adds a tree (kTree, kNull, kEmpty) to the plan: the parent's to open, or the child's where the host
/// does not let the parent (Host::may_mount).
int32_t plan_tree(const PlanInput& in, Source&& source, Builder& b);  // trees.cc
/// The same for a bind's source, which earlier steps may make: then it is opened by the child, below the
/// container's root.
int32_t plan_bind_source(const PlanInput& in, const MountTable& table, const PlannedMount& planned,
                         Source&& source, Builder& b);      // trees.cc
Result<void> plan_rootfs(const PlanInput& in, Builder& b);  // mounts.cc
/// True: a descriptor of /dev stays in the child (init::kKeep), with nothing over it since.
Result<bool> plan_mounts(const PlanInput& in, const MountTable& table, Builder& b);  // mounts.cc
Result<void> plan_cgroup_mount(const PlanInput& in, const PlannedMount& planned, bool on_bind,
                               Builder& b);  // cgroup_mount.cc
/// `dev_is_kept`: what plan_mounts answered.
Result<void> plan_devices(const PlanInput& in, const MountTable& table, bool dev_is_kept,
                          Builder& b);  // devices.cc
// masked_paths.cc: in a new /proc, and all others
void plan_proc_paths(const PlanInput& in, const MountTable& table, Builder& b);
void plan_other_paths(const PlanInput& in, const MountTable& table, Builder& b);
void plan_pivot(const PlanInput& in, const MountTable& table, Builder& b);        // mounts.cc
void plan_late_mounts(const PlanInput& in, const MountTable& table, Builder& b);  // mounts.cc
/// Of a shared root, which would refuse the pivot, or an unbindable one, whose masks could not be bound: after all mounts.
void plan_root_propagation(const PlanInput& in, Builder& b);  // mounts.cc
void plan_names(const PlanInput& in, Builder& b);             // process.cc: hostname, sysctls
Result<void> plan_identity(const PlanInput& in, Builder& b);  // process.cc: labels, umask
Result<void> plan_limits(const PlanInput& in, Builder& b);    // process.cc: rlimits, oom, scheduler
/// In a user namespace the one limit that the parent only raises: after the wait for it.
void plan_descriptor_limit(const PlanInput& in, Builder& b);
Result<void> plan_credentials(const PlanInput& in, Builder& b);  // process.cc: caps, ids, cwd
void plan_stdio(const PlanInput& in, Builder& b, bool console_node, bool forks);  // process.cc
/// `env` is of those hooks that have none of their own.
void plan_hooks(const std::vector<oci::Hook>& hooks, const char* kind,
                const std::vector<std::string>& env, Builder& b);  // process.cc

}  // namespace amphora::setup
