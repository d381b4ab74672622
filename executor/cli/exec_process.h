// SPDX-License-Identifier: Apache-2.0
// The process that exec starts, put together from the container's own and the command line. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::cli {

struct ExecOptionsLine {
  std::string console_socket, pidfd_socket, cwd, process, pid_file;
  std::optional<std::string> user;  ///< an empty one is an error, not root
  std::string process_label, apparmor;
  std::vector<std::string> env, additional_gids, caps, cgroup;
  std::optional<bool> no_new_privs;
  bool tty = false, detach = false, ignore_paused = false;
  int preserve_fds = 0;
};

/// `base` is the container's own process; `args` are the words behind the id.
Result<oci::Process> exec_process(oci::Process base, const ExecOptionsLine& line,
                                  std::vector<std::string> args);

}  // namespace amphora::cli
