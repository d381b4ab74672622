// SPDX-License-Identifier: Apache-2.0
// Opening what a plan needs from this host, in the parent and in its namespaces: rootfs and bind
// sources as detached mount trees with their final attributes, namespaces to join, and the two trees
// that masked paths show. A detached tree needs no host path inside the container's namespaces.
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/missing.h"
#include "executor/base/sys.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/plan.h"
#include "executor/setup/user_namespace.h"

namespace amphora::setup {
namespace {

/// A bind's `what` is runc's whole phrase, which a colon follows.
std::string doing(const char* what, const Source& source) {
  if (source.what.starts_with("error ")) return source.what + ": " + what + " the source";
  return std::string(what) + " " + source.what;
}

Result<void> set_attributes(int tree, const Source& source) {
  for (const init::TreeChange& change : tree_changes(source)) {
    const unsigned flags =
        AT_EMPTY_PATH | (change.recursive != 0 ? static_cast<unsigned>(AT_RECURSIVE) : 0U);
    const MountAttr attr{change.set, change.clear, change.propagation, 0};
    if (sys::mount_setattr(tree, "", flags, attr) != 0) {
      return fail_errno(errno, doing("set mount attributes of", source));
    }
  }
  return {};
}

/// What statvfs(3) says of a mount, as attributes.
Result<uint64_t> attributes_of(int tree, const Source& source) {
  struct statvfs fs{};
  if (::fstatvfs(tree, &fs) != 0) return fail_errno(errno, doing("look at", source));
  constexpr std::pair<unsigned long, uint64_t> kPairs[] = {
      {ST_RDONLY, MOUNT_ATTR_RDONLY},   {ST_NOSUID, MOUNT_ATTR_NOSUID},
      {ST_NODEV, MOUNT_ATTR_NODEV},     {ST_NOEXEC, MOUNT_ATTR_NOEXEC},
      {ST_NOATIME, MOUNT_ATTR_NOATIME}, {ST_NODIRATIME, MOUNT_ATTR_NODIRATIME},
  };
  uint64_t attributes = 0;
  for (const auto& [flag, attribute] : kPairs) {
    if ((fs.f_flag & flag) != 0) attributes |= attribute;
  }
  if ((fs.f_flag & (ST_NOATIME | ST_RELATIME)) == 0) attributes |= MOUNT_ATTR_STRICTATIME;
  return attributes;
}

/// We have the rights that the container's user namespace has not, so its locks are ours to keep.
Result<void> keep_locked(int tree, Source& source) {
  if ((source.attr_set | source.attr_clr) == 0) return {};
  constexpr uint64_t kLocked =
      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  constexpr uint64_t kTimes = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;
  TRY_ASSIGN(const uint64_t now, attributes_of(tree, source));
  uint64_t refused = now & kLocked & source.named_clr;
  if (refused == MOUNT_ATTR_RDONLY) {
    // It may be the filesystem that is read-only, which nobody locks: it stays so when the mount is not.
    const MountAttr writable{0, MOUNT_ATTR_RDONLY, 0, 0};
    if (sys::mount_setattr(tree, "", AT_EMPTY_PATH, writable) != 0) {
      return fail_errno(errno, doing("set mount attributes of", source));
    }
    TRY_ASSIGN(const uint64_t then, attributes_of(tree, source));
    refused &= ~then;
  }
  if (source.sets_atime && (now & kTimes) != (source.attr_set & kTimes)) refused |= kTimes;
  if (refused != 0) {
    return std::unexpected(Error::from_errno(EPERM, source.what)
                               .hint("flags of the mount it is from cannot be taken away in a user "
                                     "namespace"));
  }
  source.attr_clr &= ~(now & kLocked);
  return {};
}

Result<void> check_not_ours(int fd, const Source& source) {
  constexpr std::pair<uint64_t, const char*> kNames[] = {
      {CLONE_NEWNET, "net"}, {CLONE_NEWIPC, "ipc"}, {CLONE_NEWUTS, "uts"}, {CLONE_NEWUSER, "user"}};
  const auto* const name =
      std::ranges::find(kNames, source.n, &std::pair<uint64_t, const char*>::first);
  AMPHORA_CHECK(name != std::end(kNames));
  struct stat theirs{}, ours{};
  const std::string own = std::string("/proc/self/ns/") + name->second;
  if (::fstat(fd, &theirs) != 0) return fail_errno(errno, "look at " + source.path);
  if (::stat(own.c_str(), &ours) != 0) return fail_errno(errno, "look at " + own);
  if (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino) return {};
  return fail(Errc::kInvalid,
              source.not_ours_for + ": " + source.what + " " + source.path + " is the host's own");
}

/// A path of another type is an error: joining it would quietly share the wrong thing.
Result<UniqueFd> open_namespace(const Source& source) {
  TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, source.path, O_RDONLY));
  const int type = ::ioctl(fd.get(), NS_GET_NSTYPE);
  if (type < 0) {
    return fail(Errc::kInvalid, source.what + ": " + source.path + " is not a namespace");
  }
  if (static_cast<uint64_t>(type) != source.n) {
    return fail(Errc::kInvalid,
                source.what + ": " + source.path + " is a namespace of another type");
  }
  if (!source.not_ours_for.empty()) TRY(check_not_ours(fd.get(), source));
  return fd;
}

