// SPDX-License-Identifier: Apache-2.0
// The state directory. See store.h.
#include "executor/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/directories.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/state.h"

namespace amphora {
namespace {

constexpr const char* kStateFile = "state.json";
constexpr int kDirFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

Result<void> lock(int dir_fd, const std::string& id) {
  while (::flock(dir_fd, LOCK_EX) != 0) {
    if (errno != EINTR) return fail_errno(errno, "lock the state of container " + id);
  }
  return {};
}

struct CloseDir {
  void operator()(DIR* dir) const noexcept { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

Result<Dir> open_dir(int dir_fd) {
  TRY_ASSIGN(UniqueFd copy, open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  Dir dir(::fdopendir(copy.get()));
  if (!dir) return fail_errno(errno, "list a state directory");
  copy.release();
  return dir;
}

/// Unlinks everything below; a handful of files and at most one level of directories.
Result<void> empty(int dir_fd, int depth) {
  TRY_ASSIGN(const Dir dir, open_dir(dir_fd));
  while (const struct dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR && errno != EPERM) return fail_errno(errno, "remove " + name);
    if (depth > 0) {
      TRY_ASSIGN(const UniqueFd sub, open_at(dir_fd, name, kDirFlags));
      TRY(empty(sub.get(), depth - 1));
    }
    if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
      return fail_errno(errno, "remove " + name);
    }
  }
  return {};
}

}  // namespace

Result<oci::State> Entry::load(std::vector<UniqueFd>* keep) const {
  auto text = read_record_at(dir_.get(), kStateFile, 1 << 20, keep);
  if (!text) return std::unexpected(std::move(text).error().context("container " + id_));
  auto state = oci::parse_state(*text);
  if (!state) return std::unexpected(std::move(state).error().context("state of container " + id_));
  return state;
}

Result<void> Entry::save(const oci::State& state, std::vector<UniqueFd>* keep) {
  const std::string text = oci::to_json(state);
  if (next_) return put_replacement_at(dir_.get(), kStateFile, std::move(next_), text, keep);
  return replace_file_at(dir_.get(), kStateFile, text, 0600, keep);
}

Result<void> Entry::save_first(const oci::State& state, std::vector<UniqueFd>& spent) {
  TRY_ASSIGN(UniqueFd fd,
             open_at(dir_.get(), kStateFile, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY(write_all(fd.get(), oci::to_json(state)));
  spent.push_back(std::move(fd));
  TRY_ASSIGN(next_, open_replacement_at(dir_.get(), kStateFile, 0600));
  return {};
}

Result<Store> Store::open(const std::string& root, bool create) {
  if (!root.starts_with('/') || root == "/") {
    return fail(Errc::kInvalid, "state root " + root + ": must be an absolute path other than /");
  }
  auto dir = open_at(AT_FDCWD, root, O_RDONLY | O_DIRECTORY);
  if (!dir && dir.error().sys_errno() == ENOENT) {
    if (!create) return std::unexpected(std::move(dir).error().as(Errc::kNotFound));
    // The administrator's path. Sticky: what tidies $XDG_RUNTIME_DIR leaves such a directory alone (XDG Base
    // Directory Specification).
    TRY(make_directories(root, 0711, 01700));
    dir = open_at(AT_FDCWD, root, O_RDONLY | O_DIRECTORY);
  }
  if (!dir) return std::unexpected(std::move(dir).error().context("state root"));
  return Store(root, std::move(*dir));
}

Result<Entry> Store::create(const std::string& id) {
  TRY(oci::check_id(id));
  if (::mkdirat(dir_.get(), id.c_str(), 0711) != 0) {
    if (errno == EEXIST) {
      return fail(Errc::kExists, "container with given ID already exists: " + id);
    }
    return fail_errno(errno, "make the state directory of container " + id);
  }
  auto fd = open_at(dir_.get(), id, kDirFlags);
  if (fd) {
    // A delete that waits for this lock finds the directory again or not at all.
    if (auto locked = lock(fd->get(), id); !locked)
      return std::unexpected(std::move(locked).error());
    return Entry(id, std::move(*fd));
  }
  ::unlinkat(dir_.get(), id.c_str(), AT_REMOVEDIR);
  return std::unexpected(std::move(fd).error());
}

Result<Entry> Store::peek(const std::string& id) const {
  TRY(oci::check_id(id));
  auto fd = open_at(dir_.get(), id, kDirFlags);
  if (fd) return Entry(id, std::move(*fd));
  if (fd.error().sys_errno() == ENOENT) {
    return fail(Errc::kNotFound, "container does not exist: " + id);
  }
  return std::unexpected(std::move(fd).error());
}

Result<Entry> Store::find(const std::string& id) const {
  for (;;) {
    TRY_ASSIGN(Entry entry, peek(id));
    TRY(lock(entry.dir_fd(), id));
    // While we waited the holder may have removed it, and another may have made it anew.
    // A removed directory has no link left; nobody renames one.
    struct stat held{};
    if (::fstat(entry.dir_fd(), &held) == 0 && held.st_nlink > 0) return entry;
  }
}

Result<void> Store::remove(Entry&& entry) {
  const Entry held = std::move(entry);
  // The names we make ourselves first: mostly that is all there is (start removes its socket).
  for (const char* name : {kStateFile, "config.json"}) {
    ::unlinkat(held.dir_fd(), name, 0);
  }
  if (::unlinkat(dir_.get(), held.id().c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
  // A create that failed before its second record: by name, since to list takes a descriptor, and the lack of
  // one may be why it failed.
  ::unlinkat(held.dir_fd(), replacement_name(kStateFile).c_str(), 0);
  if (::unlinkat(dir_.get(), held.id().c_str(), AT_REMOVEDIR) == 0) return {};
  TRY(empty(held.dir_fd(), 2));
  if (::unlinkat(dir_.get(), held.id().c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return fail_errno(errno, "remove the state directory of container " + held.id());
  }
  return {};
}

Result<std::vector<std::string>> Store::list() const {
  TRY_ASSIGN(const Dir dir, open_dir(dir_.get()));
  std::vector<std::string> ids;
  while (const struct dirent* entry = ::readdir(dir.get())) {
    if (oci::check_id(entry->d_name)) ids.emplace_back(entry->d_name);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

}  // namespace amphora
