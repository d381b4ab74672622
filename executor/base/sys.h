// SPDX-License-Identifier: Apache-2.0
// Thin wrappers of the system calls that libc lacks, and the only place for SYS_ numbers outside
// init/. Each returns what the kernel returns with errno set, as libc would; the two at the end are
// small compositions that everybody needs. Not here: policy.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/missing.h"

namespace amphora::sys {

int openat2(int dir_fd, const char* path, uint64_t flags, uint64_t mode, uint64_t resolve) noexcept;
int open_tree(int dir_fd, const char* path, unsigned flags) noexcept;
int move_mount(int from_fd, const char* from, int to_fd, const char* to, unsigned flags) noexcept;
int mount_setattr(int dir_fd, const char* path, unsigned flags, const MountAttr& attr) noexcept;
int fsopen(const char* type, unsigned flags) noexcept;
int fsconfig(int fs_fd, unsigned command, const char* key, const void* value, int aux) noexcept;
int fsmount(int fs_fd, unsigned flags, unsigned attributes) noexcept;
int pidfd_open(pid_t pid, unsigned flags) noexcept;
int pidfd_send_signal(int pidfd, int signal) noexcept;
int pidfd_getfd(int pidfd, int fd) noexcept;
int close_range(unsigned first, unsigned last, unsigned flags) noexcept;
int memfd_create(const char* name, unsigned flags) noexcept;

/// Closes all of them, neighbours in one call each.
void close_all(std::vector<UniqueFd>& fds) noexcept;

/// A child that continues in this address space's copy, as fork would give it, without running
/// libc's fork handlers: async-signal-safe code only. Returns as clone3 does.
/// SAFETY: the child may be made in a threaded process; see docs/process-model.md.
pid_t clone3(const struct clone_args& args) noexcept;

/// A detached copy of the mount tree at `dir_fd`/`path` (open_tree OPEN_TREE_CLONE).
Result<UniqueFd> clone_tree(int dir_fd, const std::string& path, bool recursive);

/// A descriptor of our own executable (or of `path` if given) on a detached read-only mount, for
/// execveat with AT_EMPTY_PATH; where mounts cannot be cloned, a sealed memfd copy. What runs from it
/// cannot be written through /proc/PID/exe (CVE-2019-5736).
Result<UniqueFd> seal_executable(const char* path = "/proc/self/exe");
/// True when our own executable already lies on a read-only mount or is a sealed memfd.
bool is_sealed() noexcept;
/// Re-executes this program from a sealed descriptor unless it already runs from one. Returns only
/// when nothing was to be done, or with why it could not.
Result<void> ensure_sealed(char* const argv[], char* const envp[]);

}  // namespace amphora::sys
