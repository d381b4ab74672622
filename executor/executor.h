// SPDX-License-Identifier: Apache-2.0
// The one seam between the container's set-up, which is the same for all, and the kind of program
// that runs in it. native/ and wasm/ implement it; only roofs (shim, cli) know both.
#pragma once

#include <string>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/oci/spec.h"
#include "executor/setup/exec_plan.h"

namespace amphora {

namespace cgroup {
class Cgroup;
}

/// What an executor may use while it plans, beside the process and the verdict.
struct ExecContext {
  const std::string& id;  ///< container id, for messages
  const oci::Spec& spec;  ///< annotations, memory limit
  const cgroup::Cgroup*
      cgroup;  ///< the container's cgroup (exists, limits applied); a compile runs
               ///< in it. Null: none (rootless without cgroup rights)
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual bool runs(detect::Kind kind) const noexcept = 0;
  /// Says what init becomes. May block (a compile). Undoes itself on failure.
  virtual Result<setup::ExecPlan> plan_exec(const ExecContext& context, const oci::Process& process,
                                            detect::Verdict&& verdict) = 0;
};

}  // namespace amphora
