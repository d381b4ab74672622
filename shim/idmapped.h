// SPDX-License-Identifier: Apache-2.0
// Id-mapped clones of directories, for root file systems of pods with a user namespace of their own
// (the options uidmap= and gidmap= that a snapshotter gives). What is mounted from them is rootfs's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::shim {

struct IdRange {
  uint32_t inside, outside, size;
};
struct IdMaps {
  std::vector<IdRange> uids, gids;
  bool empty() const noexcept { return uids.empty() && gids.empty(); }
};

/// "0:200000:65536", several with commas in between.
Result<std::vector<IdRange>> parse_id_ranges(std::string_view text);

/// A detached clone of the tree at `path` with these maps and more attributes (MOUNT_ATTR_*).
Result<UniqueFd> idmapped_clone(const std::string& path, const IdMaps& maps, uint64_t attributes);

/// A detached mount, attached at a directory that is made for it, until this object goes. Read-only: if
/// it outlives us, whoever clears the directory away cannot reach the layers through it.
class TemporaryMount {
 public:
  static Result<TemporaryMount> attach(int tree, std::string path);
  TemporaryMount(TemporaryMount&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryMount& operator=(TemporaryMount&&) = delete;
  ~TemporaryMount();
  const std::string& path() const noexcept { return path_; }

 private:
  explicit TemporaryMount(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace amphora::shim
