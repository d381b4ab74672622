// SPDX-License-Identifier: Apache-2.0
// Id-mapped clones. See idmapped.h.
#include "shim/idmapped.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/missing.h"
#include "executor/base/sys.h"

namespace amphora::shim {
namespace {

std::string map_text(const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& range : ranges) {
    text += std::to_string(range.inside) + " " + std::to_string(range.outside) + " " +
            std::to_string(range.size) + "\n";
  }
  return text;
}

/// Somebody must have the namespace while its maps are written: a child that does nothing.
class Holder {
 public:
  static Result<Holder> make() {
    int pidfd = -1;
    struct clone_args args{};
    args.flags = CLONE_NEWUSER | CLONE_PIDFD;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    args.exit_signal = SIGCHLD;
    const pid_t pid = sys::clone3(args);
    if (pid < 0) return fail_errno(errno, "make a user namespace");
    // SAFETY: the child makes system calls only, and is killed in a moment.
    if (pid == 0) {
      while (true) ::syscall(SYS_pause);
    }
    Holder holder;
    holder.pid_ = pid;
    holder.pidfd_ = UniqueFd(pidfd);
    return holder;
  }
  Holder(Holder&&) noexcept = default;
  Holder& operator=(Holder&&) = delete;
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() {
    if (!pidfd_) return;
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    siginfo_t info{};
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &info,
                    WEXITED) != 0 &&
           errno == EINTR) {
    }
  }
  std::string file(const char* name) const { return "/proc/" + std::to_string(pid_) + "/" + name; }

 private:
  Holder() = default;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
};

Result<UniqueFd> user_namespace(const IdMaps& maps) {
  TRY_ASSIGN(const Holder holder, Holder::make());
  TRY(write_file_at(AT_FDCWD, holder.file("uid_map"), map_text(maps.uids)));
  TRY(write_file_at(AT_FDCWD, holder.file("gid_map"), map_text(maps.gids)));
  return open_at(AT_FDCWD, holder.file("ns/user"), O_RDONLY);
}

}  // namespace

Result<std::vector<IdRange>> parse_id_ranges(std::string_view text) {
  std::vector<IdRange> ranges;
  const std::string_view whole = text;
  const auto number = [&](uint32_t& out, char after) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc()) return false;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (after == ',' && text.empty()) return true;
    if (!text.starts_with(after)) return false;
    text.remove_prefix(1);
    return true;
  };
  while (!text.empty()) {
    IdRange range{};
    if (!number(range.inside, ':') || !number(range.outside, ':') || !number(range.size, ',') ||
        range.size == 0) {
      return fail(Errc::kInvalid, "id map " + std::string(whole) +
                                      ": want INSIDE:OUTSIDE:SIZE, with commas between");
    }
    ranges.push_back(range);
  }
  return ranges;
}

Result<UniqueFd> idmapped_clone(const std::string& path, const IdMaps& maps, uint64_t attributes) {
  if (maps.uids.empty() || maps.gids.empty()) {
    return fail(Errc::kInvalid, "id map of " + path + ": uidmap and gidmap go together");
  }
  TRY_ASSIGN(const UniqueFd users, user_namespace(maps));
  UniqueFd tree(sys::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!tree) return fail_errno(errno, "clone " + path);
  MountAttr attr{};
  attr.attr_set = MOUNT_ATTR_IDMAP | attributes;
  attr.propagation = MS_PRIVATE;
  attr.userns_fd = static_cast<uint64_t>(users.get());
  if (sys::mount_setattr(tree.get(), "", AT_EMPTY_PATH, attr) != 0) {
    return fail_errno(errno, "map the ids of " + path);
  }
  return tree;
}

Result<TemporaryMount> TemporaryMount::attach(int tree, std::string path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, "create " + path);
  }
  if (::syscall(SYS_move_mount, tree, "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno(errno, "mount the layers on " + path);
  }
  return TemporaryMount(std::move(path));
}

TemporaryMount::~TemporaryMount() {
  if (path_.empty()) return;
  ::umount2(path_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  ::rmdir(path_.c_str());
}

}  // namespace amphora::shim
