// SPDX-License-Identifier: Apache-2.0
// See preopens.h.
#include "wasm/host/preopens.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "executor/init/context.h"

namespace amphora::wasm {
namespace {

/// Top-level directories of a rootfs; more than these are reached through "/" only.
constexpr size_t kMaxTopLevel = 64;

/// A directory that the payload may search but not list still opens by O_PATH. One that it may not even
/// search is of no use, and an engine that steps into it would fail.
template <class Open>
int listed_or_not(Open open) noexcept {
  int fd = open(O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) return fd;
  fd = open(O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fd;
  const int searched = ::openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int err = errno;
  ::close(fd);
  errno = err;
  return searched;
}

}  // namespace

int Preopens::open_directory(const char* path) const noexcept {
  // The process is in it already, also where this user could not go any more.
  const bool is_cwd = std::strcmp(path, handover_.cwd) == 0;
  if (walk_.view_root < 0) {
    return listed_or_not([&](int flags) { return ::open(is_cwd ? "." : path, flags); });
  }
  if (is_cwd && walk_.view_cwd >= 0) {
    return listed_or_not([&](int flags) { return ::openat(walk_.view_cwd, ".", flags); });
  }
  return listed_or_not([&](int flags) {
    const long fd = init::open_how(walk_.view_root, path, static_cast<uint64_t>(flags), 0,
                                   RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    if (fd < 0) errno = static_cast<int>(-fd);
    return static_cast<int>(fd < 0 ? -1 : fd);
  });
}

bool Preopens::add(int fd, const char* guest, uint32_t read_only) {
  if (fd >= 0) list_.push_back({fd, guest, read_only});
  return fd >= 0;
}

/// wasi-libc (and all languages built on it) strips the leading "/" of absolute paths before it looks
/// for the longest preopen, so "/" and "." are the same to it and the later one wins. With a cwd other
/// than "/", relative paths must reach it and absolute ones the root: hence a preopen for each
/// top-level directory, and "." last. Go takes the first preopen's name for its cwd, Zig descriptor 3.
void Preopens::open_root() {
  const char* cwd = handover_.cwd;
  const bool elsewhere = cwd[0] == '/' && std::strcmp(cwd, "/") != 0;
  if (elsewhere) add(open_directory(cwd), cwd);
  add(open_directory("/"), "/");
  if (!elsewhere) return;
  open_top_level();
  add(open_directory(cwd), ".");
}

/// Empty ones of the kernel's, too: else "/proc/x" would be the working directory's "proc/x".
void Preopens::open_top_level() {
  const int fd = open_directory("/");
  DIR* root = fd < 0 ? nullptr : ::fdopendir(fd);
  if (root == nullptr) {
    if (fd >= 0) ::close(fd);
    return;
  }
  names_.reserve(kMaxTopLevel);  // the preopens point into it
  while (const dirent* entry = ::readdir(root)) {
    if (names_.size() == kMaxTopLevel) break;
    if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_LNK)) continue;
    names_.push_back(std::string("/") + entry->d_name);
    if (names_.back() == handover_.cwd) continue;
    add(open_directory(names_.back().c_str()), names_.back().c_str());
  }
  ::closedir(root);
}

const char* Preopens::open() {
  if ((handover_.flags & kPreopensGiven) == 0) {
    open_root();
    return nullptr;
  }
  const std::vector<const char*>& given = handover_.preopens;
  for (size_t i = 0; i + 2 < given.size(); i += 3) {
    // Files of the kernel that the container's own annotation names are asked for.
    const int fd = is_of_kernel_files(given[i])
                       ? listed_or_not([&](int flags) { return ::open(given[i], flags); })
                       : open_directory(given[i]);
    if (!add(fd, given[i + 1], std::strcmp(given[i + 2], "ro") == 0 ? 1 : 0)) return given[i];
  }
  return nullptr;
}

}  // namespace amphora::wasm
