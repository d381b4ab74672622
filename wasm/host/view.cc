// SPDX-License-Identifier: Apache-2.0
// See view.h.
#include "wasm/host/view.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "executor/base/missing.h"

namespace amphora::wasm {
namespace {

int root_place(int socket) noexcept { return socket + 1; }
int tree_place(int socket) noexcept { return socket + 2; }

}  // namespace

void enter_view(int socket, char* const argv[]) noexcept {
  const int exe = ::open("/proc/self/exe", O_PATH | O_CLOEXEC);
  const int root = ::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  const auto tree = static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  const MountAttr attr{.attr_set = MOUNT_ATTR_RDONLY};
  if (exe < 0 || root < 0 || tree < 0 ||
      ::syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) !=
          0) {
    return;
  }
  // Beyond their places first: dup2 must not hit one of the others.
  const int beyond = tree_place(socket) + 1;
  const int kept_exe = ::fcntl(exe, F_DUPFD_CLOEXEC, beyond);
  const int kept_root = ::fcntl(root, F_DUPFD_CLOEXEC, beyond);
  const int kept_tree = ::fcntl(tree, F_DUPFD_CLOEXEC, beyond);
  if (kept_exe < 0 || kept_root < 0 || kept_tree < 0) return;
  // Open until the engine is loaded: the tree's mounts end with its last descriptor.
  if (::dup2(kept_root, root_place(socket)) < 0 || ::dup2(kept_tree, tree_place(socket)) < 0)
    return;
  std::vector<char*> words;
  for (char* const* word = argv; *word != nullptr; ++word) words.push_back(*word);
  words.push_back(const_cast<char*>("--view"));
  words.push_back(const_cast<char*>("1"));
  words.push_back(nullptr);
  if (::fchdir(kept_tree) == 0 && ::chroot(".") == 0) {
    ::syscall(SYS_execveat, kept_exe, "", words.data(), environ, AT_EMPTY_PATH);
  }
  if (::fchdir(kept_root) != 0 || ::chroot(".") != 0) ::_exit(125);
}

bool leave_view(int socket) noexcept {
  const bool left = ::fchdir(root_place(socket)) == 0 && ::chroot(".") == 0;
  ::close(root_place(socket));
  ::close(tree_place(socket));
  return left;
}

}  // namespace amphora::wasm
