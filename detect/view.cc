// SPDX-License-Identifier: Apache-2.0
// Path resolution in a container that does not exist yet. One openat2 answers wherever neither a
// symlink nor a mount of the spec is involved; otherwise the path is walked component by component
// with a descriptor per step, so that a rename in the image cannot lead out of it.
#include "detect/view.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <expected>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/sys.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

namespace {

constexpr unsigned kMaxSymlinks = 40;  // the kernel's MAXSYMLINKS
constexpr size_t kMaxDepth = 255;      // a descriptor is held per level
constexpr size_t kMaxPending = size_t{2} * PATH_MAX;

std::unexpected<Error> not_found(int err, const std::string& path) {
  return std::unexpected(Error::from_errno(err, path).as(Errc::kNotFound));
}

/// The kernel's answers that a process inside would get as well.
bool is_answer(int err) {
  return err == ENOENT || err == ENOTDIR || err == ELOOP || err == ENAMETOOLONG || err == EACCES;
}

std::unexpected<Error> open_failed(int err, const std::string& path) {
  if (is_answer(err)) return not_found(err, path);
  return fail_errno(err, "look up " + path);
}

bool has_parent_step(std::string_view path) {
  const auto parts = path::components(path);
  return std::ranges::find(parts, "..") != parts.end();
}

/// Beneath wants a relative path.
std::string relative(std::string_view clean) {
  clean.remove_prefix(1);
  return clean.empty() ? "." : std::string(clean);
}

bool has_option(const oci::Mount& mount, std::string_view option) {
  return std::ranges::find(mount.options, option) != mount.options.end();
}

/// Takes the next component off the front; empty at the end.
std::string take_component(std::string& pending) {
  const auto begin = pending.find_first_not_of('/');
  if (begin == std::string::npos) {
    pending.clear();
    return {};
  }
  const auto end = std::min(pending.find('/', begin), pending.size());
  std::string name = pending.substr(begin, end - begin);
  pending.erase(0, end);
  return name;
}

/// The symlink's target; nothing if `fd` is no symlink.
Result<std::string> read_link(int fd, const std::string& path) {
  char target[PATH_MAX];
  const ssize_t size = ::readlinkat(fd, "", target, sizeof target);
  if (size < 0) return fail_errno(errno, "readlink " + path);
  if (static_cast<size_t>(size) == sizeof target) return not_found(ENAMETOOLONG, path);
  return std::string(target, static_cast<size_t>(size));
}

}  // namespace

Result<View> View::make(int rootfs_fd, int bundle_fd, std::span<const oci::Mount> mounts,
                        bool mounts_made) {
  View view(rootfs_fd, bundle_fd);
  if (mounts_made) return view;
  view.mounts_.reserve(mounts.size());
  for (const auto& mount : mounts) TRY(view.add(mount));
  return view;
}

View::~View() { sys::close_all(spent_); }

void View::done_with(UniqueFd fd) {
  // A spec may have more mounts than we may have descriptors.
  constexpr size_t kFew = 16;
  if (fd && spent_.size() < kFew) spent_.push_back(std::move(fd));
}

Result<void> View::add(const oci::Mount& mount) {
  // Copied up from what lies beneath, which is therefore what will be seen.
  if (has_option(mount, "tmpcopyup")) return {};
  auto place = settle("/" + mount.destination, mount.type);
  if (!place) {
    // Setup will say so better, when it makes this mount.
    if (place.error().code() == Errc::kNotFound) return {};
    return std::unexpected(std::move(place).error());
  }
  Mount made{.path = std::move(*place), .from = mount.source, .type = mount.type, .fd = {}};
  static constexpr std::string_view kEmptyTypes[] = {"tmpfs",  "proc",   "sysfs",   "devpts",
                                                     "mqueue", "cgroup", "cgroup2", "devtmpfs"};
  if (mount.type == "bind" || has_option(mount, "bind") || has_option(mount, "rbind")) {
    made.source = Source::kBind;
  } else if (std::ranges::find(kEmptyTypes, mount.type) == std::end(kEmptyTypes)) {
    made.source = Source::kOpaque;
  }
  // What was mounted at or below this point before is hidden now.
  std::erase_if(mounts_, [&](const Mount& old) { return path::is_below(old.path, made.path); });
  mounts_.push_back(std::move(made));
  return {};
}

/// Where a destination really lands. proc and sysfs are refused by setup anywhere but on a real
/// directory, so they need no look.
Result<std::string> View::settle(const std::string& destination, std::string_view type) {
  auto clean = path::clean(destination);
  if (type == "proc" || type == "sysfs") return clean;
  if (!has_parent_step(destination)) {
    if (is_covered(clean)) {
      const auto covering = std::ranges::find_if(
          mounts_, [&](const Mount& m) { return path::is_below(clean, m.path); });
      if (covering->source == Source::kEmpty) return clean;
    } else {
      auto fd = open_beneath(rootfs_fd_, relative(clean), O_PATH);
      if (fd) done_with(std::move(*fd));
      // Missing from some component on: setup makes the rest, plainly.
      if (fd || fd.error().sys_errno() == ENOENT) return clean;
      if (fd.error().sys_errno() != ELOOP) return open_failed(fd.error().sys_errno(), clean);
    }
  }
  TRY_ASSIGN(auto place, walk(destination, true));
  return place.path.empty() ? std::string("/") : std::move(place.path);
}

