// SPDX-License-Identifier: Apache-2.0
// System call wrappers and the sealing of our own executable. See sys.h.
#include "executor/base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/missing.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U  // 6.3
#endif

namespace amphora::sys {
namespace {

int as_int(long result) noexcept { return static_cast<int>(result); }

/// COMPAT(kernel 5.1): for kernels or sandboxes without open_tree.
Result<UniqueFd> copy_to_memfd(int source) {
  int raw = sys::memfd_create("amphora", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (raw < 0 && errno == EINVAL) {
    raw = sys::memfd_create("amphora", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  }
  if (raw < 0) return fail_errno(errno, "make a memfd for our own executable");
  UniqueFd copy(raw);
  for (;;) {
    const ssize_t n = ::sendfile(copy.get(), source, nullptr, 1 << 30);
    if (n < 0) return fail_errno(errno, "copy our own executable");
    if (n == 0) break;
  }
  const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(copy.get(), F_ADD_SEALS, seals) != 0) {
    return fail_errno(errno, "seal the copy of our own executable");
  }
  return copy;
}

bool fd_is_sealed(int fd) noexcept {
  struct statvfs fs{};
  if (::fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0) return true;
  const int seals = ::fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

}  // namespace

int openat2(int dir_fd, const char* path, uint64_t flags, uint64_t mode,
            uint64_t resolve) noexcept {
  struct open_how how{};
  how.flags = flags;
  how.mode = mode;
  how.resolve = resolve;
  return as_int(::syscall(SYS_openat2, dir_fd, path, &how, sizeof how));
}

int open_tree(int dir_fd, const char* path, unsigned flags) noexcept {
  return as_int(::syscall(SYS_open_tree, dir_fd, path, flags));
}

int move_mount(int from_fd, const char* from, int to_fd, const char* to, unsigned flags) noexcept {
  return as_int(::syscall(SYS_move_mount, from_fd, from, to_fd, to, flags));
}

int mount_setattr(int dir_fd, const char* path, unsigned flags, const MountAttr& attr) noexcept {
  return as_int(::syscall(SYS_mount_setattr, dir_fd, path, flags, &attr, sizeof attr));
}

int fsopen(const char* type, unsigned flags) noexcept {
  return as_int(::syscall(SYS_fsopen, type, flags));
}

int fsconfig(int fs_fd, unsigned command, const char* key, const void* value, int aux) noexcept {
  return as_int(::syscall(SYS_fsconfig, fs_fd, command, key, value, aux));
}

int fsmount(int fs_fd, unsigned flags, unsigned attributes) noexcept {
  return as_int(::syscall(SYS_fsmount, fs_fd, flags, attributes));
}

int pidfd_open(pid_t pid, unsigned flags) noexcept {
  return as_int(::syscall(SYS_pidfd_open, pid, flags));
}

int pidfd_send_signal(int pidfd, int signal) noexcept {
  return as_int(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

int pidfd_getfd(int pidfd, int fd) noexcept {
  return as_int(::syscall(SYS_pidfd_getfd, pidfd, fd, 0));
}

int close_range(unsigned first, unsigned last, unsigned flags) noexcept {
  return as_int(::syscall(SYS_close_range, first, last, flags));
}

int memfd_create(const char* name, unsigned flags) noexcept {
  return as_int(::syscall(SYS_memfd_create, name, flags));
}

void close_all(std::vector<UniqueFd>& fds) noexcept {
  std::sort(fds.begin(), fds.end(),
            [](const UniqueFd& a, const UniqueFd& b) { return a.get() < b.get(); });
  for (size_t first = 0; first < fds.size();) {
    size_t last = first;
    while (last + 1 < fds.size() && fds[last + 1].get() == fds[last].get() + 1) ++last;
    const int from = fds[first].get();
    const int to = fds[last].get();
    for (size_t i = first; i <= last; ++i) fds[i].release();
    if (from >= 0) sys::close_range(static_cast<unsigned>(from), static_cast<unsigned>(to), 0);
    first = last + 1;
  }
  fds.clear();
}

pid_t clone3(const struct clone_args& args) noexcept {
  return static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
}

Result<UniqueFd> clone_tree(int dir_fd, const std::string& path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (recursive) flags |= AT_RECURSIVE;
  if (path.empty()) flags |= AT_EMPTY_PATH;
  const int fd = open_tree(dir_fd, path.c_str(), flags);
  if (fd < 0)
    return fail_errno(errno, "clone the mount of " + (path.empty() ? "a descriptor" : path));
  return UniqueFd(fd);
}

Result<UniqueFd> seal_executable(const char* path) {
  UniqueFd exe(::open(path, O_RDONLY | O_CLOEXEC));
  if (!exe) return fail_errno(errno, std::string("open ") + path);
  if (fd_is_sealed(exe.get())) return exe;
  const int tree = open_tree(exe.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
  if (tree >= 0) {
    UniqueFd sealed(tree);
    const MountAttr attr{.attr_set = MOUNT_ATTR_RDONLY};
    if (mount_setattr(tree, "", AT_EMPTY_PATH, attr) == 0) return sealed;
  }
  return copy_to_memfd(exe.get());
}

bool is_sealed() noexcept {
  struct statvfs fs{};
  if (::statvfs("/proc/self/exe", &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0) return true;
  // A memfd's link reads "/memfd:amphora (deleted)"; a path cannot be asked for seals.
  char link[64];
  const ssize_t n = ::readlink("/proc/self/exe", link, sizeof link);
  return n > 15 && std::strncmp(link, "/memfd:amphora ", 15) == 0;
}

Result<void> ensure_sealed(char* const argv[], char* const envp[]) {
  if (is_sealed()) return {};
  TRY_ASSIGN(const UniqueFd exe, seal_executable());
  ::syscall(SYS_execveat, exe.get(), "", argv, envp, AT_EMPTY_PATH);
  return fail_errno(errno, "re-execute from a sealed copy");
}

}  // namespace amphora::sys