/// Mappings in the spec of a container that joins a user namespace must be that namespace's (runc's rule).
Result<void> check_maps(const Source& source, std::vector<std::string>& warnings) {
  if (source.n != CLONE_NEWUSER || (source.maps.uids.empty() && source.maps.gids.empty()))
    return {};
  TRY_ASSIGN(IdMaps there, maps_of(source.fd.get()));
  IdMaps wanted = source.maps;
  for (auto* map : {&there.uids, &there.gids, &wanted.uids, &wanted.gids}) {
    std::ranges::sort(*map, {}, &oci::IdMapping::container_id);
  }
  if (mappings_text(there.uids) != mappings_text(wanted.uids) ||
      mappings_text(there.gids) != mappings_text(wanted.gids)) {
    return fail(Errc::kInvalid,
                "linux.uidMappings and gidMappings are not those of the user namespace " +
                    source.path + ", which the container joins; leave them out");
  }
  warnings.push_back(
      "linux.uidMappings and gidMappings are not needed: those of the user namespace " +
      source.path + " are the same");
  return {};
}

/// User namespaces that carry the maps of mounts, one for each different map of a plan.
using MapCarriers = std::map<std::string, UniqueFd>;

Result<int> carrier_of(const Source& source, MapCarriers& carriers) {
  const std::string key = source.maps_path + "\n" + mappings_text(source.maps.uids) + "\n" +
                          mappings_text(source.maps.gids);
  UniqueFd& held = carriers[key];
  if (held) return held.get();
  if (source.maps_path.empty()) {
    TRY_ASSIGN(held, make_user_namespace(source.maps));
    return held.get();
  }
  Source joined;
  joined.path = source.maps_path;
  joined.what = "user namespace";
  joined.n = CLONE_NEWUSER;
  TRY_ASSIGN(held, open_namespace(joined));
  return held.get();
}

/// Before the container's own flags, on a tree that nobody has seen yet (mount_setattr(2)).
Result<void> map_ids_by(int tree, int carrier, bool whole, const std::string& what) {
  MountAttr attr{};
  attr.attr_set = MOUNT_ATTR_IDMAP;
  attr.userns_fd = static_cast<uint64_t>(carrier);
  const unsigned flags = AT_EMPTY_PATH | (whole ? static_cast<unsigned>(AT_RECURSIVE) : 0U);
  if (sys::mount_setattr(tree, "", flags, attr) == 0) return {};
  const int err = errno;
  const char* const hint =
      err == EINVAL
          ? "this kernel or this filesystem does not support id-mapped mounts"
          : "it needs CAP_SYS_ADMIN where the filesystem was mounted, and a mount that is "
            "not id-mapped yet";
  return std::unexpected(Error::from_errno(err, what).hint(hint));
}

Result<void> map_ids(int tree, const Source& source, MapCarriers& carriers) {
  auto carrier = carrier_of(source, carriers);
  if (!carrier) {
    return std::unexpected(std::move(carrier).error().context("id map of " + source.what));
  }
  return map_ids_by(tree, *carrier, source.idmap == Source::IdMap::kTree,
                    doing("map the ids of", source));
}

