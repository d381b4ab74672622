// SPDX-License-Identifier: Apache-2.0
// Running OCI hooks in the runtime's namespaces: state JSON on stdin, exactly the hook's own
// environment, its timeout. Hooks that run inside the container are steps (init/), not these.
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/oci/spec.h"

namespace amphora::hooks {

/// Runs hooks in order, stops at the first failure: "error running createRuntime hook #0: ..." with
/// the exit status and the last line of its stderr. A hook past its timeout is killed with its group.
Result<void> run(const char* kind, const std::vector<oci::Hook>& hooks,
                 const std::string& state_json, Children& children);

}  // namespace amphora::hooks
