// SPDX-License-Identifier: Apache-2.0
// amphora pause and resume: the freezer.
#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

Result<int> pause_container(Context& context, const NoOptions&, Arguments arguments) {
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  TRY(runtime->pause(arguments[0]));
  return 0;
}

Result<int> resume_container(Context& context, const NoOptions&, Arguments arguments) {
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  TRY(runtime->resume(arguments[0]));
  return 0;
}

}  // namespace

constinit const Command kPauseCommand = {
    .name = "pause",
    .summary = "pause suspends all processes inside the container",
    .usage = "<container-id>",
    .description = "",
    .options = {},
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<NoOptions, &pause_container>,
};

constinit const Command kResumeCommand = {
    .name = "resume",
    .summary = "resumes all processes that have been previously paused",
    .usage = "<container-id>",
    .description = "",
    .options = {},
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<NoOptions, &resume_container>,
};

}  // namespace amphora::cli
