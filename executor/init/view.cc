// SPDX-License-Identifier: Apache-2.0
// The view of the root that a wasm guest gets in place of the root itself (decision 0020): all its mounts,
// and nothing of the kernel's own files.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>

#include <cstdint>

#include "executor/init/context.h"
#include "executor/init/step.h"
#include "executor/init/syscall.h"

namespace amphora::init {
namespace {

constexpr char kOwnMounts[] = "self/ns/mnt";

bool is_missing(long error) noexcept {
  return error == -ENOENT || error == -ENOTDIR || error == -ELOOP;
}

/// Hides each directory of the list below one empty read-only filesystem. Nothing but this process is in
/// the copy yet, so its names may be looked up; a link leads nowhere but below the container's root.
long cover(const char* path) noexcept {
  const char* covered = nullptr;
  while (*path != '\0') {
    const long result =
        covered != nullptr
            ? call(SYS_mount, covered, path, nullptr, MS_BIND, nullptr)
            : call(SYS_mount, "tmpfs", path, "tmpfs",
                   static_cast<uint64_t>(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC),
                   "nr_inodes=1");
    if (result < 0 && !is_missing(result)) return result;
    if (result == 0) covered = path;
    while (*path != '\0') ++path;
    ++path;
  }
  return 0;
}

long open_view(const Context& c, const Step& s) noexcept {
  // What a volume gets from the host later is seen in the copy, too; nothing done here leaves it.
  long result = call(SYS_mount, nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr);
  if (result == 0) result = cover(c.text(s.a));
  if (result < 0) return result;
  const LocalFd root(call(SYS_openat, AT_FDCWD, "/", kPathFlags | O_DIRECTORY, 0));
  if (!root.ok()) return root.error();
  const LocalFd ns(call(SYS_openat, c.fd(s), kOwnMounts, O_RDONLY | O_CLOEXEC, 0));
  if (!ns.ok()) return ns.error();
  c.walk.view_root = root.get();
  c.walk.view_ns = ns.get();
  if (s.b == 0) return 0;
  // Before the user changes, who may not search the way there; one that is not there yet is looked up later.
  const LocalFd cwd(open_how(root.get(), c.text(s.b), kPathFlags | O_DIRECTORY, 0,
                             RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS));
  c.walk.view_cwd = cwd.ok() ? cwd.get() : -1;
  return 0;
}

}  // namespace

/// unshare(2) copies the mount namespace, and setns(2) goes back to the container's, which exec, hooks and
/// everybody who looks at /proc/PID/ns find as the spec has it. A namespace that belongs to another user
/// namespace (only one that was joined can) is not to be entered again: then the copy is this process's.
long keep_view(const Context& c, const Step& s) noexcept {
  const LocalFd own(call(SYS_openat, c.fd(s), kOwnMounts, O_RDONLY | O_CLOEXEC, 0));
  if (!own.ok()) return own.error();
  long result = call(SYS_unshare, CLONE_NEWNS);
  if (result < 0) return result;
  result = open_view(c, s);
  if (result < 0) return result;
  result = call(SYS_setns, own.get(), CLONE_NEWNS);
  return result == -EPERM ? 0 : result;
}

}  // namespace amphora::init