Result<UniqueFd> open_tree_source(Source& source, int bundle_fd, MapCarriers& carriers) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (source.recursive) flags |= AT_RECURSIVE;
  if (source.no_follow) flags |= AT_SYMLINK_NOFOLLOW;
  const int dir = source.path.starts_with('/') ? AT_FDCWD : bundle_fd;
  UniqueFd tree(sys::open_tree(dir, source.path.c_str(), flags));
  if (!tree) return fail_errno(errno, doing("open", source));
  if (source.keeps_locked) TRY(keep_locked(tree.get(), source));
  if (source.idmap != Source::IdMap::kNone) TRY(map_ids(tree.get(), source, carriers));
  TRY(set_attributes(tree.get(), source));
  return tree;
}

/// The host's own /dev/null, proven by its device number (CVE-2025-31133): the image's is not asked.
Result<UniqueFd> open_null(const Source& source) {
  UniqueFd tree(sys::open_tree(AT_FDCWD, "/dev/null",
                               OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (!tree) return fail_errno(errno, "open /dev/null for " + source.what);
  struct stat st{};
  if (::fstat(tree.get(), &st) != 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
    return fail(Errc::kPrecondition, "the host's /dev/null is not the null device");
  }
  TRY(set_attributes(tree.get(), source));
  return tree;
}

Result<UniqueFd> open_empty(Source& source) {
  UniqueFd fs(sys::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!fs || sys::fsconfig(fs.get(), kFsSetString, "nr_inodes", "1", 0) != 0 ||
      sys::fsconfig(fs.get(), kFsCreate, nullptr, nullptr, 0) != 0) {
    return fail_errno(errno, "make an empty directory for " + source.what);
  }
  UniqueFd mount(
      sys::fsmount(fs.get(), FSMOUNT_CLOEXEC,
                   MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!mount) return fail_errno(errno, "make an empty directory for " + source.what);
  source.spent = std::move(fs);
  return mount;
}

Result<UniqueFd> open_memory(const Source& source) {
  UniqueFd memory(sys::memfd_create("hook-state", MFD_CLOEXEC));
  if (!memory) return fail_errno(errno, "make a memfd for " + source.what);
  return memory;
}

Result<int> open_one(Source& source, int bundle_fd, std::span<const int> handover,
                     MapCarriers& carriers) {
  using Kind = Source::Kind;
  // Its place holds the directory that a relative path begins at until the child has opened it.
  if (source.by_child) return bundle_fd;
  Result<UniqueFd> opened = UniqueFd();
  switch (source.kind) {
    case Kind::kGiven:
      return source.borrowed;
    case Kind::kHandover:
      AMPHORA_CHECK(source.n < handover.size());
      return handover[source.n];
    case Kind::kTree:
      opened = open_tree_source(source, bundle_fd, carriers);
      break;
    case Kind::kNamespace:
      opened = open_namespace(source);
      break;
    case Kind::kNull:
      opened = open_null(source);
      break;
    case Kind::kEmpty:
      opened = open_empty(source);
      break;
    case Kind::kIdMap: {
      TRY_ASSIGN(const int carrier, carrier_of(source, carriers));
      opened = duplicate(carrier);
      break;
    }
    case Kind::kHookState:
      opened = open_memory(source);
      break;
  }
  if (!opened) return std::unexpected(std::move(opened).error());
  source.fd = std::move(*opened);
  return source.fd.get();
}

}  // namespace

Result<void> open_sources(Plan& plan, int bundle_fd, std::span<const int> handover) {
  plan.fds_.clear();
  plan.fds_.reserve(plan.sources.size());
  MapCarriers carriers;
  for (Source& source : plan.sources) {
    TRY_ASSIGN(const int fd, open_one(source, bundle_fd, handover, carriers));
    plan.fds_.push_back(fd);
    if (source.kind == Source::Kind::kNamespace) TRY(check_maps(source, plan.warnings));
  }
  if (!plan.pid_namespace.empty()) {
    Source pid;
    pid.path = plan.pid_namespace;
    pid.what = "pid namespace";
    pid.n = CLONE_NEWPID;
    TRY_ASSIGN(plan.pid_namespace_fd, open_namespace(pid));
  }
  return {};
}

Result<void> map_ids_of(const Plan& plan, size_t step, int tree) {
  const auto steps = plan.steps();
  const auto fds = plan.fds();
  if (step >= steps.size() || steps[step].op != init::Op::kOpenTree ||
      (steps[step].flags & init::kByParent) == 0 || steps[step].n >= fds.size()) {
    return fail(Errc::kInternal, "init wants ids mapped that the plan does not name");
  }
  return map_ids_by(tree, fds[steps[step].n], steps[step].c != 0, plan.text(steps[step].what));
}

}  // namespace amphora::setup
