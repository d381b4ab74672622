// SPDX-License-Identifier: Apache-2.0
// See sources.h.
#include "image/sources.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "image/archive.h"
#include "image/build.h"
#include "image/component.h"

namespace amphora::image {
namespace {

constexpr size_t kMaxFile = size_t{1} << 30;

std::string last_part(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

Result<std::string> read_whole(const std::string& path) {
  return read_file_at(AT_FDCWD, path, kMaxFile);
}

Result<Source> read_source(const std::string& path, std::string media_type, bool any) {
  Source source;
  TRY_ASSIGN(source.bytes, read_whole(path));
  source.file_name = last_part(path);
  source.media_type = std::move(media_type);
  source.binary = binary_of(source.bytes);
  if (source.binary == Binary::kOther && !any) {
    return fail(Errc::kInvalid, path + " is neither a WebAssembly module nor a component");
  }
  return source;
}

Result<std::vector<std::string>> names_in(const std::string& directory) {
  DIR* dir = ::opendir(directory.c_str());
  if (dir == nullptr) return fail_errno(errno, "open directory " + directory);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  ::closedir(dir);
  std::ranges::sort(names);
  return names;
}

/// Entries by path: a later file takes an earlier one's place, and every parent directory is there.
class Tree {
 public:
  Result<void> add(const std::string& source, const std::string& at, unsigned mode) {
    struct stat info{};
    if (::lstat(source.c_str(), &info) != 0) return fail_errno(errno, "stat " + source);
    TarEntry entry{.path = at, .kind = TarEntry::Kind::kFile, .mode = mode, .body = {}};
    if (mode == 0) entry.mode = info.st_mode & 07777U;
    if (S_ISDIR(info.st_mode)) {
      if (!at.empty())
        put(at, {.path = at + "/",
                 .kind = TarEntry::Kind::kDirectory,
                 .mode = info.st_mode & 07777U,
                 .body = {}});
      TRY_ASSIGN(const auto names, names_in(source));
      for (const std::string& name : names) {
        TRY(add(source + "/" + name, at.empty() ? name : at + "/" + name, mode));
      }
      return {};
    }
    if (S_ISLNK(info.st_mode)) {
      std::string target(4096, '\0');
      const ssize_t n = ::readlink(source.c_str(), target.data(), target.size());
      if (n < 0) return fail_errno(errno, "read link " + source);
      target.resize(static_cast<size_t>(n));
      entry.kind = TarEntry::Kind::kSymlink;
      entry.mode = 0777;
      entry.body = std::move(target);
    } else if (S_ISREG(info.st_mode)) {
      TRY_ASSIGN(entry.body, read_whole(source));
    } else {
      return fail(Errc::kInvalid, source + " is neither file, directory nor symbolic link");
    }
    put(at, std::move(entry));
    return {};
  }

  void put(const std::string& at, TarEntry entry) {
    for (size_t slash = at.find('/'); slash != at.npos; slash = at.find('/', slash + 1)) {
      const std::string parent = at.substr(0, slash);
      entries_.try_emplace(
          parent,
          TarEntry{
              .path = parent + "/", .kind = TarEntry::Kind::kDirectory, .mode = 0755, .body = {}});
    }
    entries_.insert_or_assign(at, std::move(entry));
  }

  std::vector<TarEntry> take() {
    std::vector<TarEntry> out;
    for (auto& [path, entry] : entries_) out.push_back(std::move(entry));
    return out;
  }

 private:
  std::map<std::string, TarEntry> entries_;  // a parent sorts before what is in it
};

/// "/srv//x/" is "srv/x"; nothing may lead out of the root.
Result<std::string> in_layer(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part == "..") return fail(Errc::kInvalid, "a destination with \"..\"");
    if (part.empty() || part == ".") continue;
    if (!out.empty()) out += '/';
    out += part;
  }
  return out;
}

Result<void> add_file(Tree& tree, const std::string& word) {
  const size_t first = word.find(':');
  const size_t second = first == word.npos ? word.npos : word.find(':', first + 1);
  if (first == word.npos || first == 0) {
    return fail(Errc::kInvalid, "--file \"" + word + "\" is not SOURCE:DESTINATION[:MODE]");
  }
  unsigned mode = 0;
  if (second != word.npos) {
    const char* const end = word.data() + word.size();
    const auto [at, error] = std::from_chars(word.data() + second + 1, end, mode, 8);
    if (error != std::errc() || at != end || mode == 0 || mode > 07777) {
      return fail(Errc::kInvalid, "--file \"" + word + "\": the mode is no octal number");
    }
  }
  TRY_ASSIGN(const std::string at, in_layer(word.substr(first + 1, second - first - 1)));
  return tree.add(word.substr(0, first), at, mode);
}

}  // namespace

Result<std::vector<Source>> read_sources(const BuildRequest& request) {
  std::vector<Source> out;
  for (const std::string& path : request.modules) {
    TRY_ASSIGN(Source source, read_source(path, "", /*any=*/false));
    out.push_back(std::move(source));
  }
  if (!request.components.empty()) {
    TRY_ASSIGN(const auto names, names_in(request.components));
    for (const std::string& name : names) {
      if (!name.ends_with(".wasm")) continue;
      TRY_ASSIGN(Source source, read_source(request.components + "/" + name, "", /*any=*/false));
      out.push_back(std::move(source));
    }
    if (out.empty()) return fail(Errc::kInvalid, request.components + " has no .wasm file");
  }
  for (const std::string& word : request.layers) {
    const size_t equals = word.find('=');
    if (equals == word.npos || equals == 0) {
      return fail(Errc::kInvalid, "--layer \"" + word + "\" is not MEDIATYPE=FILE");
    }
    TRY_ASSIGN(Source source,
               read_source(word.substr(equals + 1), word.substr(0, equals), /*any=*/true));
    out.push_back(std::move(source));
  }
  return out;
}

Result<std::vector<TarEntry>> tar_entries(const BuildRequest& request,
                                          const std::vector<Source>& modules) {
  Tree tree;
  for (const std::string& word : request.files) TRY(add_file(tree, word));
  for (const Source& module : modules) {
    tree.put(module.file_name, {.path = module.file_name,
                                .kind = TarEntry::Kind::kFile,
                                .mode = 0755,
                                .body = module.bytes});
  }
  return tree.take();
}

}  // namespace amphora::image