View::Mount* View::mount_at(std::string_view path) {
  const auto found = std::ranges::find(mounts_, path, &Mount::path);
  return found == mounts_.end() ? nullptr : &*found;
}

bool View::is_covered(std::string_view path) const {
  return std::ranges::any_of(mounts_, [&](const Mount& m) { return path::is_below(path, m.path); });
}

bool View::leads_to_mount(std::string_view path) const {
  return std::ranges::any_of(mounts_, [&](const Mount& m) { return path::is_below(m.path, path); });
}

Result<UniqueFd> View::lookup(const std::string& path) {
  if (mounts_.empty()) {
    auto fd = open_in_root(rootfs_fd_, path, O_PATH);
    if (!fd) return open_failed(fd.error().sys_errno(), path);
    return fd;
  }
  const auto clean = path::clean(path);
  if (!has_parent_step(path) && !is_covered(clean)) {
    auto fd = open_beneath(rootfs_fd_, relative(clean), O_PATH);
    if (fd) return fd;
    if (fd.error().sys_errno() != ELOOP) return open_failed(fd.error().sys_errno(), path);
  }
  auto place = walk(path, false);
  if (!place) return std::unexpected(std::move(place).error());
  if (place->opaque != nullptr || place->fd < 0) return not_found(EISDIR, path);
  if (place->owned) return std::move(place->owned);
  return duplicate(place->fd);
}

Result<View::Place> View::enter_mount(Mount& mount) {
  Place place{.path = mount.path, .owned = {}};
  if (mount.source == Source::kOpaque) place.opaque = &mount;
  if (mount.source != Source::kBind) return place;
  if (!mount.fd) {
    // The host's own path, named by the spec's author: its symlinks count as mount(2) takes them.
    auto fd = open_at(bundle_fd_, mount.from, O_PATH);
    if (!fd) return open_failed(fd.error().sys_errno(), "bind source " + mount.from);
    mount.fd = std::move(*fd);
  }
  place.fd = mount.fd.get();
  return place;
}

/// One name below `from`, symlinks not followed.
Result<View::Place> View::enter(const Place& from, const std::string& name) {
  Place place{.path = fmt::format("{}/{}", from.path == "/" ? "" : from.path, name), .owned = {}};
  if (Mount* mount = mount_at(place.path)) return enter_mount(*mount);
  if (from.opaque != nullptr) {
    return fail(Errc::kUnsupported,
                fmt::format("{}: lies in a mount of type {} that is not made yet", place.path,
                            from.opaque->type));
  }
  int err = ENOENT;
  if (from.fd >= 0) {
    place.owned.reset(::openat(from.fd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    err = errno;
  }
  place.fd = place.owned.get();
  // A directory on the way to a mount point is made by setup if it is missing.
  if (place.fd < 0 && !(err == ENOENT && leads_to_mount(place.path))) {
    return open_failed(err, place.path);
  }
  return place;
}

/// Resolves an absolute path. With `may_miss`, what does not exist is taken as plain directories.
Result<View::Place> View::walk(std::string path, bool may_miss) {
  std::vector<Place> steps;
  steps.push_back(Place{.path = "", .fd = rootfs_fd_, .owned = {}});
  unsigned links = 0;
  for (std::string name = take_component(path); !name.empty(); name = take_component(path)) {
    if (name == ".") continue;
    if (name == "..") {
      if (steps.size() > 1) steps.pop_back();
      continue;
    }
    if (steps.size() > kMaxDepth || path.size() > kMaxPending) return not_found(ENAMETOOLONG, path);
    auto next = enter(steps.back(), name);
    if (!next && may_miss && next.error().sys_errno() == ENOENT) {
      next = Place{.path = fmt::format("{}/{}", steps.back().path, name), .owned = {}};
    }
    if (!next) return next;
    struct stat info{};
    if (next->owned && ::fstat(next->fd, &info) != 0)
      return fail_errno(errno, "stat " + next->path);
    if (!S_ISLNK(info.st_mode)) {
      steps.push_back(std::move(*next));
      continue;
    }
    if (++links > kMaxSymlinks) return not_found(ELOOP, next->path);
    TRY_ASSIGN(auto target, read_link(next->fd, next->path));
    if (target.starts_with('/')) steps.resize(1);
    target += path;
    path = std::move(target);
  }
  return std::move(steps.back());
}

}  // namespace amphora::detect
