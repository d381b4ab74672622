// SPDX-License-Identifier: Apache-2.0
// The root filesystem and the spec's mounts as steps: propagation, the attached root, each mount in
// list order, the pivot, and what must wait until after it (read-only remounts). Masked and read-only paths
// are in masked_paths.cc. After these no mount call is made.
#include <sys/mount.h>

#include <algorithm>
#include <cstdint>
#include <expected>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/missing.h"
#include "executor/base/path.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/idmap.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"

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

void plan_propagation(const PlannedMount& planned, Builder& b) {
  for (const uint64_t flags : planned.options.propagation) {
    const uint32_t target = b.text(planned.target);
    init::Step& s = b.step(kTargetPropagation, "set propagation of " + planned.mount->destination);
    s.a = target;
    s.n = flags & ~static_cast<uint64_t>(MS_REC);
    if ((flags & MS_REC) != 0) s.flags = init::kRecursive;
  }
}

Result<void> plan_bind(const PlanInput& in, const MountTable& table, const PlannedMount& planned,
                       Builder& b) {
  const oci::Mount& mount = *planned.mount;
  const MountOptions& options = planned.options;
  TRY_ASSIGN(const uint64_t root, root_propagation(in.spec));
  Source source;
  source.kind = Source::Kind::kTree;
  source.path = mount.source;
  source.what =
      "error mounting \"" + mount.source + "\" to rootfs at \"" + mount.destination + "\"";
  source.recursive = options.recursive_bind;
  source.no_follow = options.src_nofollow || options.copy_symlink;
  source.attr_set = options.attr_set;
  source.attr_clr = options.attr_clr;
  source.named_clr = options.attr_clr_named;
  source.sets_atime = options.sets_atime;
  source.keeps_locked = in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr;
  source.rec_set = options.rec_set;
  // A bound /sys brings the host's cgroups along, which "ro" alone would leave writable (CVE-2023-25809).
  if (options.recursive_bind && (options.attr_set & MOUNT_ATTR_RDONLY) != 0 &&
      planned.target == "/sys") {
    source.rec_set |= MOUNT_ATTR_RDONLY;
  }
  source.rec_clr = options.rec_clr;
  source.propagation = base_propagation(root);
  source.propagation.insert(source.propagation.end(), options.propagation.begin(),
                            options.propagation.end());
  if (options.idmap) {
    auto mapped = set_idmap(in.spec, mount, options, source);
    if (!mapped) return std::unexpected(std::move(mapped).error().context(planned.noun()));
  }
  const int32_t fd = plan_bind_source(in, table, planned, std::move(source), b);
  const uint32_t at = b.text(planned.target);
  const uint32_t directory = options.copy_symlink ? b.text(path::dir_name(planned.target)) : 0;
  const uint32_t name = options.copy_symlink ? b.text(path::base_name(planned.target)) : 0;
  init::Step& s = b.step(kBind, planned.noun());
  s.fd = fd;
  s.a = at;
  s.b = directory;
  s.c = name;
  if (options.dest_nofollow) s.flags |= init::kKeepLink;
  return {};
}

/// Recursive attributes and propagation, which a new filesystem gets when it is attached.
void plan_attributes(const PlannedMount& planned, Builder& b) {
  const MountOptions& options = planned.options;
  if (options.rec_set != 0 || options.rec_clr != 0) {
    const uint32_t target = b.text(planned.target);
    init::Step& s = b.step(kRemount, "set attributes of " + planned.mount->destination);
    s.a = target;
    s.n = options.rec_set;
    s.m = options.rec_clr;
    s.flags = init::kRecursive;
  }
  plan_propagation(planned, b);
}

/// Filesystems that things are still made in stay writable until after the pivot.
bool is_filled_later(const PlannedMount& planned) {
  return planned.mount->type == "tmpfs" || planned.target == "/dev";
}

/// The words of a filesystem's own options; a comma between quotes separates nothing (SELinux), nor one
/// behind a backslash for overlay.
std::vector<std::string> data_words(std::string_view data, bool overlay = false) {
  std::vector<std::string> words(1);
  bool quoted = false, escaped = false;
  for (const char c : data) {
    const bool literal = escaped;
    escaped = overlay && !literal && c == '\\';
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted && !literal) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  std::erase(words, "");
  return words;
}

/// More than mount(2) reads, which cuts off what is behind its page.
bool is_long(const std::string& data) { return data.size() >= 4096; }

