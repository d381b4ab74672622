// SPDX-License-Identifier: Apache-2.0
// Mount operations of the child. Targets are resolved once below the root and then used by
// descriptor only (CVE-2021-30465, CVE-2024-45310); sources were opened by the parent.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdint>

#include "executor/base/missing.h"
#include "executor/init/context.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

long set_attr(int fd, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation) noexcept {
  const MountAttr attr{set, clear, propagation, 0};
  return call(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | static_cast<int>(flags), &attr,
              static_cast<uint64_t>(sizeof attr));
}

unsigned recursive(const Step& s) noexcept {
  return (s.flags & kRecursive) != 0 ? static_cast<unsigned>(AT_RECURSIVE) : 0U;
}

long clone_tree(int fd, unsigned extra) noexcept {
  return call(SYS_open_tree, fd, "",
              static_cast<uint32_t>(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH) | extra);
}

long attach(int tree, int target) noexcept {
  return call(SYS_move_mount, tree, "", target, "",
              MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/// Whether the root of a detached tree is anything but a directory (files, sockets, devices).
bool is_file(int fd) noexcept {
  struct stat st{};
  return call(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && !S_ISDIR(st.st_mode);
}

/// A directory of this name in the entered one, made if missing; one component, no link followed, so
/// that it can be nowhere else whoever else works there.
long make_in_dir(const Context& c, const char* name) noexcept {
  const long made = call(SYS_mkdirat, c.walk.dir_fd, name, 0755);
  if (made < 0 && made != -EEXIST) return made;
  return call(SYS_openat, c.walk.dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
}

/// Masks a name in the working directory: the first of a kind gets the tree itself, the others are
/// bound from that name, in one call each. 0 or -errno; -EINVAL or -ENOTDIR for one of the other kind.
long mask_name(const Context& c, const Step& s, bool directory) noexcept {
  const char* name = c.text(s.a);
  const char*& first = directory ? c.walk.empty_name : c.walk.null_name;
  if (first != nullptr) return call(SYS_mount, first, name, nullptr, MS_BIND, nullptr);
  const int tree = directory ? c.fd_at(static_cast<int64_t>(s.n)) : c.fd(s);
  const long moved = call(SYS_move_mount, tree, "", AT_FDCWD, name,
                          MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
  if (moved < 0) return moved;
  first = name;
  (directory ? c.walk.empty_attached : c.walk.null_attached) = true;
  return 0;
}

/// Masks an open target; errors as mask_name's.
long mask_target(const Context& c, const Step& s, int target, bool directory) noexcept {
  const int tree = directory ? c.fd_at(static_cast<int64_t>(s.n)) : c.fd(s);
  bool& used = directory ? c.walk.empty_attached : c.walk.null_attached;
  if (!used) {
    const long attached = attach(tree, target);
    used = attached >= 0;
    return attached;
  }
  const LocalFd copy(clone_tree(tree, 0));
  return copy.ok() ? attach(copy.get(), target) : copy.error();
}

bool is_symlink(int fd) noexcept {
  struct stat st{};
  return call(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISLNK(st.st_mode);
}

uint64_t target_flags(const Step& s) noexcept {
  return (s.flags & kKeepLink) != 0 ? kPathFlags | O_NOFOLLOW : kPathFlags;
}

bool equal(const char* a, const char* b) noexcept {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

/// A source that is a symlink, made anew in the container ("copy-symlink", crun's).
long copy_symlink(const Context& c, const Step& s) noexcept {
  char link[kPathMax];
  const long size = call(SYS_readlinkat, c.fd(s), "", link, kPathMax - 1);
  if (size < 0) return size;
  link[size] = '\0';
  const LocalFd parent(resolve_or_make(c.walk, c.text(s.b), false, 0));
  if (!parent.ok()) return parent.error();
  const long made = call(SYS_symlinkat, link, parent.get(), c.text(s.c));
  if (made != -EEXIST) return made;
  char there[kPathMax];
  const long found = call(SYS_readlinkat, parent.get(), c.text(s.c), there, kPathMax - 1);
  if (found < 0) return -EEXIST;
  there[found] = '\0';
  return equal(link, there) ? 0 : -EEXIST;
}

/// fsconfig(2) takes a text of at most 255 bytes; what is longer is a directory's path (overlay's), and can be
/// given open.
long set_option(int fs, const char* key, const char* value) noexcept {
  if (value == nullptr) return call(SYS_fsconfig, fs, kFsSetFlag, key, nullptr, 0);
  uint32_t size = 0;
  while (value[size] != '\0') ++size;
  if (size < 256 || value[0] != '/') return call(SYS_fsconfig, fs, kFsSetString, key, value, 0);
  const LocalFd path(call(SYS_openat, AT_FDCWD, value, kPathFlags | O_DIRECTORY, 0));
  if (!path.ok()) return path.error();
  const long set = call(SYS_fsconfig, fs, kFsSetFd, key, nullptr, path.get());
  call(SYS_close, path.get());
  return set;
}

/// Sets the options of a filesystem context; each is "key" or "key=value", the last is empty.
/// SAFETY: the text is the child's own copy (see View), so "=" may be cut out of it.
long configure(int fs, char* option) noexcept {
  while (*option != '\0') {
    char* const key = option;
    char* value = nullptr;
    for (; *option != '\0'; ++option) {
      if (*option != '=' || value != nullptr) continue;
      *option = '\0';
      value = option + 1;
    }
    ++option;
    const long set = set_option(fs, key, value);
    if (set < 0) return set;
  }
  return call(SYS_fsconfig, fs, kFsCreate, nullptr, nullptr, 0);
}

/// The option "mode" of a tmpfs, octal, that makes it look like the directory it hides.
long take_mode(int fs, uint32_t mode) noexcept {
  char text[5] = {};
  for (int i = 3; i >= 0; --i, mode >>= 3U) text[i] = "01234567"[mode & 7U];
  return call(SYS_fsconfig, fs, kFsSetString, "mode", text, 0);
}

/// Gives a fresh filesystem what the spec did not say and the directory below has.
long inherit(int root, int hidden, uint64_t what) noexcept {
  struct stat st{};
  long result = call(SYS_newfstatat, hidden, "", &st, AT_EMPTY_PATH);
  const LocalFd to(call(SYS_openat, root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (!to.ok()) return to.error();
  if (result == 0 && (what & kInheritOwner) != 0) {
    result = call(SYS_fchown, to.get(), st.st_uid, st.st_gid);
  }
  if (result < 0 || (what & kInheritContent) == 0) return result;
  const LocalFd from(call(SYS_openat, hidden, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  return from.ok() ? copy_tree(from.get(), to.get()) : from.error();
}

}  // namespace

/// The rootfs arrives as a detached tree, cloned by the parent; attached on top of "/" it is a mount
/// of this namespace, as pivot_root(2) wants, without any host path being looked up here. Hooks that
/// join this namespace before the pivot are to find the host at "/" and the root at its path (a).
/// Whatever stands at that path by now, it is in our own namespace alone that it is covered.
long attach_root(const Context& c, const Step& s) noexcept {
  int root = c.fd(s);
  if (root < 0) {
    const long opened = call(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (opened < 0) return opened;
    root = static_cast<int>(opened);
  } else {
    const char* const path = c.text(s.a);
    long moved = *path == '\0' ? -ENOENT
                               : call(SYS_move_mount, root, "", AT_FDCWD, path,
                                      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
    // A user namespace's root may not search the directories above it.
    if (moved < 0) moved = call(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
    if (moved < 0) return moved;
  }
  c.walk.root_fd = root;
  return 0;
}

/// A new filesystem, by mount(2) on the held target: entered as the working directory, "." names
/// exactly the directory that was resolved, whatever happens to its path meanwhile.
long mount_fs(const Context& c, const Step& s) noexcept {
  const char* data = c.text(s.d);
  if (*data == '\0') data = nullptr;
  if (s.m == 2) {
    // Just made by us in a directory that nobody else can reach yet: the name is that directory.
    const long made = call(SYS_mkdirat, c.walk.dir_fd, c.text(s.a), 0755);
    if (made == 0) return call(SYS_mount, c.text(s.c), c.text(s.a), c.text(s.b), s.n, data);
  }
  const LocalFd target(s.m != 0 ? make_in_dir(c, c.text(s.a))
                                : resolve_or_make(c.walk, c.text(s.a), false, s.flags));
  if (!target.ok()) return target.error();
  const long entered = call(SYS_fchdir, target.get());
  if (entered < 0) return entered;
  const long mounted = call(SYS_mount, c.text(s.c), ".", c.text(s.b), s.n, data);
  return mounted == -EPERM && s.fd >= 0 ? attach(c.fd(s), target.get()) : mounted;
}

/// Made detached and filled before it is attached: what it hides is read from the very directory that
/// was resolved, and nobody can come between.
long mount_over(const Context& c, const Step& s) noexcept {
  const LocalFd there(resolve(c.walk, c.text(s.a), s.flags, kPathFlags));
  // A directory that is made for it has no mode to take: the filesystem's own it is, as with runc since 1.4.
  const bool takes_mode = there.ok() && (s.m & kInheritMode) != 0;
  const LocalFd target(there.ok() ? there.get()
                                  : resolve_or_make(c.walk, c.text(s.a), false, s.flags));
  if (!target.ok()) return target.error();
  const LocalFd fs(call(SYS_fsopen, c.text(s.b), static_cast<uint32_t>(FSOPEN_CLOEXEC)));
  if (!fs.ok()) return fs.error();
  call(SYS_fsconfig, fs.get(), kFsSetString, "source", c.text(s.c), 0);
  struct stat st{};
  if (takes_mode && call(SYS_newfstatat, target.get(), "", &st, AT_EMPTY_PATH) == 0) {
    take_mode(fs.get(), st.st_mode & 07777U);
  }
  return mount_context(c, s, fs.get(), target.get(), s.m & ~uint64_t{kInheritMode});
}

long mount_context(const Context& c, const Step& s, int fs, int target, uint64_t what) noexcept {
  long result = configure(fs, const_cast<char*>(c.text(s.d)));
  if (result < 0) return result;
  const LocalFd tree(call(SYS_fsmount, fs, static_cast<uint32_t>(FSMOUNT_CLOEXEC), s.n));
  if (!tree.ok()) return tree.error();
  if (what != 0) result = inherit(tree.get(), target, what);
  return result < 0 ? result : attach(tree.get(), target);
}

long bind(const Context& c, const Step& s) noexcept {
  const int tree = c.fd(s);
  if (s.b != 0 && is_symlink(tree)) return copy_symlink(c, s);
  LocalFd const target(resolve(c.walk, c.text(s.a), s.flags, target_flags(s)));
  if (target.error() == -ENOENT) {
    LocalFd const made(resolve_or_make(c.walk, c.text(s.a), is_file(tree), s.flags));
    if (!made.ok()) return made.error();
    return attach(tree, made.get());
  }
  if (!target.ok()) return target.error();
  return attach(tree, target.get());
}

/// For mounts in a directory that an earlier step made and nobody else can reach yet (the tmpfs above
/// the cgroup hierarchies): its names need no resolving.
long attach_in_dir(const Context& c, const Step& s) noexcept {
  const char* name = c.text(s.a);
  const long made = call(SYS_mkdirat, c.walk.dir_fd, name, 0755);
  if (made < 0 && made != -EEXIST) return made;
  // A path of the host, which this namespace still shows; the entered directory is the working one.
  if (s.fd < 0) return call(SYS_mount, c.text(s.b), name, nullptr, MS_BIND, nullptr);
  return call(SYS_move_mount, c.fd(s), "", c.walk.dir_fd, name, MOVE_MOUNT_F_EMPTY_PATH);
}

long remount(const Context& c, const Step& s) noexcept {
  if (s.a == 0) return set_attr(c.walk.dir_fd, recursive(s), s.n, s.m, s.b);
  const LocalFd target(resolve(c.walk, c.text(s.a), s.flags, kPathFlags));
  if (!target.ok()) return target.error();
  return set_attr(target.get(), recursive(s), s.n, s.m, s.b);
}

long target_propagation(const Context& c, const Step& s) noexcept {
  const LocalFd target(resolve(c.walk, c.text(s.a), s.flags, kPathFlags));
  if (!target.ok()) return target.error();
  return set_attr(target.get(), recursive(s), 0, 0, s.n);
}

/// Masked paths (runtime-spec): a file shows /dev/null, a directory an empty read-only one. Both come
/// as trees that the parent made and verified, never from the image (CVE-2025-31133). The first use
/// attaches the tree itself, later ones clone it: only an attached tree can be cloned here.
long mask(const Context& c, const Step& s) noexcept {
  if (s.m != 0) {
    const bool directory = s.d != 0;
    const long masked = mask_name(c, s, directory);
    return masked == -EINVAL || masked == -ENOTDIR ? mask_name(c, s, !directory) : masked;
  }
  const LocalFd target(resolve(c.walk, c.text(s.a), s.flags, kPathFlags));
  if (!target.ok()) return target.error();
  const bool directory = s.d != 0;
  const long masked = mask_target(c, s, target.get(), directory);
  return masked == -EINVAL || masked == -ENOTDIR ? mask_target(c, s, target.get(), !directory)
                                                 : masked;
}

/// Read-only paths: a recursive bind on itself whose top mount is read-only; its other flags stay.
long readonly_path(const Context& c, const Step& s) noexcept {
  if (s.n != 0) {
    // A name in the working directory, which is the procfs that an earlier step mounted.
    const char* name = c.text(s.a);
    const long bound = call(SYS_mount, name, name, nullptr, MS_BIND | MS_REC, nullptr);
    if (bound < 0) return bound;
    const MountAttr attr{MOUNT_ATTR_RDONLY, 0, 0, 0};
    return call(SYS_mount_setattr, AT_FDCWD, name, 0, &attr, static_cast<uint64_t>(sizeof attr));
  }
  const LocalFd target(resolve(c.walk, c.text(s.a), s.flags, kPathFlags));
  if (!target.ok()) return target.error();
  const LocalFd copy(clone_tree(target.get(), AT_RECURSIVE));
  if (!copy.ok()) return copy.error();
  const long set = set_attr(copy.get(), 0, MOUNT_ATTR_RDONLY, 0, 0);
  return set < 0 ? set : attach(copy.get(), target.get());
}

/// On the root's own descriptor: no path of the image is looked up for it (CVE-2026-115521).
long remount_root(const Context& c, const Step& s) noexcept {
  return set_attr(c.walk.root_fd, recursive(s), s.n, s.m, 0);
}

/// Without a pivot the host's mounts stay below the root, out of sight but in the namespace: the kernel
/// would take an unmasked procfs among them for a reason to let a user namespace inside mount another.
long detach(const Context& c, const Step& s) noexcept {
  const char* const path = c.text(s.a);
  const long gone = call(SYS_umount2, path, MNT_DETACH | UMOUNT_NOFOLLOW);
  if (gone == 0 || gone == -ENOENT || gone == -ENOTDIR) return 0;
  // Locked to the mount above it (a user namespace's copy): covered, which counts as masked.
  return call(SYS_mount, "tmpfs", path, "tmpfs", 0, nullptr);
}

/// pivot_root(".", ".") stacks the old root on the new one, where umount2(".") takes it away
/// (pivot_root(2), NOTES). Its mounts are slaves by now, so nothing propagates to the host.
/// n == 1 (no pivot): the root is moved over "/" and entered by chroot. n == 2: chroot alone.
long pivot(const Context& c, const Step& s) noexcept {
  // Only a shared old root is needed again: mount(2) takes "." for the new one, as it does not follow
  // to what is stacked there, and would cut the container's own volumes from their peers.
  LocalFd const old(s.n == 0 && s.m != 0
                        ? call(SYS_openat, AT_FDCWD, "/", kPathFlags | O_DIRECTORY, 0)
                        : -ENOENT);
  if (s.n == 0 && s.m != 0 && !old.ok()) return old.error();
  long result = call(SYS_fchdir, c.walk.root_fd);
  if (result < 0) return result;
  if (s.n == 0) {
    result = call(SYS_pivot_root, ".", ".");
    if (result < 0) return result;
    if (s.m != 0) {
      // The old root was left shared on request: taking it away must not reach the host.
      result = call(SYS_fchdir, old.get());
      if (result < 0) return result;
      result = call(SYS_mount, nullptr, ".", nullptr, MS_SLAVE | MS_REC, nullptr);
      if (result < 0) return result;
    }
    // The working directory was the new root all along and stays it.
    return call(SYS_umount2, ".", MNT_DETACH);
  }
  result = call(SYS_chroot, ".");
  return result < 0 ? result : call(SYS_chdir, "/");
}

}  // namespace amphora::init
