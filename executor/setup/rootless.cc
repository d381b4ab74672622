// SPDX-License-Identifier: Apache-2.0
// What a caller who is not root cannot have: said before anything is made, by the spec's member. The
// rules are runc's, but for groups, which a namespace mapped by newgidmap may set.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "executor/base/error.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/id_maps.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"

namespace amphora::setup {
namespace {

using oci::NamespaceKind;

bool is_mapped(uint32_t id, const std::vector<oci::IdMapping>& map) {
  for (const oci::IdMapping& m : map) {
    if (id >= m.container_id && id - m.container_id < m.size) return true;
  }
  return false;
}

/// "uid=" and "gid=" of a filesystem's own options.
Result<void> check_ids_of(const PlannedMount& planned, const oci::Linux& linux_) {
  std::string_view rest = planned.options.data;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    const bool uid = word.starts_with("uid=");
    if (!uid && !word.starts_with("gid=")) continue;
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(word.data() + 4, word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size())
      continue;  // the kernel's to judge
    if (!is_mapped(id, uid ? linux_.uid_mappings : linux_.gid_mappings)) {
      return fail(Errc::kInvalid, "mount " + planned.mount->destination + ": cannot specify " +
                                      std::string(word) +
                                      " mount option for rootless container: the id is not in " +
                                      (uid ? "linux.uidMappings" : "linux.gidMappings"));
    }
  }
  return {};
}

Result<void> check_groups(const PlanInput& in) {
  const auto& groups = in.process.user.additional_gids;
  const auto& map = in.spec.linux_.gid_mappings;
  if (groups.empty() || map.empty()) return {};
  if (map_writer(map, in.host.egid, false) == MapWriter::kOwnId) {
    return fail(Errc::kInvalid,
                "process.user.additionalGids: cannot set any additional groups in a rootless "
                "container whose gidMappings are the caller's own group only");
  }
  for (const uint32_t gid : groups) {
    if (!is_mapped(gid, map)) {
      return fail(Errc::kInvalid, "process.user.additionalGids: gid " + std::to_string(gid) +
                                      " is not in linux.gidMappings");
    }
  }
  return {};
}

/// Root of a user namespace that does not own its mounts (unshare -U without -m) has no more rights here.
Result<void> check_idmaps(const MountTable& table) {
  for (const PlannedMount& planned : table.mounts) {
    if (!planned.options.idmap) continue;
    return fail(Errc::kUnsupported,
                "mount " + planned.mount->destination +
                    ": id-mapped mounts need CAP_SYS_ADMIN where the filesystem was mounted");
  }
  return {};
}

}  // namespace

Result<void> check_rootless_exec(const PlanInput& in) {
  return in.host.euid == 0 ? Result<void>() : check_groups(in);
}

Result<void> check_rootless(const PlanInput& in, const MountTable& table) {
  if (!in.host.may_mount) TRY(check_idmaps(table));
  if (in.host.euid == 0) return {};
  TRY(check_groups(in));
  if (in.spec.find_namespace(NamespaceKind::kUser) == nullptr) {
    return fail(Errc::kInvalid,
                "rootless containers require user namespaces: linux.namespaces has no user");
  }
  if (!in.spec.linux_.net_devices.empty()) {
    return fail(Errc::kUnsupported,
                "linux.netDevices: network devices are not supported for rootless containers");
  }
  for (const PlannedMount& planned : table.mounts) {
    if (has_new(in.spec, NamespaceKind::kUser)) TRY(check_ids_of(planned, in.spec.linux_));
  }
  return check_idmaps(table);
}

void plan_own_oom_score(const PlanInput& in, Builder& b) {
  if (in.host.euid == 0 || !in.process.oom_score_adj) return;
  // proc(5): our files belong to root while we are not dumpable. Nothing of the container is near yet.
  b.step(init::Op::kDumpable, "let ourselves be seen").n = 1;
  const std::string value = std::to_string(*in.process.oom_score_adj);
  plan_write(in, b, "set process.oomScoreAdj " + value + " (lowering it needs CAP_SYS_RESOURCE)",
             "self/oom_score_adj", value);
  b.step(init::Op::kDumpable, "hide again").n = 0;
}

void plan_dumpable(const PlanInput& in, Builder& b) {
  // The caller is to find its own container again (exec, ps) although a wasm guest never comes to an
  // exec: with the same ids it may look into what is dumpable only, and its own root is all there is.
  if (in.host.euid != 0) b.step(init::Op::kDumpable, "let the caller look in").n = 1;
}

}  // namespace amphora::setup