/// overlay's list of layers as words of one each. A colon or comma behind a backslash is the path's own, and
/// needs none there (overlayfs.rst).
void add_layers(std::string_view list, std::vector<std::string>& words) {
  words.emplace_back("lowerdir+=");
  while (!list.empty()) {
    const bool escaped = list.front() == '\\' && list.size() > 1;
    const bool data_only = list.starts_with("::");
    if (list.front() == ':') {
      words.emplace_back(data_only ? "datadir+=" : "lowerdir+=");
    } else {
      words.back() += list[escaped ? 1 : 0];
    }
    list.remove_prefix(escaped || data_only ? 2 : 1);
  }
}

/// What fsconfig(2) is to be told in the place of data that is too long for mount(2).
std::vector<std::string> words_one_by_one(const std::string& type, const std::string& data) {
  constexpr std::string_view kLayers = "lowerdir=";
  if (type != "overlay") return data_words(data);
  std::vector<std::string> words;
  for (std::string& word : data_words(data, /*overlay=*/true)) {
    if (word.starts_with(kLayers)) {
      add_layers(std::string_view(word).substr(kLayers.size()), words);
    } else {
      words.push_back(std::move(word));
    }
  }
  return words;
}

/// What a tmpfs takes from the directory below: its mode unless the spec says one, as runc has it;
/// with tmpcopyup also its owner and all that it holds.
uint64_t inherited(const PlannedMount& planned, const std::vector<std::string>& words) {
  if (planned.mount->type != "tmpfs") return 0;
  const auto says = [&](std::string_view key) {
    return std::ranges::any_of(words, [&](const std::string& w) { return w.starts_with(key); });
  };
  uint64_t what = says("mode=") ? 0 : init::kInheritMode;
  if (planned.options.copy_up) {
    what |= init::kInheritContent;
    if (!says("uid=") && !says("gid=")) what |= init::kInheritOwner;
  }
  return what;
}

/// Flags of mount(2) that are the filesystem's own, in the words of fsconfig(2).
void add_superblock_words(uint64_t flags, std::vector<std::string>& words) {
  if ((flags & MS_SYNCHRONOUS) != 0) words.emplace_back("sync");
  if ((flags & MS_DIRSYNC) != 0) words.emplace_back("dirsync");
  if ((flags & MS_MANDLOCK) != 0) words.emplace_back("mand");
  if ((flags & MS_LAZYTIME) != 0) words.emplace_back("lazytime");
}

/// A filesystem by fsopen(2): a tmpfs that takes something from the directory it hides, or one with more
/// options than mount(2) takes.
void plan_over(const PlannedMount& planned, std::vector<std::string> words, uint64_t inherit,
               Builder& b) {
  const oci::Mount& mount = *planned.mount;
  add_superblock_words(planned.options.ms_flags, words);
  const uint32_t target = b.text(planned.target);
  const uint32_t type = b.text(mount.type);
  const uint32_t source = b.text(mount.source.empty() ? mount.type : mount.source);
  const uint32_t list = b.list(words);
  const char* const why =
      is_long(planned.options.data)
          ? " (its options are longer than mount(2) takes; layers one by one need Linux 6.8)"
          : "";
  init::Step& s = b.step(kMountOver, planned.noun() + why);
  s.a = target;
  s.b = type;
  s.c = source;
  s.d = list;
  s.n = planned.options.attr_set;
  if (is_filled_later(planned)) s.n &= ~static_cast<uint64_t>(MOUNT_ATTR_RDONLY);
  s.m = inherit;
  if (mount.type == "proc" || mount.type == "sysfs") s.flags |= init::kNoFollow;
}

/// A joined pid namespace is entered after all mounts, and procfs shows the one that its mounter is in.
void plan_proc_of_joined(const PlanInput& in, const PlannedMount& planned, Builder& b) {
  const MountOptions& options = planned.options;
  std::vector<std::string> words = data_words(options.data);
  add_superblock_words(options.ms_flags, words);
  const int32_t ns = joined_namespace(*in.spec.find_namespace(oci::NamespaceKind::kPid), b);
  Source empty;
  empty.kind = Source::Kind::kEmpty;
  empty.what = planned.noun();
  const int32_t root = plan_tree(in, std::move(empty), b);
  const uint32_t target = b.text(planned.target);
  const uint32_t list = b.list(words);
  init::Step& s = b.step(kMountProc, planned.noun());
  s.a = target;
  s.d = list;
  s.n = options.attr_set;
  s.m = static_cast<uint64_t>(root);
  s.fd = ns;
  s.flags |= init::kNoFollow;
}

