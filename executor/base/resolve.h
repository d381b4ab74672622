// SPDX-License-Identifier: Apache-2.0
// openat2(2) by hand, for kernels and sandboxes without it (some seccomp profiles answer ENOSYS or
// EPERM): one component at a time from a held directory, links read and never followed by the kernel,
// ".." by walking again from the root. A header of templates, because both sides of a clone need it:
// the child with its raw system calls (executor/init), everybody else through fd.h. No allocation, no
// libc state. Not here: making what is missing.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include <cstdint>

namespace amphora {

/// Whether a failed openat2 is to be done by hand. EPERM is what older sandboxes answer; where it was
/// meant, the walk by hand ends with it too.
inline bool openat2_is_blocked(long error) noexcept { return error == -ENOSYS || error == -EPERM; }

/// A path as text with a fixed bound.
struct PathText {
  static constexpr uint32_t kMax = 4096;
  char text[kMax];
  uint32_t size = 0;

  bool append(const char* from, uint32_t n) noexcept {
    if (size + n >= kMax) return false;
    for (uint32_t i = 0; i < n; ++i) text[size++] = from[i];
    text[size] = '\0';
    return true;
  }
  bool append(const char* from) noexcept {
    uint32_t n = 0;
    while (from[n] != '\0') ++n;
    return append(from, n);
  }
  void assign(const PathText& other) noexcept {
    size = 0;
    append(other.text, other.size);
  }
};

/// One walk. Kernel::call(number, arguments...) returns the kernel's result or -errno.
template <class Kernel>
class ResolveByHand {
 public:
  ResolveByHand(int root, uint64_t how) noexcept : root_(root), how_(how) {
    rest_.text[0] = '\0';
    done_.text[0] = '\0';
  }

  /// Descriptor or -errno, as openat2 with these flags, mode and `how` would answer.
  long open(const char* path, uint64_t flags, uint64_t mode) noexcept {
    if (path[0] == '\0') return -ENOENT;
    if (path[0] == '/' && (how_ & RESOLVE_BENEATH) != 0) return -EXDEV;
    if (!rest_.append(path)) return -ENAMETOOLONG;
    long result = rewind();
    if (result == 0 && (how_ & RESOLVE_NO_XDEV) != 0) result = mount_of(current_, root_mount_);
    while (result == 0) result = step(flags, mode);
    if (current_ >= 0) close(current_);
    return result < 0 ? result : result - 1;
  }

 private:
  /// 0: go on. Positive: the descriptor plus one. Negative: -errno.
  long step(uint64_t flags, uint64_t mode) noexcept {
    if (++steps_ > kMaxSteps) return -ELOOP;
    const Part part = next();
    if (part == Part::kTooLong) return -ENAMETOOLONG;
    if (part == Part::kNone) return found(call(SYS_openat, current_, ".", flags, uint64_t{0}));
    if (name_[0] == '.' && name_[1] == '\0') return 0;
    if (name_[0] == '.' && name_[1] == '.' && name_[2] == '\0') return parent();
    const bool last = part == Part::kLast;
    if (last && (flags & O_PATH) == 0) {
      const long fd = call(SYS_openat, current_, name_, flags | O_NOFOLLOW, mode);
      // A link, or one that a racer made of it: looked at below.
      if (fd != -ELOOP && fd != -ENOTDIR) return found(fd);
    }
    const long fd = call(SYS_openat, current_, name_, kProbe, uint64_t{0});
    if (fd < 0) return fd;
    const long result = entered(static_cast<int>(fd), last, flags);
    if (result != fd + 1 && current_ != static_cast<int>(fd)) close(static_cast<int>(fd));
    return result;
  }

  /// `fd` names the component without following it.
  long entered(int fd, bool last, uint64_t flags) noexcept {
    struct stat st{};
    const long known = call(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH);
    if (known < 0) return known;
    if (S_ISLNK(st.st_mode)) {
      if (last && (flags & O_NOFOLLOW) != 0) return (flags & O_PATH) != 0 ? fd + 1 : -ELOOP;
      if ((how_ & RESOLVE_NO_SYMLINKS) != 0) return -ELOOP;
      return follow(fd);
    }
    if (last) {
      if ((flags & O_DIRECTORY) != 0 && !S_ISDIR(st.st_mode)) return -ENOTDIR;
      if ((flags & O_PATH) != 0) {
        const long same = same_mount(fd);
        return same < 0 ? same : fd + 1;
      }
      return again();  // it was a link a moment ago
    }
    if (!S_ISDIR(st.st_mode)) return -ENOTDIR;
    const long same = same_mount(fd);
    if (same < 0) return same;
    if (done_.size > 0 && !done_.append("/", 1)) return -ENAMETOOLONG;
    if (!done_.append(name_)) return -ENAMETOOLONG;
    close(current_);
    current_ = fd;
    return 0;
  }

