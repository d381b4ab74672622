// SPDX-License-Identifier: Apache-2.0
// amphora features: prints the features document. The document itself is features.cc.
#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/features.h"
#include "executor/cli/output.h"
#include "executor/setup/host.h"

namespace amphora::cli {
namespace {

Result<int> features(Context&, const NoOptions&, Arguments) {
  TRY_ASSIGN(const setup::Host host, setup::probe_host());
  TRY(print(features_json(host) + "\n"));
  return 0;
}

}  // namespace

constinit const Command kFeaturesCommand = {
    .name = "features",
    .summary = "show the enabled features",
    .usage = "",
    .description =
        "Shows what this build and this host can do, as JSON in the words of the OCI\n"
        "runtime specification's features document.",
    .options = {},
    .run = &verb<NoOptions, &features>,
};

}  // namespace amphora::cli
