// SPDX-License-Identifier: Apache-2.0
// Namespaces: which ones clone3 makes, which are joined by the child, in what order, and what each
// needs right after (id maps, time offsets, loopback, a session). Also the checks on the spec that
// are about namespaces.
#include <sched.h>
#include <sys/mount.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/plan.h"

namespace amphora::setup {
namespace {

using enum init::Op;
using oci::NamespaceKind;

struct KindName {
  NamespaceKind kind;
  uint64_t flag;
  const char* name;
};
constexpr KindName kKinds[] = {
    {NamespaceKind::kPid, CLONE_NEWPID, "pid"},
    {NamespaceKind::kNetwork, CLONE_NEWNET, "network"},
    {NamespaceKind::kMount, CLONE_NEWNS, "mount"},
    {NamespaceKind::kIpc, CLONE_NEWIPC, "ipc"},
    {NamespaceKind::kUts, CLONE_NEWUTS, "uts"},
    {NamespaceKind::kUser, CLONE_NEWUSER, "user"},
    {NamespaceKind::kCgroup, CLONE_NEWCGROUP, "cgroup"},
    {NamespaceKind::kTime, 0x80, "time"},
};

void plan_join(const oci::Namespace& ns, Builder& b) {
  const int32_t fd = joined_namespace(ns, b);
  init::Step& s =
      b.step(kSetNamespace, std::string("join ") + to_string(ns.kind) + " namespace " + ns.path);
  s.fd = fd;
  s.n = clone_flag(ns.kind);
}

/// A joined user namespace comes after the other joins, which the host's root may do, and before what
/// the container makes itself, which must belong to it.
void plan_joined_user(const PlanInput& in, Builder& b, uint64_t made_later) {
  const oci::Namespace& user = *in.spec.find_namespace(NamespaceKind::kUser);
  plan_join(user, b);
  // Mappings beside a path say what is expected there, no more.
  b.plan().sources[static_cast<size_t>(joined_namespace(user, b))].maps = {
      in.spec.linux_.uid_mappings, in.spec.linux_.gid_mappings};
  b.step(kBecomeRoot, "become root of the user namespace");
  if (made_later != 0) b.step(kUnshare, "make the container's namespaces").n = made_later;
}

void plan_time(const PlanInput& in, Builder& b) {
  b.step(kUnshare, "make a time namespace").n = clone_flag(NamespaceKind::kTime);
  if (!in.spec.linux_.time_offsets.empty()) {
    b.plan().parent.time_offsets = in.spec.linux_.time_offsets;
    init::Step& s = b.step(kRendezvous, "wait for time offsets");
    s.n = static_cast<uint64_t>(init::Rendezvous::kTimeOffsets);
    s.m = in.host.euid != 0 ? 1 : 0;
  }
  const int32_t fd = b.given(in.host.proc_fd.get(), "procfs");
  b.step(kEnterTimeNamespace, "enter the time namespace").fd = fd;
}

/// A cgroup namespace takes the cgroups of this moment for its roots, so it comes after the join; by
/// clone3 it would take the parent's.
void plan_cgroup_namespace(const PlanInput& in, Builder& b) {
  if (in.placed_by_parent) {
    b.step(kAwait, "wait to be placed in the cgroup").n =
        static_cast<uint64_t>(init::MessageKind::kProceed);
  }
  b.step(kUnshare, "make a cgroup namespace").n = CLONE_NEWCGROUP;
}

/// Kinds that clone3 cannot make in one go with the rest.
constexpr uint64_t kNotByClone = CLONE_NEWCGROUP | 0x80 /* CLONE_NEWTIME */;

}  // namespace

bool has_new(const oci::Spec& spec, NamespaceKind kind) noexcept {
  const oci::Namespace* ns = spec.find_namespace(kind);
  return ns != nullptr && ns->path.empty();
}

uint64_t clone_flag(NamespaceKind kind) noexcept {
  for (const KindName& entry : kKinds) {
    if (entry.kind == kind) return entry.flag;
  }
  return 0;
}

const char* to_string(NamespaceKind kind) noexcept {
  for (const KindName& entry : kKinds) {
    if (entry.kind == kind) return entry.name;
  }
  return "unknown";
}

bool makes_pid_late(const oci::Spec& spec) noexcept {
  const oci::Namespace* user = spec.find_namespace(NamespaceKind::kUser);
  return user != nullptr && !user->path.empty() && has_new(spec, NamespaceKind::kPid);
}

int32_t joined_namespace(const oci::Namespace& ns, Builder& b) {
  Source source;
  source.kind = Source::Kind::kNamespace;
  source.path = ns.path;
  source.what = std::string("namespace ") + to_string(ns.kind);
  source.n = clone_flag(ns.kind);
  return b.source(std::move(source));
}

void plan_pid_join(const PlanInput& in, Builder& b) {
  const oci::Namespace* user = in.spec.find_namespace(NamespaceKind::kUser);
  if (user == nullptr) plan_join(*in.spec.find_namespace(NamespaceKind::kPid), b);
}

bool joins_pid_late(const oci::Spec& spec) noexcept {
  const oci::Namespace* pid = spec.find_namespace(NamespaceKind::kPid);
  return pid != nullptr && !pid->path.empty() && !has_new(spec, NamespaceKind::kUser);
}

void plan_fork(const PlanInput& in, const char* what, bool has_terminal, Builder& b) {
  if (in.placed_by_parent) {
    // By its pid: one that goes on in a child is placed before.
    b.step(kAwait, "wait to be placed in the cgroup").n =
        static_cast<uint64_t>(init::MessageKind::kProceed);
  }
  b.step(kFork, what).n = has_terminal ? 1 : 0;
}

/// First of all, so that nothing of the container runs outside its cgroup.
void plan_cgroups(const PlanInput& in, Builder& b) {
  for (const UniqueFd& tasks : in.cgroup_tasks) {
    const int32_t fd = b.given(tasks.get(), "cgroup tasks");
    b.step(kJoinCgroup, "join the container's cgroup").fd = fd;
  }
}

Result<void> plan_namespaces(const PlanInput& in, Builder& b) {
  Plan& plan = b.plan();
  uint64_t made = 0;
  for (const oci::Namespace& ns : in.spec.linux_.namespaces) {
    if (ns.path.empty()) made |= clone_flag(ns.kind);
  }
  const oci::Namespace* user = in.spec.find_namespace(NamespaceKind::kUser);
  const oci::Namespace* pid = in.spec.find_namespace(NamespaceKind::kPid);
  const bool joins_user = user != nullptr && !user->path.empty();
  uint64_t made_later = 0;
  if (joins_user) {
    made_later = made & ~kNotByClone;
  } else {
    plan.clone_flags = made & ~kNotByClone;
  }
  if (pid != nullptr && !pid->path.empty() && !joins_pid_late(in.spec)) {
    plan.pid_namespace = pid->path;
  }
  plan.parent.own_pid_namespace = has_new(in.spec, NamespaceKind::kPid);
  if (has_new(in.spec, NamespaceKind::kUser)) {
    plan.parent.uid_mappings = in.spec.linux_.uid_mappings;
    plan.parent.gid_mappings = in.spec.linux_.gid_mappings;
    init::Step& s = b.step(kRendezvous, "wait for id maps");
    s.n = static_cast<uint64_t>(init::Rendezvous::kIdMaps);
    s.m = in.host.euid != 0 ? 1 : 0;
    b.step(kBecomeRoot, "become root of the user namespace");
  }
  for (const oci::Namespace& ns : in.spec.linux_.namespaces) {
    if (ns.path.empty() || ns.kind == NamespaceKind::kPid || ns.kind == NamespaceKind::kUser)
      continue;
    plan_join(ns, b);
  }
  if (joins_user) {
    // With the rights that are left behind here; only kFork's child enters.
    if (joins_pid_late(in.spec)) plan_join(*pid, b);
    plan_joined_user(in, b, made_later);
    // A pid namespace takes effect for children only. Nobody is in this one yet who could look.
    if (makes_pid_late(in.spec)) plan_fork(in, "become the first of the pid namespace", false, b);
  }
  if (!joins_pid_late(in.spec) && !makes_pid_late(in.spec)) b.step(kSession, "make a session");
  plan_keyring(in, b);
  if (has_new(in.spec, NamespaceKind::kTime)) plan_time(in, b);
  if (has_new(in.spec, NamespaceKind::kNetwork))
    b.step(kLoopbackUp, "bring up the loopback device");
  if (!in.spec.linux_.net_devices.empty()) {
    plan.parent.net_devices = in.spec.linux_.net_devices;
    b.step(kRendezvous, "wait for network devices").n =
        static_cast<uint64_t>(init::Rendezvous::kNetDevices);
  }
  if ((made & CLONE_NEWCGROUP) != 0) plan_cgroup_namespace(in, b);
  return {};
}

}  // namespace amphora::setup
