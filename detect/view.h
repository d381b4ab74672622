// SPDX-License-Identifier: Apache-2.0
// View: the container's files as its processes will see them, before the spec's mounts exist. Paths
// are resolved as the kernel would do inside: symlinks stay in the root, a later mount hides what
// lies under it, a bind shows its source. Everything is opened O_PATH, so that looking never blocks
// on a FIFO and never touches a device. Not here: which names are tried, and what the file is.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/fd.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

class View {
 public:
  /// `rootfs_fd` and `bundle_fd` (base of relative bind sources) are borrowed. With `mounts_made`
  /// the mounts are in place below `rootfs_fd` already and `mounts` is not looked at.
  static Result<View> make(int rootfs_fd, int bundle_fd, std::span<const oci::Mount> mounts,
                           bool mounts_made);

  /// The file at an absolute path of the container, O_PATH, never a symlink. The error's class is
  /// kNotFound where the container would not find it either, kUnsupported where only the mount
  /// itself could tell (a filesystem that is not mounted yet), else kSystem.
  Result<UniqueFd> lookup(const std::string& path);

  /// Takes what was only looked at, to be closed in one call with the rest.
  void done_with(UniqueFd fd);
  View(View&&) noexcept = default;
  View& operator=(View&&) = delete;
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  ~View();

 private:
  enum class Source : uint8_t {
    kBind,    ///< a file or directory of the host
    kEmpty,   ///< tmpfs, proc and the like: nothing a container could be started from
    kOpaque,  ///< an overlay, a disk: contents unknown until it is mounted
  };
  struct Mount {
    std::string path;  ///< where it really lands: absolute, clean, no symlinks
    Source source = Source::kEmpty;
    std::string from, type;
    UniqueFd fd;  ///< kBind: opened when first needed
  };
  /// A step of a walk. fd -1: a directory that only the mounts to come will make.
  struct Place {
    std::string path;  ///< "" is the root
    int fd = -1;
    UniqueFd owned;
    const Mount* opaque = nullptr;
  };

  View(int rootfs_fd, int bundle_fd) : rootfs_fd_(rootfs_fd), bundle_fd_(bundle_fd) {}

  Result<void> add(const oci::Mount& mount);
  Result<std::string> settle(const std::string& destination, std::string_view type);
  Mount* mount_at(std::string_view path);
  bool is_covered(std::string_view path) const;
  bool leads_to_mount(std::string_view path) const;
  Result<Place> walk(std::string path, bool may_miss);
  Result<Place> enter(const Place& from, const std::string& name);
  Result<Place> enter_mount(Mount& mount);

  int rootfs_fd_, bundle_fd_;
  std::vector<Mount> mounts_;
  std::vector<UniqueFd> spent_;
};

}  // namespace amphora::detect
