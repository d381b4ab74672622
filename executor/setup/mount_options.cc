// SPDX-License-Identifier: Apache-2.0
// Mount options. See mount_options.h.
#include "executor/setup/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/missing.h"
#include "executor/oci/spec.h"

namespace amphora::setup {
namespace {

enum class Kind : uint8_t {
  kFlag,    ///< value: MS_*
  kClear,   ///< value: MS_* to be off
  kRecSet,  ///< value: MOUNT_ATTR_* for the whole tree
  kRecClear,
  kRecAtime,     ///< value: one of the MOUNT_ATTR__ATIME settings, for the whole tree
  kPropagation,  ///< value: MS_*
  kSwitch,       ///< value: a member of Switch
  kNothing,
};

/// The words that are neither flags nor attributes.
enum Switch : uint64_t {
  kBindSwitch,
  kRbindSwitch,
  kRemountSwitch,
  kIdmapSwitch,
  kRidmapSwitch,
  kCopyUpSwitch,
  kCopySymlinkSwitch,
  kDestNofollowSwitch,
  kSrcNofollowSwitch,
};

struct Option {
  std::string_view word;
  Kind kind;
  uint64_t value;
};

/// Sorted, for the binary search and for known_mount_options.
constexpr std::array kOptions = {
    Option{"async", Kind::kClear, MS_SYNCHRONOUS},
    Option{"atime", Kind::kClear, MS_NOATIME},
    Option{"bind", Kind::kSwitch, kBindSwitch},
    Option{"copy-symlink", Kind::kSwitch, kCopySymlinkSwitch},
    Option{"defaults", Kind::kNothing, 0},
    Option{"dest-nofollow", Kind::kSwitch, kDestNofollowSwitch},
    Option{"dev", Kind::kClear, MS_NODEV},
    Option{"diratime", Kind::kClear, MS_NODIRATIME},
    Option{"dirsync", Kind::kFlag, MS_DIRSYNC},
    Option{"exec", Kind::kClear, MS_NOEXEC},
    Option{"idmap", Kind::kSwitch, kIdmapSwitch},
    Option{"iversion", Kind::kFlag, MS_I_VERSION},
    Option{"lazytime", Kind::kFlag, MS_LAZYTIME},
    Option{"loud", Kind::kClear, MS_SILENT},
    Option{"mand", Kind::kFlag, MS_MANDLOCK},
    Option{"noatime", Kind::kFlag, MS_NOATIME},
    Option{"nodev", Kind::kFlag, MS_NODEV},
    Option{"nodiratime", Kind::kFlag, MS_NODIRATIME},
    Option{"noexec", Kind::kFlag, MS_NOEXEC},
    Option{"noiversion", Kind::kClear, MS_I_VERSION},
    Option{"nolazytime", Kind::kClear, MS_LAZYTIME},
    Option{"nomand", Kind::kClear, MS_MANDLOCK},
    Option{"norelatime", Kind::kClear, MS_RELATIME},
    Option{"nostrictatime", Kind::kClear, MS_STRICTATIME},
    Option{"nosuid", Kind::kFlag, MS_NOSUID},
    Option{"nosymfollow", Kind::kFlag, MS_NOSYMFOLLOW},
    Option{"private", Kind::kPropagation, MS_PRIVATE},
    Option{"ratime", Kind::kRecAtime, MOUNT_ATTR_RELATIME},
    Option{"rbind", Kind::kSwitch, kRbindSwitch},
    Option{"rdev", Kind::kRecClear, MOUNT_ATTR_NODEV},
    Option{"rdiratime", Kind::kRecClear, MOUNT_ATTR_NODIRATIME},
    Option{"relatime", Kind::kFlag, MS_RELATIME},
    Option{"remount", Kind::kSwitch, kRemountSwitch},
    Option{"rexec", Kind::kRecClear, MOUNT_ATTR_NOEXEC},
    Option{"ridmap", Kind::kSwitch, kRidmapSwitch},
    Option{"rnoatime", Kind::kRecAtime, MOUNT_ATTR_NOATIME},
    Option{"rnodev", Kind::kRecSet, MOUNT_ATTR_NODEV},
    Option{"rnodiratime", Kind::kRecSet, MOUNT_ATTR_NODIRATIME},
    Option{"rnoexec", Kind::kRecSet, MOUNT_ATTR_NOEXEC},
    Option{"rnorelatime", Kind::kRecAtime, MOUNT_ATTR_RELATIME},
    Option{"rnostrictatime", Kind::kRecAtime, MOUNT_ATTR_RELATIME},
    Option{"rnosuid", Kind::kRecSet, MOUNT_ATTR_NOSUID},
    Option{"rnosymfollow", Kind::kRecSet, MOUNT_ATTR_NOSYMFOLLOW},
    Option{"ro", Kind::kFlag, MS_RDONLY},
    Option{"rprivate", Kind::kPropagation, MS_PRIVATE | MS_REC},
    Option{"rrelatime", Kind::kRecAtime, MOUNT_ATTR_RELATIME},
    Option{"rro", Kind::kRecSet, MOUNT_ATTR_RDONLY},
    Option{"rrw", Kind::kRecClear, MOUNT_ATTR_RDONLY},
    Option{"rshared", Kind::kPropagation, MS_SHARED | MS_REC},
    Option{"rslave", Kind::kPropagation, MS_SLAVE | MS_REC},
    Option{"rstrictatime", Kind::kRecAtime, MOUNT_ATTR_STRICTATIME},
    Option{"rsuid", Kind::kRecClear, MOUNT_ATTR_NOSUID},
    Option{"rsymfollow", Kind::kRecClear, MOUNT_ATTR_NOSYMFOLLOW},
    Option{"runbindable", Kind::kPropagation, MS_UNBINDABLE | MS_REC},
    Option{"rw", Kind::kClear, MS_RDONLY},
    Option{"shared", Kind::kPropagation, MS_SHARED},
    Option{"silent", Kind::kFlag, MS_SILENT},
    Option{"slave", Kind::kPropagation, MS_SLAVE},
    Option{"src-nofollow", Kind::kSwitch, kSrcNofollowSwitch},
    Option{"strictatime", Kind::kFlag, MS_STRICTATIME},
    Option{"suid", Kind::kClear, MS_NOSUID},
    Option{"symfollow", Kind::kClear, MS_NOSYMFOLLOW},
    Option{"sync", Kind::kFlag, MS_SYNCHRONOUS},
    Option{"tmpcopyup", Kind::kSwitch, kCopyUpSwitch},
    Option{"unbindable", Kind::kPropagation, MS_UNBINDABLE},
};
static_assert(std::ranges::is_sorted(kOptions, {}, &Option::word));

/// The MS_ flags that belong to a mount (not to the filesystem) and so have an attribute.
struct Attribute {
  uint64_t ms_flag, attribute;
};
constexpr std::array kAttributes = {
    Attribute{MS_RDONLY, MOUNT_ATTR_RDONLY},
    Attribute{MS_NOSUID, MOUNT_ATTR_NOSUID},
    Attribute{MS_NODEV, MOUNT_ATTR_NODEV},
    Attribute{MS_NOEXEC, MOUNT_ATTR_NOEXEC},
    Attribute{MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
};
/// One of these is a new setting of access times as a whole. Words that only say what is not wanted
/// ("atime", "diratime", "norelatime") name no setting and change nothing, as with mount(8) and runc.
constexpr uint64_t kAtimeFlags = MS_NOATIME | MS_RELATIME | MS_STRICTATIME | MS_NODIRATIME;

const Option* find(std::string_view word) noexcept {
  const auto* const at = std::ranges::lower_bound(kOptions, word, {}, &Option::word);
  return at != kOptions.end() && at->word == word ? at : nullptr;
}

void apply_switch(uint64_t which, MountOptions& out) noexcept {
  switch (static_cast<Switch>(which)) {
    case kRbindSwitch:
      out.recursive_bind = true;
      [[fallthrough]];
    case kBindSwitch:
      out.bind = true;
      break;
    case kRemountSwitch:
      out.remount = true;
      break;
    // The last of "idmap" and "ridmap" wins.
    case kIdmapSwitch:
      out.idmap = true;
      out.recursive_idmap = false;
      break;
    case kRidmapSwitch:
      out.idmap = true;
      out.recursive_idmap = true;
      break;
    case kCopyUpSwitch:
      out.copy_up = true;
      break;
    case kCopySymlinkSwitch:
      out.copy_symlink = true;
      break;
    case kDestNofollowSwitch:
      out.dest_nofollow = true;
      break;
    case kSrcNofollowSwitch:
      out.src_nofollow = true;
      break;
  }
}

void apply(const Option& option, MountOptions& out) {
  const uint64_t value = option.value;
  switch (option.kind) {
    case Kind::kFlag:
      out.ms_flags |= value;
      out.ms_clear &= ~value;
      break;
    case Kind::kClear:
      out.ms_flags &= ~value;
      out.ms_clear |= value;
      break;
    case Kind::kRecSet:
      out.rec_set |= value;
      out.rec_clr &= ~value;
      break;
    case Kind::kRecClear:
      out.rec_set &= ~value;
      out.rec_clr |= value;
      break;
    case Kind::kRecAtime:
      // mount_setattr(2): the access time setting is one field, which must be cleared to be set.
      out.rec_set = (out.rec_set & ~uint64_t{MOUNT_ATTR__ATIME}) | value;
      out.rec_clr |= MOUNT_ATTR__ATIME;
      break;
    case Kind::kPropagation:
      out.propagation.push_back(value);
      break;
    case Kind::kSwitch:
      apply_switch(value, out);
      break;
    case Kind::kNothing:
      break;
  }
}

/// Derives the attributes from the flags. Of several access time flags the kernel lets strictatime
/// win over noatime and that over relatime (path_mount), and so do we.
void derive_attributes(MountOptions& out) noexcept {
  uint64_t all = 0;
  for (const Attribute& pair : kAttributes) {
    all |= pair.attribute;
    if ((out.ms_flags & pair.ms_flag) != 0) out.attr_set |= pair.attribute;
    if ((out.ms_clear & pair.ms_flag) != 0) out.attr_clr_named |= pair.attribute;
  }
  if ((out.ms_flags & kAtimeFlags) != 0) {
    out.sets_atime = true;
    out.attr_clr_named |= MOUNT_ATTR__ATIME;
    if ((out.ms_flags & MS_NODIRATIME) != 0) {
      out.attr_set |= MOUNT_ATTR_NODIRATIME;
    } else {
      out.attr_clr_named |= MOUNT_ATTR_NODIRATIME;
    }
    if ((out.ms_flags & MS_STRICTATIME) != 0) {
      out.attr_set |= MOUNT_ATTR_STRICTATIME;
    } else if ((out.ms_flags & MS_NOATIME) != 0) {
      out.attr_set |= MOUNT_ATTR_NOATIME;
    }
  }
  out.attr_clr = out.attr_clr_named;
  if ((out.ms_flags | out.ms_clear) != 0 && !out.remount) {
    out.attr_clr |= all & ~out.attr_set;
  }
}

}  // namespace

Result<MountOptions> parse_mount_options(const oci::Mount& mount) {
  MountOptions out;
  out.bind = mount.type == "bind";
  for (const std::string& word : mount.options) {
    if (word.find('\0') != std::string::npos) {
      return fail(Errc::kInvalid, fmt::format("mount {}: an option has a NUL", mount.destination));
    }
    if (const Option* const option = find(word); option != nullptr) {
      apply(*option, out);
    } else if (word.starts_with("idmap=") || word.starts_with("ridmap=")) {
      apply_switch(word.front() == 'r' ? kRidmapSwitch : kIdmapSwitch, out);
      out.idmap_spec = word.substr(word.find('=') + 1);
    } else if (!word.empty()) {
      if (!out.data.empty()) out.data += ',';
      out.data += word;
    }
  }
  if (!mount.uid_mappings.empty() || !mount.gid_mappings.empty()) out.idmap = true;
  if (out.bind && !out.data.empty()) {
    // The kernel would ignore them in silence: they belong to the superblock, not to the mount.
    return fail(Errc::kInvalid,
                fmt::format("mount {}: bind mounts cannot have any filesystem-specific options "
                            "applied: \"{}\"",
                            mount.destination, out.data));
  }
  if (out.copy_symlink && (out.src_nofollow || out.dest_nofollow)) {
    return fail(Errc::kInvalid, fmt::format("mount {}: copy-symlink excludes {}", mount.destination,
                                            out.src_nofollow ? "src-nofollow" : "dest-nofollow"));
  }
  derive_attributes(out);
  return out;
}

std::vector<std::string> known_mount_options() {
  std::vector<std::string> words;
  words.reserve(kOptions.size());
  for (const Option& option : kOptions) words.emplace_back(option.word);
  return words;
}

}  // namespace amphora::setup