/// sysfs is the network namespace's: without one of its own a user namespace may not mount it (EPERM),
/// and gets the host's, read-only to its last mount (CVE-2023-25809).
int32_t sysfs_instead(const PlanInput& in, const PlannedMount& planned, Builder& b) {
  const bool user = in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr;
  if (planned.mount->type != "sysfs" || !user || has_new(in.spec, oci::NamespaceKind::kNetwork))
    return -1;
  Source tree;
  tree.kind = Source::Kind::kTree;
  tree.path = "/sys";
  tree.what = "the host's /sys for " + planned.noun();
  tree.recursive = true;
  tree.rec_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  tree.propagation = {MS_PRIVATE | MS_REC};
  return plan_tree(in, std::move(tree), b);
}

/// What the child has open while mounts are made, which saves looking the same path up again.
struct Held {
  bool entered = false;  ///< /dev is the directory of the last kEnterDir
  bool kept_dev =
      false;  ///< its descriptor was kept (init::kKeep), and nothing has come over it since
};

Result<void> plan_filesystem(const PlanInput& in, const PlannedMount& planned, Held& held,
                             Builder& b) {
  const oci::Mount& mount = *planned.mount;
  const MountOptions& options = planned.options;
  const auto refuse = [&](const char* why) {
    return fail(Errc::kInvalid, planned.noun() + ": " + why);
  };
  if (options.idmap) return refuse("only bind mounts can be id-mapped");
  if (options.copy_up && mount.type != "tmpfs") return refuse("tmpcopyup is for tmpfs only");
  std::vector<std::string> words = data_words(options.data);
  if (const uint64_t inherit = inherited(planned, words); inherit != 0) {
    held.entered = false;  // it may have been mounted over
    plan_over(planned, std::move(words), inherit, b);
    plan_attributes(planned, b);
    return {};
  }
  if (is_long(options.data)) {
    held.entered = false;
    plan_over(planned, words_one_by_one(mount.type, options.data), 0, b);
    plan_attributes(planned, b);
    return {};
  }
  if (mount.type == "proc" && joins_pid_late(in.spec)) {
    held.entered = false;
    plan_proc_of_joined(in, planned, b);
    plan_attributes(planned, b);
    return {};
  }
  uint64_t flags = options.ms_flags;
  if (is_filled_later(planned)) flags &= ~static_cast<uint64_t>(MS_RDONLY);
  const bool in_dev = planned.in_new_dev;
  // A mount namespace that was joined may have others in it, who could swap a name for a link. In a user
  // namespace the mount may be refused (EPERM), and its stand-in wants the directory's descriptor.
  const bool alone = has_new(in.spec, oci::NamespaceKind::kMount) &&
                     in.spec.find_namespace(oci::NamespaceKind::kUser) == nullptr;
  if (in_dev && !held.entered) {
    const uint32_t dev = b.text("/dev");
    init::Step& s = b.step(kEnterDir, "open /dev as a directory");
    s.a = dev;
    s.n = alone ? 1 : 0;
    s.m = init::kKeep;
    held = {.entered = true, .kept_dev = true};
  }
  if (!in_dev) held.entered = false;
  const int32_t instead = sysfs_instead(in, planned, b);
  const uint32_t target = b.text(planned.target);
  const uint32_t name = in_dev ? b.text(path::base_name(planned.target)) : target;
  const uint32_t type = b.text(mount.type);
  const uint32_t source = b.text(mount.source.empty() ? mount.type : mount.source);
  const uint32_t data = b.text(options.data);
  init::Step& s = b.step(kMountFs, planned.noun());
  s.a = name;
  s.m = !in_dev ? 0 : alone ? 2 : 1;
  s.b = type;
  s.c = source;
  s.d = data;
  s.n = flags;
  s.fd = instead;
  // "must be mounted on ordinary directory" (CVE-2019-19921, CVE-2023-27561).
  if (mount.type == "proc" || mount.type == "sysfs") s.flags |= init::kNoFollow;
  plan_attributes(planned, b);
  return {};
}

/// A read-only mount whose content was still being made.
void plan_late_readonly(const PlannedMount& planned, Builder& b) {
  const uint32_t target = b.text(planned.target);
  init::Step& s = b.step(kRemount, "remount " + planned.mount->destination + " read-only");
  s.a = target;
  s.n = MOUNT_ATTR_RDONLY;
}

}  // namespace

