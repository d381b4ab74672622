// SPDX-License-Identifier: Apache-2.0
// amphora state: a container's state as the runtime spec words it.
#include "executor/oci/state.h"

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/output.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

Result<int> state(Context& context, const NoOptions&, Arguments arguments) {
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  TRY_ASSIGN(const Runtime::Report report, runtime->state(arguments[0]));
  TRY(print(oci::state_report_json(report.state, report.status)));
  return 0;
}

}  // namespace

constinit const Command kStateCommand = {
    .name = "state",
    .summary = "output the state of a container",
    .usage = "<container-id>",
    .description =
        "Prints JSON: ociVersion, id, pid (0 when stopped), status, bundle, rootfs,\n"
        "created, annotations, owner.",
    .options = {},
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<NoOptions, &state>,
};

}  // namespace amphora::cli
