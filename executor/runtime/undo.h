// SPDX-License-Identifier: Apache-2.0
// What create and restore take away again when a later part of them fails. Internal to runtime/.
#pragma once

#include <memory>
#include <optional>

#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"
#include "executor/store/store.h"

namespace amphora {

/// What a failed create takes away again, in reverse order of making.
struct Runtime::Undo {
  Runtime& runtime;
  std::optional<Entry> entry;
  std::unique_ptr<cgroup::Cgroup> cgroup;
  std::optional<Process> init;
  oci::State state;
  bool armed = true;

  ~Undo();
};

}  // namespace amphora
