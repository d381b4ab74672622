// SPDX-License-Identifier: Apache-2.0
// ExecPlan: an executor's whole say about a container, namely what its init becomes after the shared
// steps; and Spawner, who clones that init. Values only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"

namespace amphora::setup {

class Plan;

/// A frozen plan about to become a process.
struct SpawnRequest {
  const Plan& plan;
  uint64_t clone_flags = 0;   ///< CLONE_NEW* for the init process
  int cgroup_fd = -1;         ///< v2: CLONE_INTO_CGROUP; -1: the parent places the pid
  int pid_namespace_fd = -1;  ///< join this pid namespace (setns around clone3); -1: none
  int preserve_fds = 0;       ///< descriptors 3 .. 3+n-1 are the payload's
  int status_fd = -1;         ///< the child's end of the handshake socket (SOCK_SEQPACKET)
};

/// Makes the init process: by clone3 of this process (native), or through the wasm host's zygote.
/// The child is a child of the calling process, which reaps it by its pidfd. Called with Children's
/// mutex held; the caller registers the child.
class Spawner {
 public:
  virtual ~Spawner() = default;
  virtual Result<Process> spawn(const SpawnRequest& request) = 0;
};

/// What init becomes. A native program: `candidates` are tried in order and exec'd with argv and
/// env. A wasm guest: `handover` is not empty, the plan ends with kHandOver, and `handover` with
/// `fds` travels beside the plan to the spawner's process, which alone understands it.
struct ExecPlan {
  std::vector<std::string> candidates;  ///< absolute or cwd-relative paths inside the container
  bool first_is_file = false;           ///< the first of them was seen to be a regular file
  std::string name;                     ///< argv[0] as the user gave it, for messages
  std::vector<std::string> argv;
  std::vector<std::string> env;  ///< exactly what the payload sees
  std::string why_not;           ///< " (neither ...)": detection's doubts, for a failing exec
  std::string handover;          ///< opaque to setup
  std::vector<std::string>
      covered;  ///< directories that are empty in the guest's view of the root; none: no view
  std::vector<UniqueFd> fds;   ///< appended to the plan's descriptors, for the handover
  Spawner* spawner = nullptr;  ///< null: clone3 of this process
  std::string kind;            ///< "native" or "wasm", for state and logs
};

}  // namespace amphora::setup
