// SPDX-License-Identifier: Apache-2.0
// Root file systems. See rootfs.h.
#include "shim/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "shim/idmapped.h"

namespace amphora::shim {
namespace {

struct Word {
  std::string_view name;
  unsigned long set, clear;
};
constexpr Word kWords[] = {
    {"async", 0, MS_SYNCHRONOUS},
    {"atime", 0, MS_NOATIME},
    {"bind", MS_BIND, 0},
    {"defaults", 0, 0},
    {"dev", 0, MS_NODEV},
    {"diratime", 0, MS_NODIRATIME},
    {"dirsync", MS_DIRSYNC, 0},
    {"exec", 0, MS_NOEXEC},
    {"mand", MS_MANDLOCK, 0},
    {"noatime", MS_NOATIME, 0},
    {"nodev", MS_NODEV, 0},
    {"nodiratime", MS_NODIRATIME, 0},
    {"noexec", MS_NOEXEC, 0},
    {"nomand", 0, MS_MANDLOCK},
    {"norelatime", 0, MS_RELATIME},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"nosuid", MS_NOSUID, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"relatime", MS_RELATIME, 0},
    {"remount", MS_REMOUNT, 0},
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"strictatime", MS_STRICTATIME, 0},
    {"suid", 0, MS_NOSUID},
    {"sync", MS_SYNCHRONOUS, 0},
};
constexpr Word kPropagation[] = {
    {"shared", MS_SHARED, 0},         {"rshared", MS_SHARED | MS_REC, 0},
    {"slave", MS_SLAVE, 0},           {"rslave", MS_SLAVE | MS_REC, 0},
    {"private", MS_PRIVATE, 0},       {"rprivate", MS_PRIVATE | MS_REC, 0},
    {"unbindable", MS_UNBINDABLE, 0}, {"runbindable", MS_UNBINDABLE | MS_REC, 0},
};
// mount(2) copies one page of data, and the option names around lowerdir need their part of it.
constexpr size_t kMaxData = 4096 - 512;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

/// The longest directory that holds all of them, with its slash.
std::string common_directory(const std::vector<std::string>& paths) {
  std::string common = paths.front().substr(0, paths.front().rfind('/') + 1);
  for (const auto& path : paths) {
    while (!common.empty() && !path.starts_with(common)) {
      common.pop_back();
      common.resize(common.rfind('/') + 1);
    }
  }
  return common;
}

std::string joined_data(const ParsedOptions& options, size_t prefix) {
  std::string data = options.data;
  for (size_t i = 0; i < options.lower.size(); ++i) {
    data += i == 0 ? (data.empty() ? "lowerdir=" : ",lowerdir=") : ":";
    data += options.lower[i].substr(prefix);
  }
  return data;
}

Result<void> mount_call(const RootfsMount& mount, const std::string& target, unsigned long flags,
                        const std::string& data) {
  if (::mount(mount.source.c_str(), target.c_str(), mount.type.c_str(), flags,
              data.empty() ? nullptr : data.c_str()) != 0) {
    return fail_errno(errno, "mount " + mount.type + " " + mount.source + " on " + target);
  }
  return {};
}

