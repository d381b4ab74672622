// SPDX-License-Identifier: Apache-2.0
// Mount options: the words of a mount's `options` sorted into what the kernel's two mount
// interfaces want of them (MS_ flags for mount(2), MOUNT_ATTR_ for mount_setattr(2)) and what is
// left for the filesystem. Pure; which steps follow from them is decided in mounts.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::setup {

struct MountOptions {
  uint64_t ms_flags =
      0;  ///< MS_* for mount(2); no propagation, no MS_BIND, no MS_REC, no MS_REMOUNT
  uint64_t ms_clear = 0;  ///< MS_* that the options asked to be off ("suid"); later words win
  /// The same per-mount flags as MOUNT_ATTR_*, for the top mount of a bind. A change of access
  /// times puts the whole MOUNT_ATTR__ATIME field into attr_clr, as the kernel demands. As with
  /// mount(8) and runc, a bind that asks for any flag loses those of its source that it does not
  /// name, so attr_clr has them all; without any, both are 0 and the source's flags stay.
  uint64_t attr_set = 0, attr_clr = 0;
  bool sets_atime = false;  ///< a setting of access times was named
  /// attr_clr with only what the options named: for binds inside a user namespace, where the flags
  /// of the source are locked and clearing one of them is EPERM, and for "remount".
  uint64_t attr_clr_named = 0;
  uint64_t rec_set = 0, rec_clr = 0;  ///< MOUNT_ATTR_* for the whole tree ("rro"), AT_RECURSIVE
  std::vector<uint64_t> propagation;  ///< MS_SHARED..., each with or without MS_REC, in their order
  bool bind = false;                  ///< "bind" or "rbind", or the mount's type is "bind"
  bool recursive_bind = false;        ///< "rbind"
  bool remount = false;               ///< "remount"
  bool idmap = false;                 ///< "idmap" or "ridmap", or the mount has mappings
  bool recursive_idmap = false;       ///< "ridmap"
  bool copy_up = false;               ///< "tmpcopyup"
  bool copy_symlink = false;          ///< "copy-symlink": a source that is a symlink is copied
  bool dest_nofollow = false;         ///< "dest-nofollow"
  bool src_nofollow = false;          ///< "src-nofollow"
  std::string data;                   ///< everything else, joined by ','
  std::string idmap_spec;             ///< of "idmap=uids=...;gids=..." (crun's form), else empty

  /// True when a bind has something to change on its top mount.
  bool changes_mount() const noexcept { return (attr_set | attr_clr) != 0; }
};

/// kInvalid names the option. A bind with options for a filesystem is refused, as runc does.
Result<MountOptions> parse_mount_options(const oci::Mount& mount);

/// Every word of the table, sorted, for the `features` document.
std::vector<std::string> known_mount_options();

}  // namespace amphora::setup
