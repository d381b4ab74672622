// SPDX-License-Identifier: Apache-2.0
// Mount trees that the child opens by itself: where the parent may not clone mounts (an unprivileged
// caller, whose container is root of a user namespace and its mounts), and where a bind's source is
// what an earlier mount of the same container made. All others are the parent's (setup/sources.cc).
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdint>

#include "executor/base/missing.h"
#include "executor/init/context.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

constexpr auto kClone = static_cast<uint32_t>(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

long set_attr(int tree, uint64_t recursive, const MountAttr& attr) noexcept {
  return call(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | (recursive != 0 ? AT_RECURSIVE : 0),
              &attr, static_cast<uint64_t>(sizeof attr));
}

long open_path(const Context& c, const Step& s) noexcept {
  uint32_t flags = kClone;
  if ((s.flags & kRecursive) != 0) flags |= static_cast<uint32_t>(AT_RECURSIVE);
  if ((s.flags & kInRoot) == 0) {
    if ((s.flags & kNoFollow) != 0) flags |= static_cast<uint32_t>(AT_SYMLINK_NOFOLLOW);
    return call(SYS_open_tree, c.fd(s), c.text(s.a), flags);
  }
  // What the container's own mounts hold may be anybody's: links lead nowhere but below its root, and
  // where ids are mapped with the parent's rights nowhere at all: a volume's link would choose the files.
  const uint64_t link = (s.flags & kNoFollow) != 0 ? static_cast<uint64_t>(O_NOFOLLOW) : 0;
  const uint16_t strict = (s.flags & kByParent) != 0 ? kNoFollow : 0;
  const LocalFd there(resolve(c.walk, c.text(s.a), strict, kPathFlags | link));
  if (!there.ok()) return there.error();
  return call(SYS_open_tree, there.get(), "", flags | static_cast<uint32_t>(AT_EMPTY_PATH));
}

/// The host's own null device, proven by its number (CVE-2025-31133).
long open_null(const Context& c, const Step& s) noexcept {
  const LocalFd tree(call(SYS_open_tree, AT_FDCWD, c.text(s.a),
                          kClone | static_cast<uint32_t>(AT_SYMLINK_NOFOLLOW)));
  if (!tree.ok()) return tree.error();
  struct stat st{};
  const long found = call(SYS_newfstatat, tree.get(), "", &st, AT_EMPTY_PATH);
  if (found < 0) return found;
  return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) ? tree.get() : -ENODEV;
}

long open_empty() noexcept {
  const LocalFd fs(call(SYS_fsopen, "tmpfs", static_cast<uint32_t>(FSOPEN_CLOEXEC)));
  if (!fs.ok()) return fs.error();
  long done = call(SYS_fsconfig, fs.get(), kFsSetString, "nr_inodes", "1", 0);
  if (done == 0) done = call(SYS_fsconfig, fs.get(), kFsCreate, nullptr, nullptr, 0);
  if (done < 0) return done;
  const uint64_t attributes =
      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  return call(SYS_fsmount, fs.get(), static_cast<uint32_t>(FSMOUNT_CLOEXEC), attributes);
}

/// Mapping ids takes CAP_SYS_ADMIN where the filesystem was mounted (mount_setattr(2)), which the root of a
/// user namespace has for its own filesystems only.
long map_ids(const Context& c, const Step& s, uint16_t index, int tree) noexcept {
  if ((s.flags & kByParent) == 0) {
    const MountAttr map{MOUNT_ATTR_IDMAP, 0, 0,
                        static_cast<uint64_t>(c.fd_at(static_cast<int64_t>(s.n)))};
    return set_attr(tree, s.c, map);
  }
  const long sent = send(c.walk, Message{MessageKind::kMapIds, index, 0, 0}, nullptr, 0, tree);
  return sent < 0 ? sent : await_proceed(c.walk, static_cast<int32_t>(Rendezvous::kMappedTree));
}

}  // namespace

/// The tree gets its final attributes while nobody can see it, and its descriptor the place in the
/// plan's table where the steps that use it look.
long open_tree(const Context& c, const Step& s, uint16_t index) noexcept {
  const LocalFd tree(s.m == kNullTree    ? open_null(c, s)
                     : s.m == kEmptyTree ? open_empty()
                                         : open_path(c, s));
  if (!tree.ok()) return tree.error();
  if (s.n != UINT64_MAX) {
    const long mapped = map_ids(c, s, index, tree.get());
    if (mapped < 0) return mapped;
  }
  // SAFETY: made by the planner, aligned by Builder::bytes.
  const auto* change = reinterpret_cast<const TreeChange*>(c.text(s.b));
  for (uint32_t i = 0; i < s.d; ++i, ++change) {
    const long set = set_attr(tree.get(), change->recursive,
                              {change->set, change->clear, change->propagation, 0});
    if (set < 0) return set;
  }
  c.set_fd(s, tree.get());
  return 0;
}

}  // namespace amphora::init
