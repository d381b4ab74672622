// SPDX-License-Identifier: Apache-2.0
// The container's root file system as containerd's snapshotter describes it: mounts, made on the
// bundle's rootfs in the host's mount namespace, and taken away again. Mounts of the spec are
// setup's, inside the container.
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "shim/idmapped.h"

namespace amphora::shim {

/// One entry of CreateTaskRequest.rootfs.
struct RootfsMount {
  std::string type, source, target;
  std::vector<std::string> options;
};

/// What mount(2) gets: flags, those that need a second or third call, and the file system's data.
struct ParsedOptions {
  unsigned long flags = 0;
  unsigned long propagation = 0;
  bool loop = false;
  std::string data;
  std::vector<std::string> lower;  ///< overlay: lowerdir's elements
  IdMaps ids;                      ///< of the pod's user namespace
  bool is_bind() const noexcept;
};
Result<ParsedOptions> parse_mount_options(const std::vector<std::string>& options);

/// Mounts the entries in order on `rootfs` (created when missing). On failure nothing stays mounted.
Result<void> mount_rootfs(const std::vector<RootfsMount>& mounts, const std::string& rootfs);

/// Unmounts whatever is mounted on `rootfs` and below. No mount is no error; a busy one is detached.
Result<void> unmount_rootfs(const std::string& rootfs);

/// Something is mounted on it.
bool is_mount_point(const std::string& path);

}  // namespace amphora::shim