  /// The link's target takes the place of its name. Links of procfs that lead to objects and not to
  /// names (fd/N, cwd, exe, root, ns/*) are refused as RESOLVE_NO_MAGICLINKS does: their text begins
  /// with "/" or is no path at all; the plain ones (self, net, mounts) are relative.
  long follow(int fd) noexcept {
    if (++links_ > kMaxLinks) return -ELOOP;
    char target[PathText::kMax];
    const long size = call(SYS_readlinkat, fd, "", target, static_cast<int>(sizeof target - 1));
    if (size < 0) return size;
    target[size] = '\0';
    struct statfs fs{};
    const long known = call(SYS_fstatfs, fd, &fs);
    if (known < 0) return known;
    if (fs.f_type == kProcMagic && is_magic(target)) return -ELOOP;
    if (target[0] == '/' && (how_ & RESOLVE_BENEATH) != 0) return -EXDEV;
    scratch_.size = 0;
    if (!scratch_.append(target, static_cast<uint32_t>(size))) return -ENAMETOOLONG;
    if (!scratch_.append(rest_.text + at_, rest_.size - at_)) return -ENAMETOOLONG;
    rest_.assign(scratch_);
    at_ = 0;
    return target[0] == '/' ? rewind() : 0;
  }

  static bool is_magic(const char* target) noexcept {
    if (target[0] == '/') return true;
    for (; *target != '\0'; ++target) {
      if (*target == ':') return true;
    }
    return false;
  }

  /// "..": the names up to here without the last, walked anew from the root: no directory is ever left
  /// by its own "..", which a racer may have moved elsewhere.
  long parent() noexcept {
    struct stat st{};
    const long known = call(SYS_newfstatat, current_, "", &st, AT_EMPTY_PATH);
    if (known < 0) return known;
    if (!S_ISDIR(st.st_mode)) return -ENOTDIR;
    if (done_.size == 0) return (how_ & RESOLVE_BENEATH) != 0 ? -EXDEV : 0;
    while (done_.size > 0 && done_.text[done_.size - 1] != '/') --done_.size;
    if (done_.size > 0) --done_.size;
    scratch_.size = 0;
    if (!scratch_.append(done_.text, done_.size)) return -ENAMETOOLONG;
    if (!scratch_.append("/", 1)) return -ENAMETOOLONG;
    if (!scratch_.append(rest_.text + at_, rest_.size - at_)) return -ENAMETOOLONG;
    rest_.assign(scratch_);
    at_ = 0;
    return rewind();
  }

  /// Takes the last component back, to look at it once more.
  long again() noexcept {
    scratch_.size = 0;
    if (!scratch_.append(name_)) return -ENAMETOOLONG;
    rest_.assign(scratch_);
    at_ = 0;
    return 0;
  }

  long rewind() noexcept {
    const long fd = call(SYS_openat, root_, ".", kProbe | O_DIRECTORY, uint64_t{0});
    if (fd < 0) return fd;
    if (current_ >= 0) close(current_);
    current_ = static_cast<int>(fd);
    done_.size = 0;
    done_.text[0] = '\0';
    return 0;
  }

  long mount_of(int fd, uint64_t& id) noexcept {
    struct statx st{};
    const long known = call(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st);
    if (known < 0) return known;
    if ((st.stx_mask & STATX_MNT_ID) == 0)
      return -ENOSYS;  // COMPAT(kernel 5.8): refused, not guessed
    id = st.stx_mnt_id;
    return 0;
  }

  long same_mount(int fd) noexcept {
    if ((how_ & RESOLVE_NO_XDEV) == 0) return 0;
    uint64_t id = 0;
    const long known = mount_of(fd, id);
    if (known < 0) return known;
    return id == root_mount_ ? 0 : -EXDEV;
  }

  /// The result of an open that ends the walk.
  long found(long fd) noexcept {
    if (fd < 0) return fd;
    const long same = same_mount(static_cast<int>(fd));
    if (same == 0) return fd + 1;
    close(static_cast<int>(fd));
    return same;
  }

  enum class Part { kNone, kName, kLast, kTooLong };
  /// The next component into name_; kLast when nothing follows, not even a slash.
  Part next() noexcept {
    while (rest_.text[at_] == '/') ++at_;
    if (rest_.text[at_] == '\0') return Part::kNone;
    uint32_t n = 0;
    while (rest_.text[at_] != '/' && rest_.text[at_] != '\0') {
      if (n + 1 >= sizeof name_) return Part::kTooLong;
      name_[n++] = rest_.text[at_++];
    }
    name_[n] = '\0';
    return rest_.text[at_] == '\0' ? Part::kLast : Part::kName;
  }

  static void close(int fd) noexcept { Kernel::call(SYS_close, fd); }
  template <class... Args>
  static long call(long number, Args... args) noexcept {
    return Kernel::call(number, args...);
  }

  static constexpr int kMaxLinks = 40;  // as the kernel's own walk
  static constexpr int kMaxSteps =
      16384;  // ".." begins the walk anew: no image may make it endless
  static constexpr long kProcMagic = 0x9fa0;
  static constexpr uint64_t kProbe = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  int root_;
  uint64_t how_;
  int current_ = -1;
  uint64_t root_mount_ = 0;
  int links_ = 0;
  int steps_ = 0;
  uint32_t at_ = 0;
  char name_[256];
  PathText done_;  ///< the names walked so far, none of them a link
  PathText rest_;  ///< what is still to be walked, from at_ on
  PathText scratch_;
};

}  // namespace amphora
