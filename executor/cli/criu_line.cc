// SPDX-License-Identifier: Apache-2.0
// See criu_line.h.
#include "executor/cli/criu_line.h"

#include "executor/base/error.h"
#include "executor/cli/launch.h"
#include "executor/criu/client.h"
#include "executor/runtime/checkpoint.h"

namespace amphora::cli {

Result<void> understand(const CriuLine& line, CriuOptions& out) {
  TRY_ASSIGN(out.image_path, absolute(line.image_path.empty() ? "checkpoint" : line.image_path));
  TRY_ASSIGN(out.work_path, absolute(line.work_path));
  TRY_ASSIGN(out.cgroups, criu::parse_cgroups_mode(line.cgroups_mode));
  TRY_ASSIGN(out.empty_namespaces, criu::parse_empty_namespaces(line.empty_ns));
  out.tcp_established = line.tcp_established;
  out.external_unix_sockets = line.ext_unix_sk;
  out.shell_job = line.shell_job;
  out.file_locks = line.file_locks;
  out.auto_dedup = line.auto_dedup;
  out.lazy_pages = line.lazy_pages;
  return {};
}

}  // namespace amphora::cli
