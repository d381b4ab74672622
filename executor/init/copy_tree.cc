// SPDX-License-Identifier: Apache-2.0
// Copying a directory into a tmpfs that is about to hide it (the mount option tmpcopyup): entries,
// owners, modes, times, extended attributes and symbolic links, by descriptors alone. The tree is the
// image's: no link in it is followed, what is no regular file is never opened, and its depth is
// bounded, as each level has a frame on the child's stack.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include <cstdint>

#include "executor/init/context.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

constexpr unsigned kMaxDepth = 128;
constexpr uint64_t kXattrListMax = 8192;
constexpr uint64_t kXattrValueMax = 65536;  // XATTR_SIZE_MAX

/// struct linux_dirent64 (getdents64(2)).
struct Entry {
  uint64_t inode;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[];
};

void close_fd(int fd) noexcept { call(SYS_close, fd); }

/// What tmpfs cannot hold (user.* before 6.6) stays behind; every other failure counts.
long copy_xattrs(int from, int to) noexcept {
  char names[kXattrListMax];
  char value[kXattrValueMax];
  const long size = call(SYS_flistxattr, from, names, kXattrListMax);
  if (size == -EOPNOTSUPP) return 0;
  if (size < 0) return size;
  for (long at = 0; at < size;) {
    const char* name = names + at;
    while (names[at] != '\0') ++at;
    ++at;
    const long got = call(SYS_fgetxattr, from, name, value, kXattrValueMax);
    if (got == -ENODATA) continue;  // taken away meanwhile
    if (got < 0) return got;
    const long set = call(SYS_fsetxattr, to, name, value, static_cast<uint64_t>(got), 0);
    if (set < 0 && set != -EOPNOTSUPP) return set;
  }
  return 0;
}

/// The owner first: chown(2) takes set-id bits away. Times last, as all else changes them.
long copy_attributes(int from, int to, const struct stat& st) noexcept {
  long result = call(SYS_fchown, to, st.st_uid, st.st_gid);
  if (result == 0) result = call(SYS_fchmod, to, st.st_mode & 07777U);
  if (result == 0) result = copy_xattrs(from, to);
  if (result < 0) return result;
  const struct timespec times[2] = {st.st_atim, st.st_mtim};
  return call(SYS_utimensat, to, nullptr, times, 0);
}

long copy_bytes(int from, int to) noexcept {
  for (;;) {
    const long n = call(SYS_sendfile, to, from, nullptr, uint64_t{1} << 30);
    if (n == -EINTR) continue;
    if (n <= 0) return n;
  }
}

long copy_file(int from_dir, int to_dir, const char* name) noexcept {
  const long from = call(SYS_openat, from_dir, name,
                         O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
  if (from < 0) return from;
  struct stat st{};
  long result = call(SYS_newfstatat, static_cast<int>(from), "", &st, AT_EMPTY_PATH);
  if (result == 0 && !S_ISREG(st.st_mode)) result = -ESTALE;  // swapped meanwhile
  const long to = result < 0 ? result
                             : call(SYS_openat, to_dir, name,
                                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (to >= 0) {
    result = copy_bytes(static_cast<int>(from), static_cast<int>(to));
    if (result == 0) result = copy_attributes(static_cast<int>(from), static_cast<int>(to), st);
    close_fd(static_cast<int>(to));
  } else {
    result = to;
  }
  close_fd(static_cast<int>(from));
  return result;
}

long copy_link(int from_dir, int to_dir, const char* name, const struct stat& st) noexcept {
  char target[kPathMax];
  const long size = call(SYS_readlinkat, from_dir, name, target, kPathMax - 1);
  if (size < 0) return size;
  target[size] = '\0';
  const long made = call(SYS_symlinkat, target, to_dir, name);
  if (made < 0) return made;
  return call(SYS_fchownat, to_dir, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
}

/// FIFOs, sockets and devices. The child's umask is 0, so the mode is exact.
long copy_node(int to_dir, const char* name, const struct stat& st) noexcept {
  const long made = call(SYS_mknodat, to_dir, name, st.st_mode, st.st_rdev);
  if (made < 0) return made;
  return call(SYS_fchownat, to_dir, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
}

long copy_entries(int from, int to, unsigned depth) noexcept;

long copy_directory(int from_dir, int to_dir, const char* name, unsigned depth) noexcept {
  if (depth == kMaxDepth) return -ELOOP;
  constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  const long made = call(SYS_mkdirat, to_dir, name, 0700);
  if (made < 0) return made;
  const long from = call(SYS_openat, from_dir, name, kDirectory, 0);
  if (from < 0) return from;
  const long to = call(SYS_openat, to_dir, name, kDirectory, 0);
  long result = to;
  if (to >= 0) {
    struct stat st{};
    result = copy_entries(static_cast<int>(from), static_cast<int>(to), depth + 1);
    if (result == 0) result = call(SYS_newfstatat, static_cast<int>(from), "", &st, AT_EMPTY_PATH);
    if (result == 0) result = copy_attributes(static_cast<int>(from), static_cast<int>(to), st);
    close_fd(static_cast<int>(to));
  }
  close_fd(static_cast<int>(from));
  return result;
}

long copy_one(int from, int to, const char* name, unsigned depth) noexcept {
  struct stat st{};
  const long found = call(SYS_newfstatat, from, name, &st, AT_SYMLINK_NOFOLLOW);
  if (found < 0) return found == -ENOENT ? 0 : found;  // gone meanwhile
  if (S_ISDIR(st.st_mode)) return copy_directory(from, to, name, depth);
  if (S_ISREG(st.st_mode)) return copy_file(from, to, name);
  if (S_ISLNK(st.st_mode)) return copy_link(from, to, name, st);
  return copy_node(to, name, st);
}

bool is_dots(const char* name) noexcept {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

long copy_entries(int from, int to, unsigned depth) noexcept {
  alignas(Entry) char buffer[1024];
  for (;;) {
    const long size = call(SYS_getdents64, from, buffer, static_cast<uint32_t>(sizeof buffer));
    if (size <= 0) return size;
    for (long at = 0; at < size;) {
      // SAFETY: the kernel fills the buffer with whole, aligned records.
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->size;
      if (is_dots(entry->name)) continue;
      const long copied = copy_one(from, to, entry->name, depth);
      if (copied < 0) return copied;
    }
  }
}

}  // namespace

long copy_tree(int from, int to) noexcept {
  const long result = copy_entries(from, to, 0);
  return result < 0 ? result : copy_xattrs(from, to);
}

}  // namespace amphora::init
