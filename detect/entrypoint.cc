// SPDX-License-Identifier: Apache-2.0
// Names, PATH and permissions of the entrypoint. See entrypoint.h.
#include "detect/entrypoint.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "detect/view.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/spec.h"

namespace amphora::detect {

namespace {

constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr size_t kMaxCandidates = 256;  // process.env may come from an image
// Nor may a long name or cwd, once for each entry of PATH, fill the shim's memory.
constexpr size_t kMaxCandidateBytes = size_t{1} << 20;

std::string_view search_path(const oci::Process& process) {
  std::string_view path = kDefaultPath;
  for (const std::string_view entry : process.env) {
    if (entry.starts_with("PATH=")) path = entry.substr(5);  // the last duplicate wins
  }
  return path;
}

std::string below(std::string_view directory, std::string_view name) {
  return fmt::format("{}{}{}", directory, directory.ends_with('/') ? "" : "/", name);
}

bool has_idmapped_mount(const oci::Spec& spec) {
  return std::ranges::any_of(spec.mounts, [](const oci::Mount& mount) {
    return std::ranges::any_of(mount.options,
                               [](std::string_view o) { return o == "idmap" || o == "ridmap"; });
  });
}

/// The id that the host's filesystems know; nothing if the map does not have it.
std::optional<uint32_t> host_id(const std::vector<oci::IdMapping>& map, uint32_t id) {
  for (const auto& m : map) {
    if (id >= m.container_id && id - m.container_id < m.size)
      return m.host_id + (id - m.container_id);
  }
  return std::nullopt;
}

/// CAP_DAC_OVERRIDE makes one x bit of anybody enough. A process object without capabilities leaves
/// root with what the runtime has.
bool overrides_permissions(const oci::Process& process) {
  if (!process.capabilities) return process.user.uid == 0;
  return std::ranges::find(process.capabilities->effective, "CAP_DAC_OVERRIDE") !=
         process.capabilities->effective.end();
}

bool is_member(const oci::Process& process, const std::vector<oci::IdMapping>* map, gid_t group) {
  const auto same = [&](uint32_t id) {
    return map == nullptr ? id == group : host_id(*map, id) == group;
  };
  return same(process.user.gid) || std::ranges::any_of(process.user.additional_gids, same);
}

/// What only this process lacks is an error; what is the file's fault is an answer.
bool is_our_failure(int err) { return err == EMFILE || err == ENFILE || err == ENOMEM; }

}  // namespace

std::vector<std::string> candidate_paths(const oci::Process& process, std::string_view name) {
  if (name.empty()) return {};
  if (name.starts_with('/')) return {std::string(name)};
  if (name.contains('/')) return {below(process.cwd, name)};
  std::vector<std::string> paths;
  std::string_view rest = search_path(process);
  size_t bytes = 0;
  while (paths.size() < kMaxCandidates && bytes < kMaxCandidateBytes) {
    const auto colon = rest.find(':');
    const auto entry = rest.substr(0, colon);
    const auto directory = entry.starts_with('/') ? std::string(entry)
                           : entry.empty()        ? process.cwd
                                                  : below(process.cwd, entry);
    paths.push_back(below(directory, name));
    bytes += paths.back().size();
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  return paths;
}

bool is_executable(const oci::Spec& spec, const oci::Process& process, const struct stat& info) {
  const bool any = (info.st_mode & 0111) != 0;
  const auto* user_namespace = spec.find_namespace(oci::NamespaceKind::kUser);
  const bool mapped = user_namespace != nullptr;
  const bool comparable =
      !has_idmapped_mount(spec) &&
      (!mapped || (!spec.linux_.uid_mappings.empty() && !spec.linux_.gid_mappings.empty()));
  if (!any || !comparable || overrides_permissions(process)) return any;
  const auto uid = mapped ? host_id(spec.linux_.uid_mappings, process.user.uid) : process.user.uid;
  if (uid == info.st_uid) return (info.st_mode & S_IXUSR) != 0;
  if (is_member(process, mapped ? &spec.linux_.gid_mappings : nullptr, info.st_gid)) {
    return (info.st_mode & S_IXGRP) != 0;
  }
  return (info.st_mode & S_IXOTH) != 0;
}

Result<Search> search(View& view, const oci::Spec& spec, const oci::Process& process,
                      std::string_view name) {
  Search result;
  const bool by_path = !name.contains('/');
  std::string why;
  for (auto& path : candidate_paths(process, name)) {
    auto fd = view.lookup(path);
    if (!fd) {
      if (is_our_failure(fd.error().sys_errno())) return std::unexpected(std::move(fd).error());
      const bool just_absent = by_path && fd.error().sys_errno() == ENOENT;
      if (why.empty() && !just_absent) why = fd.error().what();
      continue;
    }
    File file{.path = std::move(path), .fd = std::move(*fd)};
    if (::fstat(file.fd.get(), &file.info) != 0) return fail_errno(errno, "stat " + file.path);
    if (!S_ISREG(file.info.st_mode)) {
      const char* what = S_ISDIR(file.info.st_mode) ? "a directory" : "not a regular file";
      if (why.empty()) why = fmt::format("{}: is {}", file.path, what);
      continue;
    }
    file.executable = is_executable(spec, process, file.info);
    if (file.executable) {
      result.files.insert(result.files.begin(), std::move(file));
      return result;
    }
    result.files.push_back(std::move(file));
  }
  if (why.empty())
    why = fmt::format("{}: not found in PATH {}", name, search_path(process).substr(0, 512));
  if (result.files.empty()) result.why_none = std::move(why);
  return result;
}

Result<UniqueFd> open_for_reading(const File& file) {
  // O_NONBLOCK and O_NOCTTY cost nothing on the regular file that this is, and O_PATH pins its
  // inode.
  auto fd = open_at(AT_FDCWD, fmt::format("/proc/self/fd/{}", file.fd.get()),
                    O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!fd) return fail_errno(fd.error().sys_errno(), "open " + file.path);
  struct stat info{};
  if (::fstat(fd->get(), &info) != 0) return fail_errno(errno, "stat " + file.path);
  if (info.st_dev != file.info.st_dev || info.st_ino != file.info.st_ino) {
    return fail(Errc::kSystem,
                fmt::format("open {}: /proc/self/fd leads to another file", file.path));
  }
  return fd;
}

}  // namespace amphora::detect
