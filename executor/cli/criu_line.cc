// SPDX-License-Identifier: Apache-2.0
// See criu_line.h.
#include "executor/cli/criu_line.h"

#include <sched.h>

#include "executor/cli/launch.h"

namespace amphora::cli {
namespace {

Result<criu::CgroupsMode> cgroups_mode(const std::string& word) {
  if (word.empty() || word == "ignore") return criu::CgroupsMode::kIgnore;
  if (word == "soft") return criu::CgroupsMode::kSoft;
  if (word == "full") return criu::CgroupsMode::kFull;
  if (word == "strict") return criu::CgroupsMode::kStrict;
  return fail(Errc::kInvalid,
              "--manage-cgroups-mode " + word +
                  ": invalid manage-cgroups-mode value (soft, full, strict or ignore)");
}

}  // namespace

Result<void> understand(const CriuLine& line, CriuOptions& out) {
  TRY_ASSIGN(out.image_path, absolute(line.image_path.empty() ? "checkpoint" : line.image_path));
  TRY_ASSIGN(out.work_path, absolute(line.work_path));
  TRY_ASSIGN(out.cgroups, cgroups_mode(line.cgroups_mode));
  for (const std::string& kind : line.empty_ns) {
    if (kind != "network") {
      return fail(Errc::kInvalid, "--empty-ns " + kind + ": criu can leave alone \"network\" only");
    }
    out.empty_namespaces |= CLONE_NEWNET;
  }
  out.tcp_established = line.tcp_established;
  out.external_unix_sockets = line.ext_unix_sk;
  out.shell_job = line.shell_job;
  out.file_locks = line.file_locks;
  out.auto_dedup = line.auto_dedup;
  out.lazy_pages = line.lazy_pages;
  return {};
}

}  // namespace amphora::cli
