// SPDX-License-Identifier: Apache-2.0
// Paths below the container's root and what is made there: directories, device nodes, links, the
// console. Creating uses a held parent and one component at a time.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cstdint>

#include "executor/base/missing.h"
#include "executor/base/resolve.h"
#include "executor/init/context.h"
#include "executor/init/init.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

constexpr int kMaxLinks = 40;  // as the kernel's own walk

struct RawKernel {
  template <class... Args>
  static long call(long number, Args... args) noexcept {
    return init::call(number, args...);
  }
};

}  // namespace

long open_how(int dir, const char* path, uint64_t flags, uint64_t mode, uint64_t how) noexcept {
  const struct open_how request{flags, mode, how};
  long fd = 0;
  int attempts = 128;  // EAGAIN: raced with a rename (openat2(2)); bounded, the racer may go on
  do {
    fd = call(SYS_openat2, dir, path, &request, static_cast<uint64_t>(sizeof request));
  } while (fd == -EINTR || (fd == -EAGAIN && --attempts > 0));
  if (!openat2_is_blocked(fd)) return fd;
  return ResolveByHand<RawKernel>(dir, how).open(path, flags, mode);
}

namespace {

using Path = PathText;  // under construction, for links met on the way to something missing

uint32_t length(const char* text) noexcept {
  uint32_t n = 0;
  while (text[n] != '\0') ++n;
  return n;
}

/// The component [start, end) of `path` is a link that leads nowhere: continue at its target.
/// `path` becomes target + rest. 0 or -errno.
long follow_dangling(int parent, Path& path, uint32_t start, uint32_t end) noexcept {
  char name[256];
  char target[kPathMax];
  const uint32_t n = end - start;
  if (n >= sizeof name) return -ENAMETOOLONG;
  for (uint32_t i = 0; i < n; ++i) name[i] = path.text[start + i];
  name[n] = '\0';
  const long size = call(SYS_readlinkat, parent, name, target, static_cast<int>(sizeof target - 1));
  if (size < 0) return size;
  Path next;
  if (target[0] != '/' && !next.append(path.text, start)) return -ENAMETOOLONG;
  if (!next.append(target, static_cast<uint32_t>(size))) return -ENAMETOOLONG;
  if (!next.append(path.text + end, path.size - end)) return -ENAMETOOLONG;
  path = next;
  return 0;
}

struct Component {
  uint32_t start, end;
  bool last;
};

bool next_component(const Path& path, uint32_t from, Component& part) noexcept {
  while (path.text[from] == '/') ++from;
  if (path.text[from] == '\0') return false;
  part.start = from;
  while (path.text[from] != '/' && path.text[from] != '\0') ++from;
  part.end = from;
  while (path.text[from] == '/') ++from;
  part.last = path.text[from] == '\0';
  return true;
}

long make_one(int parent, const Path& path, const Component& part, bool file) noexcept {
  char name[256];
  const uint32_t n = part.end - part.start;
  if (n >= sizeof name) return -ENAMETOOLONG;
  for (uint32_t i = 0; i < n; ++i) name[i] = path.text[part.start + i];
  name[n] = '\0';
  if (!file || !part.last) return call(SYS_mkdirat, parent, name, 0755);
  // Not by open: a descriptor open for writing would keep the mount from becoming read-only (EBUSY).
  return call(SYS_mknodat, parent, name, S_IFREG | 0644, 0);
}

}  // namespace

long resolve(const Walk& walk, const char* path, uint16_t step_flags, uint64_t flags) noexcept {
  uint64_t how = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  if ((step_flags & kNoFollow) != 0) how |= RESOLVE_NO_SYMLINKS;
  return open_how(walk.root_fd, path, flags, 0, how);
}

