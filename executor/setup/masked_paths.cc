// SPDX-License-Identifier: Apache-2.0
// linux.maskedPaths and linux.readonlyPaths as steps. Names in the plan's own new procfs, which only the kernel
// makes, are done together before the pivot; all others after it, each resolved below the root.
#include <sys/mount.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "executor/init/step.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"

namespace amphora::setup {
namespace {

using enum init::Op;

/// Names in procfs that are directories: a hint which mask is tried first, nothing hangs on it.
constexpr std::string_view kProcDirectories[] = {"acpi", "asound", "bus",  "driver",
                                                 "fs",   "irq",    "scsi", "sys"};

/// The name, for a path that is one in /proc; empty for any other.
std::string_view name_in_proc(const MountTable& table, const std::string& path) {
  return table.new_proc && path.starts_with("/proc/") && path.size() > 6 &&
                 path.find('/', 6) == std::string::npos && path != "/proc/." && path != "/proc/.."
             ? std::string_view(path).substr(6)
             : std::string_view();
}

/// The device-less /dev/null and an empty directory, shared by all masked paths.
struct MaskTrees {
  int32_t null = -1, empty = -1;
};

MaskTrees mask_trees(const PlanInput& in, Builder& b) {
  Source null;
  null.kind = Source::Kind::kNull;
  null.what = "masked paths";
  null.propagation = {MS_PRIVATE};
  MaskTrees trees;
  const auto& sources = b.plan().sources;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (sources[i].kind == Source::Kind::kNull) trees.null = static_cast<int32_t>(i);
    if (sources[i].kind == Source::Kind::kEmpty) trees.empty = static_cast<int32_t>(i);
  }
  if (trees.null >= 0) return trees;
  trees.null = plan_tree(in, std::move(null), b);
  Source empty;
  empty.kind = Source::Kind::kEmpty;
  empty.what = "masked paths";
  trees.empty = plan_tree(in, std::move(empty), b);
  return trees;
}

/// `in_proc` says which are planned: names in /proc, or all others.
void plan_masks(const PlanInput& in, const MountTable& table, Builder& b, bool in_proc) {
  MaskTrees trees;
  std::set<std::string_view> seen;
  for (const std::string& masked : in.spec.linux_.masked_paths) {
    if (!seen.insert(masked).second) continue;
    const std::string_view name = name_in_proc(table, masked);
    if (name.empty() == in_proc) continue;
    if (trees.null < 0) trees = mask_trees(in, b);
    const uint32_t target = b.text(in_proc ? name : std::string_view(masked));
    init::Step& s = b.step(kMask, "mask " + masked);
    s.a = target;
    s.fd = trees.null;
    s.n = static_cast<uint64_t>(trees.empty);
    s.flags = init::kOptional;
    s.m = in_proc ? 1 : 0;
    const bool directory =
        in_proc ? std::ranges::find(kProcDirectories, name) != std::end(kProcDirectories)
                : masked.starts_with("/sys/");
    s.d = directory ? 1 : 0;
  }
}

void plan_readonly_paths(const PlanInput& in, const MountTable& table, Builder& b, bool in_proc) {
  for (const std::string& readonly : in.spec.linux_.readonly_paths) {
    const std::string_view name = name_in_proc(table, readonly);
    if (name.empty() == in_proc) continue;
    const uint32_t target = b.text(in_proc ? name : std::string_view(readonly));
    init::Step& s = b.step(kReadonlyPath, "make " + readonly + " read-only");
    s.a = target;
    s.n = in_proc ? 1 : 0;
    s.flags = init::kOptional;
  }
}

}  // namespace

/// Paths in /proc, by their names in it: entered once, two calls each and one for what is missing.
void plan_proc_paths(const PlanInput& in, const MountTable& table, Builder& b) {
  // The host's null device is the one for masks: after the pivot its path would be the image's.
  if (!in.host.may_mount && !in.spec.linux_.masked_paths.empty()) mask_trees(in, b);
  const auto is_name = [&](const std::string& path) { return !name_in_proc(table, path).empty(); };
  if (std::ranges::none_of(in.spec.linux_.readonly_paths, is_name) &&
      std::ranges::none_of(in.spec.linux_.masked_paths, is_name)) {
    return;
  }
  const uint32_t proc = b.text("/proc");
  init::Step& s = b.step(kEnterDir, "enter /proc");
  s.a = proc;
  s.n = 1;
  plan_readonly_paths(in, table, b, /*in_proc=*/true);
  plan_masks(in, table, b, /*in_proc=*/true);
}

void plan_other_paths(const PlanInput& in, const MountTable& table, Builder& b) {
  plan_readonly_paths(in, table, b, /*in_proc=*/false);
  plan_masks(in, table, b, /*in_proc=*/false);
}

}  // namespace amphora::setup
