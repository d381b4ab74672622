// SPDX-License-Identifier: Apache-2.0
// The native executor: init becomes the entrypoint, by exec. Small on purpose: everything that makes a
// native container is the shared set-up.
#pragma once

#include "executor/executor.h"

namespace amphora::native {

class NativeExecutor final : public Executor {
 public:
  bool runs(detect::Kind kind) const noexcept override { return kind == detect::Kind::kNative; }
  Result<setup::ExecPlan> plan_exec(const ExecContext& context, const oci::Process& process,
                                    detect::Verdict&& verdict) override;
};

}  // namespace amphora::native
