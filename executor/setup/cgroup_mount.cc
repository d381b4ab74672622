// SPDX-License-Identifier: Apache-2.0
// Mounts of type cgroup: what the container sees of its own cgroups. v1 and hybrid: a tmpfs with one
// bind (or, in a cgroup namespace, one mount) per hierarchy; v2: one mount, or a bind of the whole.
#include <sys/mount.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/missing.h"
#include "executor/base/path.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/host.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_options.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"

namespace amphora::setup {
namespace {

using enum init::Op;

constexpr uint64_t kFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
constexpr uint64_t kAttributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

void plan_mount(Builder& b, const std::string& target, const char* type, const std::string& data,
                uint64_t flags) {
  const uint32_t a = b.text(target);
  const uint32_t t = b.text(type);
  const uint32_t d = b.text(data);
  init::Step& s = b.step(kMountFs, std::string("mount ") + type + " on " + target);
  s.a = a;
  s.b = t;
  s.c = t;
  s.d = d;
  s.n = flags;
}

Source tree_of(const std::string& source, const std::string& target, bool readonly) {
  Source tree;
  tree.kind = Source::Kind::kTree;
  tree.path = source;
  tree.what = "cgroup " + source + " for mount " + target;
  tree.attr_set = kAttributes | (readonly ? static_cast<uint64_t>(MOUNT_ATTR_RDONLY) : 0);
  tree.propagation = {MS_PRIVATE};
  return tree;
}

void plan_bind(const PlanInput& in, Builder& b, const std::string& source,
               const std::string& target, bool readonly) {
  const int32_t fd = plan_tree(in, tree_of(source, target, readonly), b);
  const uint32_t a = b.text(target);
  init::Step& s = b.step(kBind, "mount cgroup " + source + " on " + target);
  s.fd = fd;
  s.a = a;
}

/// Co-mounted controllers ("cpu,cpuacct") are also found under each one's name.
void plan_aliases(Builder& b, const std::string& directory, const std::string& base) {
  size_t at = 0;
  while (base.find(',') != std::string::npos && at < base.size()) {
    const size_t comma = std::min(base.find(',', at), base.size());
    const uint32_t name = b.text(base.substr(at, comma - at));
    const uint32_t to = b.text(base);
    init::Step& s = b.step(kSymlink, "link " + directory + "/" + base);
    s.a = name;
    s.b = to;
    at = comma + 1;
  }
}

}  // namespace

Result<void> plan_cgroup_mount(const PlanInput& in, const PlannedMount& planned, bool on_bind,
                               Builder& b) {
  const MountOptions& options = planned.options;
  const bool readonly = (options.ms_flags & MS_RDONLY) != 0;
  const bool own_namespace = in.spec.find_namespace(oci::NamespaceKind::kCgroup) != nullptr;
  const std::string& target = planned.target;
  const auto own = [&](const std::string& controllers) {
    const auto found = in.cgroup_paths.find(controllers);
    if (found != in.cgroup_paths.end()) return found->second;
    // Without rights to a cgroup of its own (rootless) the container is in the caller's.
    if (controllers.empty()) return in.host.unified_own_path;
    const auto hierarchy =
        std::ranges::find(in.host.hierarchies, controllers, &Hierarchy::controllers);
    return hierarchy == in.host.hierarchies.end() ? std::string() : hierarchy->own_path;
  };
  if (in.host.cgroup_mode == CgroupMode::kNone) {
    return fail(Errc::kUnsupported,
                "mount cgroup on " + target + ": this host has no cgroups mounted");
  }
  if (in.host.cgroup_mode == CgroupMode::kUnified) {
    // With the host's namespace /proc/self/cgroup has the host's paths, and all are found below the mount, as
    // runc has it (Docker's --cgroupns=host, privileged pods). A bind: a new mount would take nsdelegate and the
    // like away from the host's (cgroups(7)). Who has no rights to the tree is shown its own part only, and so
    // is a container with a namespace where the host's /sys is bound: on a cgroup2 mount the kernel mounts no
    // second one (EBUSY).
    const bool privileged = in.host.euid == 0 && !in.host.in_user_namespace;
    if (own_namespace && !on_bind) {
      plan_mount(b, target, "cgroup2", options.data, options.ms_flags);
    } else {
      const bool whole = privileged && !own_namespace;
      plan_bind(in, b, in.host.unified_mount + (whole ? "" : own("")), target, readonly);
    }
    return {};
  }
  plan_mount(b, target, "tmpfs", "mode=755", kFlags);
  const uint32_t dir = b.text(target);
  // In a mount namespace copied from ours the host's own paths can be bound in one call each.
  const bool by_path = has_new(in.spec, oci::NamespaceKind::kMount) &&
                       in.spec.find_namespace(oci::NamespaceKind::kUser) == nullptr;
  init::Step& enter = b.step(kEnterDir, "open " + target);
  enter.a = dir;
  enter.n = by_path ? 1 : 0;
  for (const Hierarchy& hierarchy : in.host.hierarchies) {
    const std::string base(path::base_name(hierarchy.mount_point));
    const std::string at = target + "/" + base;
    if (own_namespace) {
      plan_mount(b, at, "cgroup", hierarchy.controllers,
                 kFlags | (readonly ? static_cast<uint64_t>(MS_RDONLY) : 0));
    } else {
      const std::string source = hierarchy.mount_point + own(hierarchy.controllers);
      if (by_path) {
        const uint32_t name = b.text(base);
        const uint32_t from = b.text(source);
        init::Step& s = b.step(kAttachInDir, "mount cgroup " + source + " on " + at);
        s.a = name;
        s.b = from;
        plan_aliases(b, target, base);
        continue;
      }
      Source tree = tree_of(source, at, readonly);
      tree.attr_set = 0;  // with the rest, below
      tree.propagation.clear();
      const int32_t fd = plan_tree(in, std::move(tree), b);
      const uint32_t name = b.text(base);
      init::Step& s = b.step(kAttachInDir, "mount cgroup " + source + " on " + at);
      s.fd = fd;
      s.a = name;
    }
    plan_aliases(b, target, base);
  }
  // One call for the tmpfs and all below it, in place of one for each.
  init::Step& s = b.step(kRemount, "set attributes of " + target);
  s.n = kAttributes | (readonly ? static_cast<uint64_t>(MOUNT_ATTR_RDONLY) : 0);
  s.b = MS_PRIVATE;
  s.flags = init::kRecursive;
  return {};
}

}  // namespace amphora::setup
