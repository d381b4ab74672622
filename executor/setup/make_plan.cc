// SPDX-License-Identifier: Apache-2.0
// The order of everything, nothing else. Reasons for the order (docs/process-model.md has them in
// full): namespaces before mounts, mounts before hooks, hooks before pivot, every write to /proc and
// every mount before privileges go, seccomp last where no_new_privs allows it and before the
// capabilities go where it does not, the program looked up with the payload's own rights.
#include "executor/setup/make_plan.h"

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/attributes.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"
#include "executor/setup/seccomp.h"

namespace amphora::setup {
namespace {

using enum init::Op;
using oci::NamespaceKind;

Result<void> plan_seccomp(const PlanInput& in, Builder& b) {
  if (!in.spec.linux_.seccomp) return {};
  TRY_ASSIGN(const SeccompProgram program, compile_seccomp(*in.spec.linux_.seccomp));
  for (const std::string& warning : program.warnings) b.warn(warning);
  if (program.filters.empty()) return {};
  const uint32_t at = b.bytes(program.filters.data(), program.filters.size());
  init::Step& s = b.step(kSeccomp, "install the seccomp filter");
  s.a = at;
  s.n = program.count();
  s.m = program.flags;
  b.plan().parent.seccomp_listener_path = in.spec.linux_.seccomp->listener_path;
  b.plan().parent.seccomp_metadata = in.spec.linux_.seccomp->listener_metadata;
  return {};
}

/// The executor's own words and descriptors for the wasm host ride on the step at which it takes over.
void plan_handover(const PlanInput& in, Builder& b) {
  int32_t first = -1;
  for (size_t i = 0; i < in.exec.fds.size(); ++i) {
    Source source;
    source.kind = Source::Kind::kHandover;
    source.n = i;
    source.what = "hand-over";
    const int32_t fd = b.source(std::move(source));
    if (i == 0) first = fd;
  }
  const uint32_t at = b.bytes(in.exec.handover.data(), in.exec.handover.size());
  init::Step& s = b.step(kHandOver, "load the wasm guest");
  s.a = at;
  s.n = in.exec.handover.size();
  s.fd = first;
  s.m = in.exec.fds.size();
}

/// Before the labels, under which a wasm guest's process may not mount any more.
void plan_view(const PlanInput& in, Builder& b) {
  if (in.exec.covered.empty()) return;
  const int32_t proc = b.given(in.host.proc_fd.get(), "procfs");
  const uint32_t covered = b.list(in.exec.covered);
  const bool elsewhere = !in.process.cwd.empty() && in.process.cwd != "/";
  const uint32_t cwd = elsewhere ? b.text(in.process.cwd) : 0;
  init::Step& s = b.step(kView, "make the guest's view of the root");
  s.fd = proc;
  s.a = covered;
  s.b = cwd;
}

/// Whether closing is worth its calls before exec does it: when somebody waits or works in between, or
/// a limit on descriptors is about to meet those of the set-up.
bool needs_tidy(const PlanInput& in, bool is_exec) {
  const bool small = std::ranges::any_of(in.process.rlimits, [](const oci::Rlimit& limit) {
    return limit.type == "RLIMIT_NOFILE" && limit.soft < 256;
  });
  const bool creates_cwd = !in.process.cwd.empty() && in.process.cwd != "/";
  return in.start_socket >= 0 || !in.exec.handover.empty() || small || creates_cwd ||
         in.spec.linux_.seccomp.has_value() || (!is_exec && !in.spec.hooks.start_container.empty());
}

/// For exec alone, but a wrong one is create's error (as with runc).
Result<void> check_affinity(const oci::ExecCpuAffinity& cpus) {
  if (!cpus.initial.empty()) TRY(make_cpu_mask(cpus.initial, "process.execCPUAffinity.initial"));
  if (!cpus.final.empty()) TRY(make_cpu_mask(cpus.final, "process.execCPUAffinity.final"));
  return {};
}

/// What remains after the container stands: privileges, the program, the wait for start.
Result<void> plan_program(const PlanInput& in, Builder& b, bool is_exec) {
  const bool wasm = !in.exec.handover.empty();
  const bool late_filter = in.process.no_new_privileges;
  const bool forks =
      is_exec ? in.spec.find_namespace(NamespaceKind::kPid) != nullptr : joins_pid_late(in.spec);
  if (forks && !is_exec) plan_pid_join(in, b);
  // Before the limits: a small RLIMIT_NOFILE must not meet the descriptors of the set-up.
  if (forks || needs_tidy(in, is_exec)) {
    b.step(kTidy, "close what only the set-up needed").n =
        3 + static_cast<uint64_t>(in.preserve_fds);
  }
  if (forks) plan_fork(in, "enter the pid namespace", in.process.terminal, b);
  if (late_filter) b.step(kNoNewPrivs, "set no_new_privs");
  TRY(plan_limits(in, b));
  // The parent's share (cgroups, rlimits, its record) has gone on meanwhile; from here on it counts.
  const ParentWork& work = b.plan().parent;
  if (!is_exec || in.placed_by_parent || work.oom_score_adj || !work.rlimits.empty() ||
      in.parent_records) {
    b.step(kAwait, "wait for the parent").n = static_cast<uint64_t>(init::MessageKind::kProceed);
  }
  plan_descriptor_limit(in, b);
  // Marks them close-on-exec: before any filter, for older profiles know no close_range.
  b.step(kCloseFds, "close descriptors").n = 3 + static_cast<uint64_t>(in.preserve_fds);
  // Without no_new_privs a filter needs CAP_SYS_ADMIN, so it comes before the capabilities go.
  if (!late_filter) TRY(plan_seccomp(in, b));
  TRY(plan_credentials(in, b));
  if (wasm) {
    plan_handover(in, b);
  } else {
    const uint32_t candidates = b.list(in.exec.candidates);
    init::Step& s = b.step(kFindExe, "exec: \"" + in.exec.name + "\"");
    s.a = candidates;
    s.n = in.exec.first_is_file ? 1 : 0;
  }
  // A listener is for the creator, who is gone after kReady: such a filter comes before the wait.
  const bool notifies = in.spec.linux_.seccomp && !in.spec.linux_.seccomp->listener_path.empty();
  if (late_filter && notifies) TRY(plan_seccomp(in, b));
  plan_dumpable(in, b);
  b.step(kReady, "report that the container is ready");
  if (in.start_socket >= 0) {
    const int32_t fd = b.given(in.start_socket, "start socket");
    b.step(kAwaitStart, "wait for start").fd = fd;
  }
  // Hooks inside are the image's programs as much as what comes after them: filtered like it.
  if (late_filter && !notifies) TRY(plan_seccomp(in, b));
  if (!is_exec) plan_hooks(in.spec.hooks.start_container, "startContainer", in.exec.env, b);
  if (wasm) {
    b.step(kHandOver, "run the wasm guest");
    return {};
  }
  const uint32_t argv = b.table(in.exec.argv);
  const uint32_t env = b.table(in.exec.env);
  init::Step& s = b.step(kExec, "exec " + in.exec.name + in.exec.why_not);
  s.b = argv;
  s.c = env;
  return {};
}

/// Hooks before the root changes; createContainer's run inside and wait here too.
void plan_outer_hooks(const PlanInput& in, Builder& b) {
  const oci::Hooks& hooks = in.spec.hooks;
  if (!hooks.prestart.empty() || !hooks.create_runtime.empty() || !hooks.create_container.empty()) {
    b.plan().parent.runtime_hooks = true;
    b.step(kRendezvous, "wait for the runtime's hooks").n =
        static_cast<uint64_t>(init::Rendezvous::kRuntimeHooks);
  }
  if (hooks.create_container.empty()) return;
  if (in.spec.find_namespace(NamespaceKind::kMount) != nullptr) {
    // As with runc, whose hooks find the container's files by relative paths.
    const uint32_t root = b.text("/");
    init::Step& s = b.step(kEnterDir, "enter the rootfs");
    s.a = root;
    s.n = 1;
  }
  plan_hooks(hooks.create_container, "createContainer", {}, b);
}

}  // namespace

Result<Plan> make_plan(const PlanInput& in) {
  TRY(validate(in.spec));
  const bool own_mounts = in.spec.find_namespace(NamespaceKind::kMount) != nullptr;
  MountTable table;
  if (own_mounts) {
    TRY_ASSIGN(table, read_mounts(in.spec));
  }
  TRY(check_rootless(in, table));
  Builder b;
  plan_own_oom_score(in, b);
  plan_cgroups(in, b);
  // Not the caller's mask, which kernels keep over the change of cpuset (runc #3922).
  TRY(plan_affinity("", "", b));
  if (in.process.exec_cpu_affinity) TRY(check_affinity(*in.process.exec_cpu_affinity));
  TRY(plan_namespaces(in, b));
  if (own_mounts) {
    TRY(plan_rootfs(in, b));
    TRY_ASSIGN(const bool dev_is_kept, plan_mounts(in, table, b));
    plan_outer_hooks(in, b);
    TRY(plan_devices(in, table, dev_is_kept, b));
    plan_pivot(in, table, b);
  }
  if (!own_mounts) {
    if (in.process.terminal) b.step(kAttachRoot, "open the root");
    // As with runc: the host's mounts are not the container's to change.
    if (!in.spec.mounts.empty()) b.warn("mounts are ignored without a mount namespace");
    plan_outer_hooks(in, b);
  }
  plan_stdio(in, b, own_mounts, joins_pid_late(in.spec));
  if (own_mounts) {
    plan_late_mounts(in, table, b);
    plan_root_propagation(in, b);
  }
  plan_names(in, b);
  plan_view(in, b);
  TRY(plan_identity(in, b));
  TRY(plan_program(in, b, /*is_exec=*/false));
  return b.finish();
}

Result<Plan> make_exec_plan(const PlanInput& in, int init_pidfd) {
  TRY(check_rootless_exec(in));
  Builder b;
  plan_own_oom_score(in, b);
  const oci::ExecCpuAffinity cpus = in.process.exec_cpu_affinity.value_or(oci::ExecCpuAffinity());
  if (!cpus.initial.empty()) {
    TRY(plan_affinity(cpus.initial, "process.execCPUAffinity.initial", b));
  }
  plan_cgroups(in, b);
  TRY(plan_affinity(cpus.final, "process.execCPUAffinity.final", b));
  uint64_t flags = 0;
  // The pid namespace's takes effect at kFork.
  for (const oci::Namespace& ns : in.spec.linux_.namespaces) flags |= clone_flag(ns.kind);
  const int32_t fd = b.given(init_pidfd, "the container's init");
  if (flags != 0) {
    init::Step& s = b.step(kSetNamespace, "join the container's namespaces");
    s.fd = fd;
    s.n = flags;
  }
  if ((flags & CLONE_NEWUSER) != 0) b.step(kBecomeRoot, "become root of the user namespace");
  if ((flags & CLONE_NEWPID) == 0) b.step(kSession, "make a session");
  plan_keyring(in, b);
  // Only a terminal and a directory to be made are looked up below it.
  if (in.process.terminal || !in.exec.handover.empty() ||
      (!in.process.cwd.empty() && in.process.cwd != "/")) {
    b.step(kAttachRoot, "open the container's root");
  }
  plan_stdio(in, b, /*console_node=*/false, (flags & CLONE_NEWPID) != 0);
  plan_view(in, b);
  TRY(plan_identity(in, b));
  TRY(plan_program(in, b, /*is_exec=*/true));
  return b.finish();
}

}  // namespace amphora::setup
