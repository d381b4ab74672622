// SPDX-License-Identifier: Apache-2.0
// Mount trees as a plan needs them: which changes give one its attributes, and who opens it, the parent
// (sources.cc) or, where that may not or cannot yet, the child (kOpenTree).
#include <sys/mount.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/path.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"

namespace amphora::setup {

/// One change for the whole tree and one for its top mount, each with its last propagation; a tree of
/// one mount needs only the second.
std::vector<init::TreeChange> tree_changes(const Source& source) {
  std::vector<init::TreeChange> changes;
  init::TreeChange whole{source.rec_set, source.rec_clr, 0, 1};
  init::TreeChange top{source.attr_set, source.attr_clr, 0, 0};
  for (const uint64_t propagation : source.propagation) {
    const uint64_t kind = propagation & ~static_cast<uint64_t>(MS_REC);
    const bool recursive = (propagation & MS_REC) != 0;
    init::TreeChange& change = recursive && source.recursive ? whole : top;
    // Combinations such as "slave" then "shared" are two changes, in their order.
    if (change.propagation != 0 && change.propagation != kind) {
      changes.push_back({0, 0, change.propagation, change.recursive});
    }
    change.propagation = kind;
  }
  for (const init::TreeChange& change : {whole, top}) {
    if ((change.set | change.clear | change.propagation) != 0) changes.push_back(change);
  }
  return changes;
}

namespace {

init::Tree kind_of(const Source& source) {
  if (source.kind == Source::Kind::kNull) return init::kNullTree;
  return source.kind == Source::Kind::kEmpty ? init::kEmptyTree : init::kPathTree;
}

int32_t plan_open(Source&& source, uint16_t flags, uint64_t map, Builder& b) {
  // Where the kernel holds the locks itself, only what was asked for is cleared.
  if (source.keeps_locked) source.attr_clr = source.named_clr;
  const std::vector<init::TreeChange> changes = tree_changes(source);
  const std::string what = (source.what.starts_with("error ") ? "" : "open ") + source.what;
  if (source.recursive) flags |= init::kRecursive;
  if (source.no_follow) flags |= init::kNoFollow;
  const uint64_t kind = kind_of(source);
  const bool whole_map = source.idmap == Source::IdMap::kTree;
  const uint32_t path = b.text(kind == init::kNullTree ? "/dev/null" : source.path);
  const uint32_t at = b.bytes(changes.data(), changes.size() * sizeof(init::TreeChange));
  source.by_child = true;
  const int32_t fd = b.source(std::move(source));
  init::Step& s = b.step(init::Op::kOpenTree, what);
  s.fd = fd;
  s.a = path;
  s.b = at;
  s.c = whole_map ? 1 : 0;
  s.d = static_cast<uint32_t>(changes.size());
  s.n = map;
  s.m = kind;
  s.flags = flags;
  return fd;
}

/// The path in the container of a bind's source that earlier mounts of the same container cover or
/// make; empty for every other source, which the host's files alone decide.
std::string made_inside(const PlanInput& in, const MountTable& table, const PlannedMount& bind,
                        bool recursive) {
  const std::string source = path::clean(bind.mount->source);
  if (!source.starts_with('/') || !path::is_below(source, in.rootfs)) return {};
  std::string inside = path::clean("/" + source.substr(in.rootfs.size()));
  for (const PlannedMount& earlier : table.mounts) {
    if (&earlier == &bind) break;
    if (path::is_below(inside, earlier.target) ||
        (recursive && path::is_below(earlier.target, inside))) {
      return inside;
    }
  }
  return {};
}

int32_t plan_tree_in_root(const PlanInput& in, Source&& source, const std::string& path,
                          Builder& b) {
  source.path = path;
  uint16_t flags = init::kInRoot;
  uint64_t map = UINT64_MAX;
  if (source.idmap != Source::IdMap::kNone) {
    Source carrier;
    carrier.kind = Source::Kind::kIdMap;
    carrier.maps = source.maps;
    carrier.maps_path = source.maps_path;
    carrier.what = source.what;
    map = static_cast<uint64_t>(b.source(std::move(carrier)));
    if (in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr) {
      flags |= init::kByParent;
      source.what += " (its ids are mapped, so no part of its path may be a link)";
    }
  }
  return plan_open(std::move(source), flags, map, b);
}

}  // namespace

int32_t plan_tree(const PlanInput& in, Source&& source, Builder& b) {
  return in.host.may_mount ? b.source(std::move(source))
                           : plan_open(std::move(source), 0, UINT64_MAX, b);
}

int32_t plan_bind_source(const PlanInput& in, const MountTable& table, const PlannedMount& planned,
                         Source&& source, Builder& b) {
  const std::string inside = made_inside(in, table, planned, source.recursive);
  return inside.empty() ? plan_tree(in, std::move(source), b)
                        : plan_tree_in_root(in, std::move(source), inside, b);
}

}  // namespace amphora::setup
