// SPDX-License-Identifier: Apache-2.0
// What the operations of the child share: access to the plan's text and descriptors, resolving paths
// below the container's root, and the operations themselves, one function each, by file:
// mounts.cc, nodes.cc, process.cc, handshake.cc. Each returns 0 or -errno.
#pragma once

#include <cstdint>

#include "executor/init/init.h"
#include "executor/init/syscall.h"

namespace amphora::init {

inline constexpr uint64_t kPathFlags = 0x200000 | 0x80000;  // O_PATH | O_CLOEXEC
inline constexpr uint32_t kPathMax = 4096;

struct Context {
  const View& view;
  Walk& walk;

  const char* text(uint32_t offset) const noexcept { return view.text + offset; }
  int fd(const Step& step) const noexcept { return fd_at(step.fd); }
  int fd_at(int64_t index) const noexcept {
    return index >= 0 && index < view.fd_count ? view.fds[index] : -1;
  }
  /// SAFETY: the table is this process's own copy (see View), as the text is.
  void set_fd(const Step& step, int fd) const noexcept {
    if (step.fd >= 0 && static_cast<uint32_t>(step.fd) < view.fd_count) {
      const_cast<int*>(view.fds)[step.fd] = fd;
    }
  }
};

/// openat2 with what a race or a sandbox makes of it: tried again, or done by hand (resolve.h).
long open_how(int dir, const char* path, uint64_t flags, uint64_t mode, uint64_t how) noexcept;
/// Opens `path` below the container's root as that root sees it (openat2 RESOLVE_IN_ROOT,
/// no magic links; with kNoFollow no symlink at all). Descriptor or -errno.
long resolve(const Walk& walk, const char* path, uint16_t step_flags, uint64_t flags) noexcept;
/// The same, and makes what is missing, component by component below held parents (CVE-2024-45310);
/// the last one is an empty file when `file` is set.
long resolve_or_make(const Walk& walk, const char* path, bool file, uint16_t step_flags) noexcept;

// mounts.cc
long attach_root(const Context& c, const Step& s) noexcept;
long mount_fs(const Context& c, const Step& s) noexcept;
long mount_over(const Context& c, const Step& s) noexcept;
long bind(const Context& c, const Step& s) noexcept;
long attach_in_dir(const Context& c, const Step& s) noexcept;
long remount(const Context& c, const Step& s) noexcept;
long target_propagation(const Context& c, const Step& s) noexcept;
long mask(const Context& c, const Step& s) noexcept;
long readonly_path(const Context& c, const Step& s) noexcept;
long remount_root(const Context& c, const Step& s) noexcept;
// trees.cc
long open_tree(const Context& c, const Step& s, uint16_t index) noexcept;
long detach(const Context& c, const Step& s) noexcept;
long pivot(const Context& c, const Step& s) noexcept;
/// Gives the filesystem context `fs` the options d, makes a mount with the attributes n of it that
/// takes `what` (Inherit) from the directory `target`, and attaches it there.
long mount_context(const Context& c, const Step& s, int fs, int target, uint64_t what) noexcept;
// view.cc
long keep_view(const Context& c, const Step& s) noexcept;
// procfs.cc
long mount_proc(const Context& c, const Step& s) noexcept;
// copy_tree.cc
/// Copies what directory `from` holds into the empty directory `to`. 0 or -errno.
long copy_tree(int from, int to) noexcept;
// nodes.cc
long enter_dir(const Context& c, const Step& s) noexcept;
long device_node(const Context& c, const Step& s) noexcept;
long make_symlink(const Context& c, const Step& s) noexcept;
long console(const Context& c, const Step& s) noexcept;
long stdio(const Context& c, const Step& s) noexcept;
long own_stdio(const Context& c, const Step& s) noexcept;
// process.cc
long join_cgroup(const Context& c, const Step& s) noexcept;
long enter_time_namespace(const Context& c, const Step& s) noexcept;
long become_root(const Context& c, const Step& s) noexcept;
long loopback_up(const Context& c, const Step& s) noexcept;
long write_proc(const Context& c, const Step& s) noexcept;
long session_keyring(const Context& c, const Step& s) noexcept;
long rlimit(const Context& c, const Step& s) noexcept;
long seccomp(const Context& c, const Step& s) noexcept;
long drop_bounding(const Context& c, const Step& s) noexcept;
long set_groups(const Context& c, const Step& s) noexcept;
long set_caps(const Context& c, const Step& s) noexcept;
long raise_ambient(const Context& c, const Step& s) noexcept;
long change_dir(const Context& c, const Step& s) noexcept;
long find_exe(const Context& c, const Step& s) noexcept;
long close_fds(const Context& c, const Step& s) noexcept;
long exec(const Context& c, const Step& s) noexcept;
long hook(const Context& c, const Step& s) noexcept;
// handshake.cc
/// Waits for kProceed from `where` (0: for the parent's own share); does not return when the parent is
/// gone.
long await_proceed(Walk& walk, int32_t where) noexcept;
long await(const Context& c, const Step& s) noexcept;
long rendezvous(const Context& c, const Step& s, uint16_t index) noexcept;
long fork(const Context& c, const Step& s, uint16_t index) noexcept;
long tidy(const Context& c, const Step& s) noexcept;
long ready(const Context& c, uint16_t index) noexcept;
long await_start(const Context& c, const Step& s) noexcept;
/// Sends one message with `text` behind it and at most one descriptor. 0 or -errno.
long send(const Walk& walk, const Message& message, const char* text, uint32_t size,
          int fd) noexcept;

}  // namespace amphora::init