long resolve_or_make(const Walk& walk, const char* wanted, bool file,
                     uint16_t step_flags) noexcept {
  const long there = resolve(walk, wanted, step_flags, kPathFlags);
  if (there != -ENOENT) return there;
  Path path;
  if (!path.append("/", 1) || !path.append(wanted, length(wanted))) return -ENAMETOOLONG;
  int links = 0;
  Component part{};
  // Mostly only the last component is missing: begin at its parent when that is there.
  uint32_t at = path.size;
  while (at > 1 && path.text[at - 1] == '/') --at;
  while (at > 1 && path.text[at - 1] != '/') --at;
  const char cut_at = path.text[at];
  path.text[at] = '\0';
  long parent = resolve(walk, path.text, step_flags, kPathFlags);
  path.text[at] = cut_at;
  if (parent == -ENOENT) {
    parent = open_how(walk.root_fd, "/", kPathFlags, 0, RESOLVE_IN_ROOT);
    at = 0;
  }
  bool known_missing = at != 0;  // the whole path was just looked up
  while (parent >= 0 && next_component(path, at, part)) {
    const char cut = path.text[part.end];
    path.text[part.end] = '\0';
    long fd = known_missing ? -ENOENT : resolve(walk, path.text, step_flags, kPathFlags);
    known_missing = false;
    path.text[part.end] = cut;
    if (fd == -ENOENT) {
      const long made = make_one(static_cast<int>(parent), path, part, file);
      if (made == -EEXIST && links < kMaxLinks) {
        // Somebody's link to a missing place, or a racer: follow the link inside the root.
        ++links;
        const long followed = follow_dangling(static_cast<int>(parent), path, part.start, part.end);
        call(SYS_close, static_cast<int>(parent));
        if (followed < 0) return followed;
        parent = open_how(walk.root_fd, "/", kPathFlags, 0, RESOLVE_IN_ROOT);
        at = 0;
        continue;
      }
      if (made == 0) {
        path.text[part.end] = '\0';
        fd = resolve(walk, path.text, step_flags | kNoFollow, kPathFlags);
        if (fd == -ELOOP) fd = resolve(walk, path.text, step_flags, kPathFlags);
        path.text[part.end] = cut;
      } else {
        fd = made;
      }
    }
    call(SYS_close, static_cast<int>(parent));
    parent = fd;
    at = part.end;
  }
  return parent;
}

/// Opened without following any link: an image's /dev that is one must not lead elsewhere
/// (CVE-2026-41579).
long enter_dir(const Context& c, const Step& s) noexcept {
  if (s.m == kUseKept && c.walk.kept_fd >= 0) {
    c.walk.dir_fd = c.walk.kept_fd;
    return 0;
  }
  const uint16_t flags = s.flags | kNoFollow;
  const long fd = (s.flags & kCreate) != 0
                      ? resolve_or_make(c.walk, c.text(s.a), false, flags)
                      : resolve(c.walk, c.text(s.a), flags, kPathFlags | O_DIRECTORY);
  c.walk.dir_fd = static_cast<int>(fd);
  if (fd < 0) return fd;
  if (s.m == kKeep) c.walk.kept_fd = c.walk.dir_fd;
  return s.n != 0 ? call(SYS_fchdir, c.walk.dir_fd) : 0;
}

/// mknod(2); umask is 0, so the mode is exact. What exists already must be the very same device.
long device_node(const Context& c, const Step& s) noexcept {
  const char* name = c.text(s.a);
  const long made = call(SYS_mknodat, c.walk.dir_fd, name, s.n, s.m);
  if (made == -EEXIST) {
    struct stat st{};
    const long found = call(SYS_newfstatat, c.walk.dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);
    if (found < 0) return found;
    const bool same = (st.st_mode & S_IFMT) == (s.n & S_IFMT) && st.st_rdev == s.m;
    return same ? 0 : -EEXIST;
  }
  if (made < 0 || (s.c == 0 && s.d == 0)) return made;
  return call(SYS_fchownat, c.walk.dir_fd, name, s.c, s.d, AT_SYMLINK_NOFOLLOW);
}

