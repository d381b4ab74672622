// SPDX-License-Identifier: Apache-2.0
// amphora start: lets a created container's program run.
#include <string>

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/notify.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"
#include "executor/store/store.h"

namespace amphora::cli {
namespace {

/// With a service manager that waits for readiness, start returns when the container has said so.
Result<void> start_and_wait(Runtime& runtime, const std::string& id, Notify& notify) {
  TRY_ASSIGN(const Runtime::Report before, runtime.state(id));
  bool bound = false;
  if (before.status == oci::Status::kCreated) {
    TRY_ASSIGN(const Entry entry, runtime.store().peek(id));
    TRY_ASSIGN(bound, notify.bind(entry.dir_fd()));
  }
  auto init = find_process(before.state.pid, before.state.start_time);
  TRY(runtime.start(id));
  return bound && init ? notify.wait_ready(*init) : Result<void>();
}

Result<int> start(Context& context, const NoOptions&, Arguments arguments) {
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  if (auto notify = Notify::from_environment()) {
    TRY(start_and_wait(*runtime, arguments[0], *notify));
  } else {
    TRY(runtime->start(arguments[0]));
  }
  return 0;
}

}  // namespace

constinit const Command kStartCommand = {
    .name = "start",
    .summary = "executes the user defined process in a created container",
    .usage = "<container-id>",
    .description = "Returns when the program runs, or says why it cannot.",
    .options = {},
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<NoOptions, &start>,
};

}  // namespace amphora::cli
