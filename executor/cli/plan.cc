// SPDX-License-Identifier: Apache-2.0
// amphora plan: the steps that create would take for a bundle; nothing is made.
#include <string>

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct PlanOptions {
  bool json = false;
};
constexpr Option kOptions[] = {
    option<&PlanOptions::json>("json", 0, "print JSON"),
};

Result<int> plan(Context& context, const PlanOptions& line, Arguments arguments) {
  const std::string bundle = arguments.empty() ? "." : arguments[0];
  TRY_ASSIGN(Runtime * runtime, context.runtime_without_root(bundle));
  TRY_ASSIGN(std::string text, runtime->describe_plan(bundle, line.json));
  if (!text.ends_with('\n')) text += '\n';
  TRY(print(text));
  return 0;
}

}  // namespace

constinit const Command kPlanCommand = {
    .name = "plan",
    .summary = "show the steps that create would take for a bundle",
    .usage = "[bundle]",
    .description =
        "One line a step, in the order in which the container's first process takes\n"
        "them. Nothing is created.",
    .options = kOptions,
    .min_arguments = 0,
    .max_arguments = 1,
    .run = &verb<PlanOptions, &plan>,
};

}  // namespace amphora::cli
