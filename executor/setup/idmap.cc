// SPDX-License-Identifier: Apache-2.0
// The maps of id-mapped mounts. See idmap.h.
#include "executor/setup/idmap.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/oci/spec.h"
#include "executor/setup/mount_options.h"
#include "executor/setup/plan.h"
#include "executor/setup/user_namespace.h"

namespace amphora::setup {
namespace {

/// The host's id of an id inside the container.
std::optional<uint32_t> to_host(uint32_t id, const std::vector<oci::IdMapping>& mappings) {
  for (const oci::IdMapping& m : mappings) {
    if (id >= m.container_id && id - m.container_id < m.size) {
      return m.host_id + (id - m.container_id);
    }
  }
  return std::nullopt;
}

bool take_number(std::string_view& text, uint32_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

/// "[@]0-1000-1"
std::optional<oci::IdMapping> parse_triplet(std::string_view text,
                                            const std::vector<oci::IdMapping>& container) {
  const bool relative = text.starts_with('@');
  if (relative) text.remove_prefix(1);
  oci::IdMapping m;
  uint32_t* const parts[] = {&m.container_id, &m.host_id, &m.size};
  for (size_t i = 0; i < 3; ++i) {
    if (i > 0) {
      if (!text.starts_with('-')) return std::nullopt;
      text.remove_prefix(1);
    }
    if (!take_number(text, *parts[i])) return std::nullopt;
  }
  if (!text.empty() || m.size == 0) return std::nullopt;
  if (relative) {
    const auto host = to_host(m.host_id, container);
    if (!host) return std::nullopt;
    m.host_id = *host;
  }
  return m;
}

template <class Visit>
bool each(std::string_view text, char separator, Visit visit) {
  while (!text.empty()) {
    const size_t end = text.find(separator);
    if (!visit(text.substr(0, end))) return false;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return true;
}

}  // namespace

Result<IdMaps> parse_idmap(std::string_view text, const oci::Linux& container) {
  IdMaps maps;
  const bool good = each(text, ';', [&](std::string_view part) {
    const bool uids = part.starts_with("uids=");
    if (!uids && !part.starts_with("gids=")) return false;
    part.remove_prefix(5);
    // "@" may stand once before all of a list.
    const bool relative = part.starts_with('@');
    const auto& from = uids ? container.uid_mappings : container.gid_mappings;
    auto& to = uids ? maps.uids : maps.gids;
    return each(part, '#', [&](std::string_view triplet) {
      const std::string one =
          relative && !triplet.starts_with('@') ? "@" + std::string(triplet) : std::string(triplet);
      const auto m = parse_triplet(one, from);
      if (m) to.push_back(*m);
      return m.has_value();
    });
  });
  if (good && !maps.uids.empty() && !maps.gids.empty()) return maps;
  return fail(
      Errc::kInvalid,
      fmt::format("\"{}\" is no id map (uids=FROM-TO-COUNT#...;gids=FROM-TO-COUNT#...)", text));
}

Result<void> set_idmap(const oci::Spec& spec, const oci::Mount& mount, const MountOptions& options,
                       Source& source) {
  source.idmap = options.recursive_idmap ? Source::IdMap::kTree : Source::IdMap::kTop;
  if (!options.idmap_spec.empty()) {
    TRY_ASSIGN(source.maps, parse_idmap(options.idmap_spec, spec.linux_));
    return {};
  }
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) {
    return fail(Errc::kInvalid,
                "both uidMappings and gidMappings must be specified for an "
                "id-mapped mount, and one of them is missing");
  }
  if (!mount.uid_mappings.empty()) {
    source.maps = {mount.uid_mappings, mount.gid_mappings};
    return {};
  }
  const oci::Namespace* user = spec.find_namespace(oci::NamespaceKind::kUser);
  if (user == nullptr) {
    return fail(Errc::kInvalid,
                "an id-mapped mount needs uidMappings and gidMappings of its own, or a user "
                "namespace of the container's (linux.namespaces, user)");
  }
  if (!user->path.empty()) {
    source.maps_path = user->path;
  } else {
    source.maps = {spec.linux_.uid_mappings, spec.linux_.gid_mappings};
  }
  return {};
}

}  // namespace amphora::setup
