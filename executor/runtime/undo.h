// SPDX-License-Identifier: Apache-2.0
// How create and restore begin, and what they take away again when a later part of them fails. Internal
// to runtime/.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/launch.h"
#include "executor/store/store.h"

namespace amphora::runtime {
struct Bundle;
}  // namespace amphora::runtime

namespace amphora {

/// What a failed create takes away again, in reverse order of making.
struct Runtime::Undo {
  Runtime& runtime;
  std::optional<Entry> entry;
  std::unique_ptr<cgroup::Cgroup> cgroup;
  std::optional<Process> init;
  oci::State state;
  std::vector<UniqueFd> spent;  ///< done with, and closed together: neighbours cost one call
  bool armed = false;  ///< nothing made yet: an existing container of this id is somebody else's

  /// Makes the record and the cgroup with its limits, as `state` (first_state) and the bundle have them.
  Result<void> begin(const amphora::runtime::Bundle& bundle, const CreateOptions& options);

  /// Fills in what the launch calls back. `spec` and `work` live as long as the request.
  void attend(setup::LaunchRequest& request, const oci::Spec& spec, const setup::ParentWork& work);

  ~Undo();
};

}  // namespace amphora