long make_symlink(const Context& c, const Step& s) noexcept {
  const long made = call(SYS_symlinkat, c.text(s.b), c.walk.dir_fd, c.text(s.a));
  return made == -EEXIST ? 0 : made;
}

/// The terminal: a pty of the container's own devpts, proven to be one (magic, device 5:2); the slave
/// comes from the master by TIOCGPTPEER, so no path of the image is trusted (CVE-2025-52565).
long console(const Context& c, const Step& s) noexcept {
  LocalFd const master(
      resolve(c.walk, "/dev/pts/ptmx", kNoFollow, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  if (!master.ok()) return master.error();
  struct statfs fs{};
  struct stat st{};
  if (call(SYS_fstatfs, master.get(), &fs) < 0 || fs.f_type != 0x1cd1 ||
      call(SYS_newfstatat, master.get(), "", &st, AT_EMPTY_PATH) < 0 || !S_ISCHR(st.st_mode) ||
      st.st_rdev != makedev(5, 2)) {
    return -ENODEV;
  }
  // Not blocking was for what might have been there instead; who gets the master expects a plain one.
  long result = call(SYS_fcntl, master.get(), F_SETFL, O_RDWR);
  if (result < 0) return result;
  int unlock = 0;
  result = call(SYS_ioctl, master.get(), TIOCSPTLCK, &unlock);
  if (result < 0) return result;
  LocalFd const slave(call(SYS_ioctl, master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave.ok()) return slave.error();
  const struct winsize size{static_cast<unsigned short>(s.n >> 16),
                            static_cast<unsigned short>(s.n & 0xffff), 0, 0};
  if (s.n != 0) call(SYS_ioctl, slave.get(), TIOCSWINSZ, &size);
  if (s.m != 0) {
    const LocalFd tree(
        call(SYS_open_tree, slave.get(), "",
             static_cast<uint32_t>(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)));
    if (!tree.ok()) return tree.error();
    const LocalFd target(resolve_or_make(c.walk, "/dev/console", true, kNoFollow));
    if (!target.ok()) return target.error();
    result = call(SYS_move_mount, tree.get(), "", target.get(), "",
                  MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (result < 0) return result;
  }
  result = send(c.walk, Message{MessageKind::kConsole, 0, 0, 0}, nullptr, 0, master.get());
  if (result < 0) return result;
  // The master's owner sets the window and its own modes before the program can write a byte.
  const long ready = await_proceed(c.walk, static_cast<int32_t>(Rendezvous::kTerminal));
  if (ready < 0) return ready;
  result = s.c != 0 ? 0 : call(SYS_ioctl, slave.get(), TIOCSCTTY, 0);
  if (result < 0) return result;
  for (int n = 0; n < 3; ++n) {
    result = call(SYS_dup3, slave.get(), n, 0);
    if (result < 0) return result;
  }
  return 0;
}

long stdio(const Context& c, const Step& s) noexcept {
  const long result = call(SYS_dup3, c.fd(s), s.n, 0);
  return result < 0 ? result : 0;
}

/// The payload's user must be able to reopen /dev/stdout: pipes, sockets and ttys become its own.
/// Regular files and devices such as /dev/null keep their owner (CVE-2026-88265), and what cannot be
/// given (read-only, foreign) is no failure, as with runc.
long own_stdio(const Context&, const Step& s) noexcept {
  for (int fd = 0; fd < 3; ++fd) {
    struct stat st{};
    if (call(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) < 0 || st.st_uid == s.n) continue;
    const bool tty = S_ISCHR(st.st_mode) && major(st.st_rdev) >= 136 && major(st.st_rdev) <= 143;
    if (!tty && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)) continue;
    call(SYS_fchown, fd, s.n, s.m == UINT64_MAX ? static_cast<uint64_t>(st.st_gid) : s.m);
  }
  return 0;
}

}  // namespace amphora::init