Result<void> plan_rootfs(const PlanInput& in, Builder& b) {
  TRY_ASSIGN(const uint64_t propagation, root_propagation(in.spec));
  const uint32_t slash = b.text("/");
  // Shared roots: only "/" itself leaves its peers, as pivot_root(2) demands.
  const bool shared = (propagation & MS_SHARED) != 0;
  const oci::Hooks& hooks = in.spec.hooks;
  const bool at_path = !in.no_pivot && !(hooks.prestart.empty() && hooks.create_runtime.empty() &&
                                         hooks.create_container.empty());
  init::Step& s = b.step(kPropagation, "keep the container's mounts from the host");
  s.a = slash;
  // What happens below the host's directories, by mounts of ours or without a pivot, is to stay here.
  s.n = shared && !at_path && !in.no_pivot ? static_cast<uint64_t>(MS_PRIVATE)
        : (propagation & MS_PRIVATE) != 0  ? static_cast<uint64_t>(MS_PRIVATE | MS_REC)
                                           : static_cast<uint64_t>(MS_SLAVE | MS_REC);
  Source root;
  root.kind = Source::Kind::kTree;
  root.path = in.rootfs;
  root.what = "rootfs " + in.rootfs;
  root.recursive = true;
  // The root itself is what pivot_root stacks the old one on, and that may not be shared. What the spec
  // asked for it gets after the pivot.
  root.propagation = shared ? std::vector<uint64_t>{MS_PRIVATE} : base_propagation(propagation);
  const int32_t fd = plan_tree(in, std::move(root), b);
  const uint32_t path = at_path ? b.text(in.rootfs) : 0;
  init::Step& attach = b.step(kAttachRoot, "attach the rootfs");
  attach.fd = fd;
  attach.a = path;
  return {};
}

Result<bool> plan_mounts(const PlanInput& in, const MountTable& table, Builder& b) {
  Held held;
  for (const PlannedMount& planned : table.mounts) {
    const std::string& type = planned.mount->type;
    if (path::is_below("/dev", planned.target)) held.kept_dev = false;
    if (type == "cgroup" || type == "cgroup2") {
      held.entered = false;
      const bool on_bind = std::ranges::any_of(table.mounts, [&](const PlannedMount& other) {
        return &other < &planned && other.options.bind &&
               path::is_below(planned.target, other.target);
      });
      TRY(plan_cgroup_mount(in, planned, on_bind, b));
    } else if (planned.options.bind) {
      held.entered = false;
      TRY(plan_bind(in, table, planned, b));
    } else {
      TRY(plan_filesystem(in, planned, held, b));
    }
  }
  return held.kept_dev;
}

void plan_pivot(const PlanInput& in, const MountTable& table, Builder& b) {
  plan_proc_paths(in, table, b);
  const auto propagation = root_propagation(in.spec);
  const bool shared = propagation && (*propagation & (MS_SHARED | MS_UNBINDABLE)) != 0;
  for (const std::string& point : in.kernel_mounts) {
    const uint32_t path = b.text(point);
    b.step(kDetach, "take away the host's " + point).a = path;
  }
  init::Step& s = b.step(kPivot, "make the rootfs the root");
  s.n = in.no_pivot ? 1 : 0;
  s.m = shared ? 1 : 0;
}

void plan_root_propagation(const PlanInput& in, Builder& b) {
  const auto propagation = root_propagation(in.spec);
  if (!propagation || (*propagation & (MS_SHARED | MS_UNBINDABLE)) == 0) return;
  const uint32_t slash = b.text("/");
  init::Step& after = b.step(kTargetPropagation, "set propagation of the root");
  after.a = slash;
  after.n = *propagation & ~static_cast<uint64_t>(MS_REC);
  if ((*propagation & MS_REC) != 0) after.flags = init::kRecursive;
}

void plan_late_mounts(const PlanInput& in, const MountTable& table, Builder& b) {
  for (const PlannedMount& planned : table.mounts) {
    if (!planned.options.bind && is_filled_later(planned) &&
        (planned.options.ms_flags & MS_RDONLY) != 0) {
      plan_late_readonly(planned, b);
    }
  }
  if (in.spec.root.readonly) {
    b.step(kRemountRoot, "make the root read-only").n = MOUNT_ATTR_RDONLY;
  }
  plan_other_paths(in, table, b);
}

}  // namespace amphora::setup
