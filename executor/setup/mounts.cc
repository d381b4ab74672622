// SPDX-License-Identifier: Apache-2.0
// The root filesystem and the spec's mounts as steps: propagation, the attached root, each mount in
// list order, the pivot, and what must wait until after it (read-only remounts, read-only and masked
// paths). After these no mount call is made.
#include <sys/mount.h>

#include "executor/base/missing.h"
#include "executor/base/path.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_options.h"

namespace amphora::setup {
namespace {

using enum init::Op;

struct Propagation {
  const char* name;
  uint64_t flags;
};
constexpr Propagation kPropagations[] = {
    {"", MS_SLAVE | MS_REC},       {"rslave", MS_SLAVE | MS_REC},
    {"slave", MS_SLAVE},           {"rprivate", MS_PRIVATE | MS_REC},
    {"private", MS_PRIVATE},       {"rshared", MS_SHARED | MS_REC},
    {"shared", MS_SHARED},         {"runbindable", MS_UNBINDABLE | MS_REC},
    {"unbindable", MS_UNBINDABLE},
};

Result<uint64_t> root_propagation(const oci::Spec& spec) {
  for (const Propagation& entry : kPropagations) {
    if (spec.linux_.rootfs_propagation == entry.name) return entry.flags;
  }
  return fail(Errc::kInvalid,
              "linux.rootfsPropagation: unknown value " + spec.linux_.rootfs_propagation);
}

/// What a cloned tree gets before its own options: the host's unmounts still reach it as a slave,
/// nothing done inside reaches the host. A shared root keeps its peers.
std::vector<uint64_t> base_propagation(uint64_t root) {
  if ((root & MS_SHARED) != 0) return {};
  if ((root & MS_PRIVATE) != 0) return {MS_PRIVATE | MS_REC};
  return {MS_SLAVE | MS_REC};
}

std::string noun(const oci::Mount& mount) {
  const std::string& what = mount.source.empty() ? mount.type : mount.source;
  return "mount " + what + " on " + mount.destination;
}

std::string target_of(const oci::Mount& mount) { return path::clean("/" + mount.destination); }

void plan_propagation(const oci::Mount& mount, const MountOptions& options, Builder& b) {
  for (const uint64_t flags : options.propagation) {
    const uint32_t target = b.text(target_of(mount));
    init::Step& s = b.step(kTargetPropagation, "set propagation of " + mount.destination);
    s.a = target;
    s.n = flags & ~static_cast<uint64_t>(MS_REC);
    if ((flags & MS_REC) != 0) s.flags = init::kRecursive;
  }
}

Result<void> plan_bind(const PlanInput& in, const oci::Mount& mount, const MountOptions& options,
                       Builder& b) {
  if (options.idmap) {
    return fail(Errc::kUnsupported,
                noun(mount) + ": id-mapped mounts are not supported by this version");
  }
  TRY_ASSIGN(const uint64_t root, root_propagation(in.spec));
  Source source;
  source.kind = Source::Kind::kTree;
  source.path = mount.source;
  source.what = "bind source " + mount.source + " of mount " + mount.destination;
  source.recursive = options.recursive_bind;
  source.no_follow = options.src_nofollow;
  source.attr_set = options.attr_set;
  // In a user namespace the kernel locks flags that are set: only what was asked for is cleared.
  const bool user = in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr;
  source.attr_clr = user ? options.attr_clr_named : options.attr_clr;
  source.rec_set = options.rec_set;
  // A bound /sys brings the host's cgroups along, which "ro" alone would leave writable (CVE-2023-25809).
  if (options.recursive_bind && (options.attr_set & MOUNT_ATTR_RDONLY) != 0 &&
      target_of(mount) == "/sys") {
    source.rec_set |= MOUNT_ATTR_RDONLY;
  }
  source.rec_clr = options.rec_clr;
  source.propagation = base_propagation(root);
  source.propagation.insert(source.propagation.end(), options.propagation.begin(),
                            options.propagation.end());
  const int32_t fd = b.source(std::move(source));
  const uint32_t target = b.text(target_of(mount));
  init::Step& s = b.step(kBind, noun(mount));
  s.fd = fd;
  s.a = target;
  if (options.dest_nofollow) s.flags |= init::kNoFollow;
  return {};
}

/// Filesystems that things are still made in stay writable until after the pivot.
bool is_filled_later(const oci::Mount& mount) {
  return mount.type == "tmpfs" || target_of(mount) == "/dev";
}

Result<void> plan_filesystem(const oci::Mount& mount, const MountOptions& options, Builder& b) {
  if (options.copy_up) {
    return fail(Errc::kUnsupported, noun(mount) + ": tmpcopyup is not supported by this version");
  }
  uint64_t flags = options.ms_flags;
  if (is_filled_later(mount)) flags &= ~static_cast<uint64_t>(MS_RDONLY);
  const uint32_t target = b.text(target_of(mount));
  const uint32_t type = b.text(mount.type);
  const uint32_t source = b.text(mount.source.empty() ? mount.type : mount.source);
  const uint32_t data = b.text(options.data);
  init::Step& s = b.step(kMountFs, noun(mount));
  s.a = target;
  s.b = type;
  s.c = source;
  s.d = data;
  s.n = flags;
  // "must be mounted on ordinary directory" (CVE-2019-19921, CVE-2023-27561).
  if (mount.type == "proc" || mount.type == "sysfs") s.flags |= init::kNoFollow;
  if (options.rec_set != 0 || options.rec_clr != 0) {
    init::Step& attributes = b.step(kRemount, "set attributes of " + mount.destination);
    attributes.a = target;
    attributes.n = options.rec_set;
    attributes.m = options.rec_clr;
    attributes.flags = init::kRecursive;
  }
  plan_propagation(mount, options, b);
  return {};
}

/// A read-only mount whose content was still being made.
void plan_late_readonly(const oci::Mount& mount, Builder& b) {
  const uint32_t target = b.text(target_of(mount));
  init::Step& s = b.step(kRemount, "remount " + mount.destination + " read-only");
  s.a = target;
  s.n = MOUNT_ATTR_RDONLY;
}

/// The device-less /dev/null and an empty directory, shared by all masked paths.
void plan_masks(const PlanInput& in, Builder& b) {
  Source null;
  null.kind = Source::Kind::kNull;
  null.what = "masked paths";
  null.propagation = {MS_PRIVATE};
  const int32_t null_fd = b.source(std::move(null));
  Source empty;
  empty.kind = Source::Kind::kEmpty;
  empty.what = "masked paths";
  const int32_t empty_fd = b.source(std::move(empty));
  for (const std::string& masked : in.spec.linux_.masked_paths) {
    const uint32_t target = b.text(masked);
    init::Step& s = b.step(kMask, "mask " + masked);
    s.a = target;
    s.fd = null_fd;
    s.n = static_cast<uint64_t>(empty_fd);
    s.flags = init::kOptional;
  }
}

}  // namespace

Result<void> plan_rootfs(const PlanInput& in, Builder& b) {
  TRY_ASSIGN(const uint64_t propagation, root_propagation(in.spec));
  const uint32_t slash = b.text("/");
  // Shared roots: only "/" itself leaves its peers, as pivot_root(2) demands.
  const bool shared = (propagation & MS_SHARED) != 0;
  init::Step& s = b.step(kPropagation, "keep the container's mounts from the host");
  s.a = slash;
  s.n = shared                            ? static_cast<uint64_t>(MS_PRIVATE)
        : (propagation & MS_PRIVATE) != 0 ? static_cast<uint64_t>(MS_PRIVATE | MS_REC)
                                          : static_cast<uint64_t>(MS_SLAVE | MS_REC);
  Source root;
  root.kind = Source::Kind::kTree;
  root.path = in.rootfs;
  root.what = "rootfs " + in.rootfs;
  root.recursive = true;
  // The root itself is what pivot_root stacks the old one on, and that may not be shared. What the spec
  // asked for it gets after the pivot.
  root.propagation = shared ? std::vector<uint64_t>{MS_PRIVATE} : base_propagation(propagation);
  const int32_t fd = b.source(std::move(root));
  b.step(kAttachRoot, "attach the rootfs").fd = fd;
  return {};
}

Result<void> plan_mounts(const PlanInput& in, Builder& b) {
  for (const oci::Mount& mount : in.spec.mounts) {
    auto options = parse_mount_options(mount);
    if (!options) return std::unexpected(std::move(options).error().context(noun(mount)));
    if (mount.type == "cgroup" || mount.type == "cgroup2") {
      TRY(plan_cgroup_mount(in, mount, b));
    } else if (options->bind) {
      TRY(plan_bind(in, mount, *options, b));
    } else {
      TRY(plan_filesystem(mount, *options, b));
    }
  }
  return {};
}

void plan_pivot(const PlanInput& in, Builder& b) {
  const auto propagation = root_propagation(in.spec);
  const bool shared = propagation && (*propagation & (MS_SHARED | MS_UNBINDABLE)) != 0;
  init::Step& s = b.step(kPivot, "make the rootfs the root");
  s.n = in.no_pivot ? 1 : 0;
  s.m = shared ? 1 : 0;
  if (!shared) return;
  // Shared and unbindable roots would refuse the pivot, so they become so after it.
  const uint32_t slash = b.text("/");
  init::Step& after = b.step(kTargetPropagation, "set propagation of the root");
  after.a = slash;
  after.n = *propagation & ~static_cast<uint64_t>(MS_REC);
  if ((*propagation & MS_REC) != 0) after.flags = init::kRecursive;
}

void plan_late_mounts(const PlanInput& in, Builder& b) {
  if (in.spec.find_namespace(oci::NamespaceKind::kMount) == nullptr) return;
  for (const oci::Mount& mount : in.spec.mounts) {
    const auto options = parse_mount_options(mount);
    if (options && !options->bind && is_filled_later(mount) &&
        (options->ms_flags & MS_RDONLY) != 0) {
      plan_late_readonly(mount, b);
    }
  }
  if (in.spec.root.readonly) {
    b.step(kRemountRoot, "make the root read-only").n = MOUNT_ATTR_RDONLY;
  }
  for (const std::string& readonly : in.spec.linux_.readonly_paths) {
    const uint32_t target = b.text(readonly);
    init::Step& s = b.step(kReadonlyPath, "make " + readonly + " read-only");
    s.a = target;
    s.flags = init::kOptional;
  }
  if (!in.spec.linux_.masked_paths.empty()) plan_masks(in, b);
}

}  // namespace amphora::setup
