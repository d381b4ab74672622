// SPDX-License-Identifier: Apache-2.0
// amphora start: lets a created container's program run.
#include "executor/cli/command.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

Result<int> start(Context& context, const NoOptions&, Arguments arguments) {
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  TRY(runtime->start(arguments[0]));
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