struct Attribute {
  unsigned long flag;
  unsigned attribute;
};
constexpr Attribute kAttributes[] = {
    {MS_RDONLY, MOUNT_ATTR_RDONLY},   {MS_NOSUID, MOUNT_ATTR_NOSUID},
    {MS_NODEV, MOUNT_ATTR_NODEV},     {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
    {MS_NOATIME, MOUNT_ATTR_NOATIME}, {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
};

/// The words of a filesystem's own options, as fsconfig(2) has them: a comma between quotes separates nothing
/// (SELinux), and the quotes are mount(2)'s.
std::vector<std::string> option_words(std::string_view data) {
  std::vector<std::string> words(1);
  bool quoted = false;
  for (const char c : data) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  std::erase(words, "");
  return words;
}

/// fsconfig(2) takes texts of at most 255 bytes; what is longer is a directory, and given open.
int set_option(int context, const std::string& key, const std::string& value) {
  if (value.size() < 256 || !value.starts_with('/')) {
    return sys::fsconfig(context, kFsSetString, key.c_str(), value.c_str(), 0);
  }
  const UniqueFd path(::open(value.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return path ? sys::fsconfig(context, kFsSetFd, key.c_str(), nullptr, path.get()) : -1;
}

/// Layers that no page of data holds, each by itself (overlayfs.rst, lowerdir+).
Result<void> mount_by_layers(const std::string& target, const ParsedOptions& options) {
  const std::string what = "mount overlay on " + target;
  const UniqueFd context(sys::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context) return fail_errno(errno, what);
  for (const std::string& layer : options.lower) {
    if (set_option(context.get(), "lowerdir+", layer) == 0) continue;
    return std::unexpected(
        Error::from_errno(errno, what + ": layer " + layer)
            .hint("layers whose names take more than a page need Linux 6.8, and 6.13 where one is "
                  "longer than 255 bytes"));
  }
  for (const std::string& word : option_words(options.data)) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const int set = equals == std::string::npos
                        ? sys::fsconfig(context.get(), kFsSetFlag, key.c_str(), nullptr, 0)
                        : set_option(context.get(), key, word.substr(equals + 1));
    if (set != 0) return fail_errno(errno, what + ": option " + word);
  }
  if (sys::fsconfig(context.get(), kFsCreate, nullptr, nullptr, 0) != 0)
    return fail_errno(errno, what);
  unsigned attributes = 0;
  for (const Attribute& pair : kAttributes) {
    if ((options.flags & pair.flag) != 0) attributes |= pair.attribute;
  }
  const UniqueFd tree(sys::fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
  if (!tree ||
      sys::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno(errno, what);
  }
  return {};
}

/// Many layers: their paths are given relative to the directory they share. The working directory is
/// per process, hence a thread that leaves the shared one first and ends afterwards.
Result<void> mount_from_directory(const RootfsMount& mount, const std::string& target,
                                  const ParsedOptions& options) {
  const std::string dir = common_directory(options.lower);
  const std::string data = joined_data(options, dir.size());
  if (dir.empty() || data.size() >= 4096) return mount_by_layers(target, options);
  Result<void> result;
  std::thread([&] {
    if (::unshare(CLONE_FS) != 0 || ::chdir(dir.c_str()) != 0) {
      result = fail_errno(errno, "enter " + dir);
      return;
    }
    result = mount_call(mount, target, options.flags, data);
  }).join();
  return result;
}

Result<UniqueFd> attach_loop_device(const std::string& file, bool readonly, std::string& device) {
  TRY_ASSIGN(const UniqueFd backing, open_at(AT_FDCWD, file, readonly ? O_RDONLY : O_RDWR));
  TRY_ASSIGN(const UniqueFd control, open_at(AT_FDCWD, "/dev/loop-control", O_RDWR));
  for (int attempt = 0; attempt < 100; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail_errno(errno, "find a free loop device");
    device = "/dev/loop" + std::to_string(number);
    TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, device, readonly ? O_RDONLY : O_RDWR));
    loop_config config{};
    config.fd = static_cast<uint32_t>(backing.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (readonly) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
    if (::ioctl(fd.get(), LOOP_CONFIGURE, &config) == 0) return fd;
    if (errno != EBUSY) return fail_errno(errno, "attach " + file + " to " + device);
  }
  return fail(Errc::kSystem, "attach " + file + ": all loop devices are taken");
}

/// overlayfs itself cannot be mapped, its layers can: clones of the directory they share take their place.
/// The overlay holds them; their name is needed only while it is mounted.
Result<std::optional<TemporaryMount>> map_layers(ParsedOptions& options, const std::string& place) {
  std::optional<TemporaryMount> mapped;
  if (options.ids.empty()) return mapped;
  const std::string dir = options.lower.empty() ? "" : common_directory(options.lower);
  if (dir.empty() || dir == "/") {
    return fail(Errc::kUnsupported, "ids can be mapped for an overlay of layers or a bind only");
  }
  TRY_ASSIGN(const UniqueFd tree, idmapped_clone(dir, options.ids, MOUNT_ATTR_RDONLY));
  TRY_ASSIGN(TemporaryMount mount, TemporaryMount::attach(tree.get(), place));
  for (auto& layer : options.lower) layer = mount.path() + "/" + layer.substr(dir.size());
  mapped.emplace(std::move(mount));
  return mapped;
}

/// A bind whose ids are mapped is a mapped clone, attached.
Result<void> bind_mapped(const RootfsMount& mount, const ParsedOptions& options,
                         const std::string& target) {
  const uint64_t attributes = (options.flags & MS_RDONLY) != 0 ? MOUNT_ATTR_RDONLY : 0;
  TRY_ASSIGN(const UniqueFd tree, idmapped_clone(mount.source, options.ids, attributes));
  if (::syscall(SYS_move_mount, tree.get(), "", AT_FDCWD, target.c_str(),
                MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno(errno, "mount " + mount.source + " on " + target);
  }
  return {};
}

Result<void> mount_one(RootfsMount mount, const std::string& target) {
  TRY_ASSIGN(ParsedOptions options, parse_mount_options(mount.options));
  if (!options.ids.empty() && options.is_bind()) return bind_mapped(mount, options, target);
  TRY_ASSIGN(const auto mapped, map_layers(options, target + ".layers"));
  UniqueFd loop;  // held until the mount holds it: it clears itself on the last close
  if (options.loop) {
    TRY_ASSIGN(loop,
               attach_loop_device(mount.source, (options.flags & MS_RDONLY) != 0, mount.source));
  }
  const std::string data = joined_data(options, 0);
  if (data.size() > kMaxData && !options.lower.empty()) {
    TRY(mount_from_directory(mount, target, options));
  } else {
    TRY(mount_call(mount, target, options.flags, data));
  }
  // A bind takes its flags only when it is mounted a second time (mount(2)).
  const unsigned long attributes = options.flags & ~(MS_BIND | MS_REC | MS_REMOUNT);
  if (options.is_bind() && attributes != 0) {
    TRY(mount_call(mount, target, MS_BIND | MS_REMOUNT | attributes, {}));
  }
  if (options.propagation != 0 &&
      ::mount(nullptr, target.c_str(), nullptr, options.propagation, nullptr) != 0) {
    return fail_errno(errno, "set propagation of " + target);
  }
  return {};
}

/// A mount's target lies in the image's file system: resolved as if rootfs were the root.
Result<void> mount_inside(const RootfsMount& mount, const std::string& rootfs) {
  if (mount.target.empty() || mount.target == "/") return mount_one(mount, rootfs);
  TRY_ASSIGN(const UniqueFd root, open_at(AT_FDCWD, rootfs, O_PATH | O_DIRECTORY));
  TRY_ASSIGN(const UniqueFd target, open_in_root(root.get(), mount.target, O_PATH));
  return mount_one(mount, "/proc/self/fd/" + std::to_string(target.get()));
}

}  // namespace

bool ParsedOptions::is_bind() const noexcept { return (flags & MS_BIND) != 0; }

Result<ParsedOptions> parse_mount_options(const std::vector<std::string>& options) {
  ParsedOptions out;
  for (const std::string& option : options) {
    const auto named = [&](const Word& word) { return word.name == option; };
    if (const auto* word = std::find_if(std::begin(kWords), std::end(kWords), named);
        word != std::end(kWords)) {
      out.flags = (out.flags & ~word->clear) | word->set;
    } else if (const auto* mode =
                   std::find_if(std::begin(kPropagation), std::end(kPropagation), named);
               mode != std::end(kPropagation)) {
      out.propagation = mode->set;
    } else if (option == "loop") {
      out.loop = true;
    } else if (option.starts_with("lowerdir=")) {
      out.lower = split(std::string_view(option).substr(9), ':');
    } else if (option.starts_with("uidmap=")) {
      TRY_ASSIGN(out.ids.uids, parse_id_ranges(std::string_view(option).substr(7)));
    } else if (option.starts_with("gidmap=")) {
      TRY_ASSIGN(out.ids.gids, parse_id_ranges(std::string_view(option).substr(7)));
    } else if (option.starts_with("X-containerd.")) {
      return fail(Errc::kInvalid, "root file system option " + option + " is containerd's own");
    } else if (!option.empty()) {
      out.data += (out.data.empty() ? "" : ",") + option;
    }
  }
  return out;
}

Result<void> mount_rootfs(const std::vector<RootfsMount>& mounts, const std::string& rootfs) {
  if (::mkdir(rootfs.c_str(), 0711) != 0 && errno != EEXIST) {
    return fail_errno(errno, "create " + rootfs);
  }
  for (const auto& mount : mounts) {
    if (auto mounted = mount_inside(mount, rootfs); !mounted) {
      (void)unmount_rootfs(rootfs);
      return mounted;
    }
  }
  return {};
}

Result<void> unmount_rootfs(const std::string& rootfs) {
  // Mounts may lie on each other: again until nothing is left (EINVAL: no mount point).
  while (::umount2(rootfs.c_str(), UMOUNT_NOFOLLOW) == 0 ||
         (errno == EBUSY && ::umount2(rootfs.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0)) {
  }
  if (errno == EINVAL || errno == ENOENT) return {};
  return fail_errno(errno, "unmount " + rootfs);
}

bool is_mount_point(const std::string& path) {
  struct statx info{};
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &info) != 0)
    return false;
  return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace amphora::shim
