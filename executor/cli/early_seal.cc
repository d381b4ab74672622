// SPDX-License-Identifier: Apache-2.0
// Sealing before anything else: verbs that make processes run from a read-only clone of the program's
// own mount (CVE-2019-5736), which takes one more exec. Done before the libraries' constructors, so
// that the first image costs next to nothing; main checks again and takes the slow ways where mounts
// cannot be cloned.
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "executor/base/missing.h"
#include "executor/init/syscall.h"

namespace amphora::cli {
namespace {

using init::call;

bool is(const char* word, const char* wanted) noexcept {
  while (*word != '\0' && *word == *wanted) {
    ++word;
    ++wanted;
  }
  return *word == *wanted;
}

/// A superset is harmless: an argument that happens to be one of these words seals as well.
bool makes_processes(char** argv) noexcept {
  for (char** word = argv; *word != nullptr; ++word) {
    if (is(*word, "run") || is(*word, "create") || is(*word, "exec")) return true;
  }
  return false;
}

/// SAFETY: runs before constructors; system calls only. Any failure leaves it to main.
void seal(int, char** argv, char** envp) noexcept {
  if (!makes_processes(argv)) return;
  struct statfs fs{};
  if (call(SYS_statfs, "/proc/self/exe", &fs) < 0 || (fs.f_flags & ST_RDONLY) != 0) return;
  const long tree = call(SYS_open_tree, AT_FDCWD, "/proc/self/exe",
                         static_cast<uint32_t>(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (tree < 0) return;
  const MountAttr attr{.attr_set = MOUNT_ATTR_RDONLY};
  if (call(SYS_mount_setattr, static_cast<int>(tree), "", AT_EMPTY_PATH, &attr,
           static_cast<uint64_t>(sizeof attr)) == 0) {
    call(SYS_execveat, static_cast<int>(tree), "", argv, envp, AT_EMPTY_PATH);
  }
  call(SYS_close, static_cast<int>(tree));
}

/// Not const: the linker relocates this word, in a page that it makes read-only afterwards.
[[gnu::section(".preinit_array"), gnu::used]] void (*seal_entry)(int, char**, char**) = seal;

}  // namespace
}  // namespace amphora::cli
