// SPDX-License-Identifier: Apache-2.0
// The process itself as steps: names and labels, sysctls, limits, stdio, hooks inside, credentials and
// working directory. Masks and numbers are made here, so that the child only hands them on.
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/attributes.h"
#include "executor/setup/caps.h"
#include "executor/setup/host.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/plan.h"

namespace amphora::setup {
namespace {

using enum init::Op;

bool has_selinux(const Host& host) { return host.selinux ? *host.selinux : selinux_enabled(); }

std::string sysctl_path(const std::string& key) {
  std::string path = "sys/" + key;
  // sysctl(8): the first separator decides whether dots or slashes part the names.
  const bool dots = key.find('.') < key.find('/');
  if (dots) {
    for (size_t i = 4; i < path.size(); ++i) {
      if (path[i] == '.') {
        path[i] = '/';
      } else if (path[i] == '/') {
        path[i] = '.';
      }
    }
  }
  return path;
}

/// A native program's label waits for its exec. A wasm guest is never exec'd: its process changes its own
/// label, so the steps that follow are under it already.
Result<void> plan_labels(const PlanInput& in, Builder& b) {
  const oci::Process& process = in.process;
  const bool wasm = !in.exec.handover.empty();
  if (!process.apparmor_profile.empty() && process.apparmor_profile != "unconfined") {
    if (!(in.host.apparmor ? *in.host.apparmor : apparmor_enabled())) {
      return fail(Errc::kUnsupported, "process.apparmorProfile " + process.apparmor_profile +
                                          ": AppArmor is not enabled on this host");
    }
    plan_write(in, b, "set AppArmor profile " + process.apparmor_profile,
               wasm ? "self/attr/apparmor/current" : "self/attr/apparmor/exec",
               (wasm ? "changeprofile " : "exec ") + process.apparmor_profile);
  }
  if (!in.spec.linux_.mount_label.empty() && !has_selinux(in.host)) {
    return fail(Errc::kUnsupported, "linux.mountLabel " + in.spec.linux_.mount_label +
                                        ": SELinux is not enabled on this host");
  }
  if (!process.selinux_label.empty()) {
    if (!has_selinux(in.host)) {
      return fail(Errc::kUnsupported, "process.selinuxLabel " + process.selinux_label +
                                          ": SELinux is not enabled on this host");
    }
    plan_write(in, b, "set SELinux label " + process.selinux_label,
               wasm ? "self/attr/current" : "self/attr/exec", process.selinux_label);
  }
  return {};
}

void plan_chdir(const PlanInput& in, Builder& b, bool last, bool at_root) {
  const std::string cwd = in.process.cwd.empty() ? "/" : in.process.cwd;
  if (at_root && cwd == "/") return;  // the pivot left us there
  const uint32_t path = b.text(cwd);
  init::Step& s = b.step(kChdir, "chdir to cwd " + cwd);
  s.a = path;
  s.n = last ? 0 : 1;
  s.flags = last ? 0 : init::kCreate;
}

void plan_ids(const PlanInput& in, Builder& b) {
  const oci::User& user = in.process.user;
  const uint32_t groups =
      b.bytes(user.additional_gids.data(), user.additional_gids.size() * sizeof(uint32_t));
  init::Step& s = b.step(kSetGroups, "set supplementary groups");
  s.a = groups;
  s.n = user.additional_gids.size();
  // In a user namespace setgroups may be denied; without groups to set that is no failure.
  const bool in_userns =
      in.host.in_user_namespace || in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr;
  if (user.additional_gids.empty() && in_userns) s.flags = init::kTolerate;
  // Root of a user namespace (kBecomeRoot) and who was called with no id but root's has these already.
  const bool is_root =
      !in.host.other_ids || in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr;
  if (user.gid != 0 || !is_root)
    b.step(kSetGid, "set gid " + std::to_string(user.gid)).n = user.gid;
  if (user.uid != 0 || !is_root)
    b.step(kSetUid, "set uid " + std::to_string(user.uid)).n = user.uid;
}

Result<void> plan_execution(const PlanInput& in, Builder& b) {
  const oci::Process& process = in.process;
  if (process.scheduler) {
    TRY_ASSIGN(const std::string attr, make_scheduler(*process.scheduler));
    const uint32_t at = b.bytes(attr.data(), attr.size());
    // The kernel gives SCHED_DEADLINE to those who may use every CPU.
    const oci::Resources& resources = in.spec.linux_.resources;
    const bool pinned = resources.cpu && !resources.cpu->cpus.empty();
    init::Step& s = b.step(kScheduler, "set scheduler " + process.scheduler->policy +
                                           (pinned ? " (process scheduler can't be used together "
                                                     "with AllowedCPUs: linux.resources.cpu.cpus)"
                                                   : ""));
    s.a = at;
    s.n = attr.size();
  }
  if (process.io_priority) {
    TRY_ASSIGN(const uint64_t value, make_io_priority(*process.io_priority));
    b.step(kIoPriority, "set io priority").n = value;
  }
  if (in.spec.linux_.personality) {
    TRY_ASSIGN(const PersonalityValue value, make_personality(*in.spec.linux_.personality));
    for (const std::string& warning : value.warnings) b.warn(warning);
    b.step(kPersonality, "set personality").n = value.value;
  }
  if (in.spec.linux_.memory_policy) {
    TRY_ASSIGN(const MemoryPolicyValue policy, make_memory_policy(*in.spec.linux_.memory_policy));
    const uint32_t mask = b.bytes(policy.mask.data(), policy.mask.size());
    init::Step& s = b.step(kMemoryPolicy, "set memory policy");
    s.a = mask;
    s.n = policy.mode;
    s.m = policy.bits;
  }
  return {};
}

}  // namespace

void plan_write(const PlanInput& in, Builder& b, const std::string& what, const std::string& file,
                const std::string& value) {
  const int32_t fd = b.given(in.host.proc_fd.get(), "procfs");
  const uint32_t path = b.text(file);
  const uint32_t data = b.text(value);
  init::Step& s = b.step(kWriteProc, what);
  s.fd = fd;
  s.a = path;
  s.b = data;
  s.n = value.size();
}

/// Its keys are the container's, so they carry its label (as with runc); what comes after makes no key of ours.
void plan_keyring(const PlanInput& in, Builder& b) {
  if (in.no_new_keyring) return;
  const std::string& label = in.process.selinux_label;
  const bool labelled = !label.empty() && has_selinux(in.host);
  if (labelled) plan_write(in, b, "set the label of keys", "self/attr/keycreate", label);
  const uint32_t name = b.text("_ses." + in.id);
  b.step(kSessionKeyring, "join the session keyring").a = name;
  if (labelled) plan_write(in, b, "clear the label of keys", "self/attr/keycreate", "");
}

void plan_names(const PlanInput& in, Builder& b) {
  if (!in.spec.hostname.empty()) {
    const uint32_t name = b.text(in.spec.hostname);
    init::Step& s = b.step(kHostname, "set hostname " + in.spec.hostname);
    s.a = name;
    s.n = in.spec.hostname.size();
  }
  if (!in.spec.domainname.empty()) {
    const uint32_t name = b.text(in.spec.domainname);
    init::Step& s = b.step(kDomainname, "set domainname " + in.spec.domainname);
    s.a = name;
    s.n = in.spec.domainname.size();
  }
  for (const auto& [key, value] : in.spec.linux_.sysctl) {
    const auto kind = sysctl_namespace(key);
    const oci::Namespace* ns = kind ? in.spec.find_namespace(*kind) : nullptr;
    if (ns != nullptr && !ns->path.empty()) {
      // A namespace by path may be the one that we are in, whose settings are the host's (runc's rule for net.*).
      const int32_t joined = joined_namespace(*ns, b);
      b.plan().sources[static_cast<size_t>(joined)].not_ours_for = "linux.sysctl " + key;
    }
    plan_write(in, b, "set sysctl " + key, sysctl_path(key), value);
  }
}

Result<void> plan_identity(const PlanInput& in, Builder& b) {
  TRY(plan_labels(in, b));
  b.step(kUmask, "set umask").n = in.process.user.umask.value_or(0022);
  return {};
}

Result<void> plan_affinity(const std::string& list, const char* noun, Builder& b) {
  std::string mask = all_cpus_mask();
  if (!list.empty()) {
    TRY_ASSIGN(mask, make_cpu_mask(list, noun));
  }
  const uint32_t at = b.bytes(mask.data(), mask.size());
  init::Step& s = b.step(kAffinity, list.empty() ? std::string("reset the CPU affinity")
                                                 : std::string("set ") + noun + " " + list);
  s.a = at;
  s.n = mask.size();
  if (list.empty()) s.flags = init::kTolerate;
  return {};
}

namespace {

void plan_limit(const oci::Rlimit& limit, int resource, Builder& b) {
  const uint32_t hard = b.word(limit.hard);
  init::Step& s = b.step(kRlimit, "set " + limit.type + " to " + std::to_string(limit.soft) + ":" +
                                      std::to_string(limit.hard));
  s.n = static_cast<uint64_t>(resource);
  s.m = limit.soft;
  s.d = hard;
}

}  // namespace

void plan_descriptor_limit(const PlanInput& in, Builder& b) {
  if (in.spec.find_namespace(oci::NamespaceKind::kUser) == nullptr) return;
  for (const oci::Rlimit& limit : in.process.rlimits) {
    if (limit.type == "RLIMIT_NOFILE") plan_limit(limit, RLIMIT_NOFILE, b);
  }
}

Result<void> plan_limits(const PlanInput& in, Builder& b) {
  ParentWork& parent = b.plan().parent;
  for (const oci::Rlimit& limit : in.process.rlimits) {
    TRY_ASSIGN(const int resource, rlimit_number(limit.type));
    if (in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr) {
      // Inside, nobody may raise a hard limit; the parent may.
      parent.rlimits.push_back({resource, limit.soft, limit.hard, limit.type});
      continue;
    }
    plan_limit(limit, resource, b);
  }
  if (in.host.euid == 0) parent.oom_score_adj = in.process.oom_score_adj;
  return plan_execution(in, b);
}

Result<void> plan_credentials(const PlanInput& in, Builder& b) {
  // The pivot leaves us at the root, and so does joining a mount namespace (setns(2)).
  const bool at_root = in.spec.find_namespace(oci::NamespaceKind::kMount) != nullptr;
  plan_chdir(in, b, /*last=*/false, at_root);
  const oci::User& user = in.process.user;
  const uint64_t own = in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr
                           ? ~uint64_t{0}
                           : in.host.own_capabilities;
  // Without the object all sets are empty, as runc has it.
  TRY_ASSIGN(const CapMasks masks,
             make_cap_masks(in.process.capabilities.value_or(oci::Capabilities{}), own,
                            in.host.last_capability));
  for (const std::string& warning : masks.warnings) b.warn(warning);
  init::Step& bounding = b.step(kDropBounding, "drop the capability bounding set");
  bounding.n = masks.bounding;
  bounding.m = static_cast<uint64_t>(in.host.last_capability);
  if (user.uid != 0) b.step(kKeepCaps, "keep capabilities over the change of user").n = 1;
  plan_ids(in, b);
  if (user.uid != 0) {
    plan_chdir(in, b, /*last=*/true, at_root);
    b.step(kKeepCaps, "clear keep-capabilities").n = 0;
  }
  const uint32_t inheritable = b.word(masks.inheritable);
  init::Step& caps = b.step(kSetCaps, "set capabilities");
  caps.n = masks.effective;
  caps.m = masks.permitted;
  caps.a = inheritable;
  if (masks.ambient != 0) b.step(kRaiseAmbient, "raise ambient capabilities").n = masks.ambient;
  return {};
}

void plan_stdio(const PlanInput& in, Builder& b, bool console_node, bool forks) {
  if (in.process.terminal) {
    init::Step& s = b.step(kConsole, "set up the terminal");
    if (in.process.console_size) {
      s.n = static_cast<uint64_t>(in.process.console_size->height) << 16 |
            in.process.console_size->width;
    }
    s.m = console_node && in.spec.find_namespace(oci::NamespaceKind::kMount) != nullptr ? 1 : 0;
    s.c = forks ? 1 : 0;  // the session is kFork's
  } else {
    // "The caller's own" are inherited by a clone of the caller; a clone of the wasm host's zygote, which
    // has none, must be given them.
    const bool zygote = !in.exec.handover.empty();
    for (uint64_t n = 0; n < 3; ++n) {
      const int given = in.stdio[n] < 0 && zygote ? static_cast<int>(n) : in.stdio[n];
      if (given < 0) continue;
      const int32_t fd = b.given(given, "stdio");
      init::Step& s = b.step(kStdio, "set up stdio " + std::to_string(n));
      s.fd = fd;
      s.n = n;
    }
  }
  if (in.process.user.uid != 0) {
    init::Step& s = b.step(kOwnStdio, "give stdio to the user");
    s.n = in.process.user.uid;
    s.m = UINT64_MAX;  // the group stays (tty's for a terminal)
  }
}

void plan_hooks(const std::vector<oci::Hook>& hooks, const char* kind,
                const std::vector<std::string>& env_of_none, Builder& b) {
  size_t number = 0;
  for (const oci::Hook& hook : hooks) {
    Source state;
    state.kind = Source::Kind::kHookState;
    state.what = kind;
    const int32_t fd = b.source(std::move(state));
    const uint32_t path = b.text(hook.path);
    const std::vector<std::string> args =
        hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
    const uint32_t argv = b.table(args);
    const uint32_t env = b.table(hook.env.empty() ? env_of_none : hook.env);
    init::Step& s = b.step(kHook, std::string("error running ") + kind + " hook #" +
                                      std::to_string(number++) + ": " + hook.path);
    s.a = path;
    s.b = argv;
    s.c = env;
    s.fd = fd;
    s.n = static_cast<uint64_t>(hook.timeout.value_or(0)) * 1000;
  }
}

}  // namespace amphora::setup
