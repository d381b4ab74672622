// SPDX-License-Identifier: Apache-2.0
// amphora delete: removes a stopped container, or by force a running one.
#include <expected>
#include <utility>

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct DeleteOptions {
  bool force = false;
};
constexpr Option kOptions[] = {
    option<&DeleteOptions::force>(
        "force", 'f', "forcibly deletes the container if it is still running (uses SIGKILL)"),
};

Result<int> delete_container(Context& context, const DeleteOptions& line, Arguments arguments) {
  auto runtime = context.runtime();
  if (!runtime) {
    // No state directory at all: nothing to remove, which --force calls done.
    if (line.force && runtime.error().code() == Errc::kNotFound) return 0;
    return std::unexpected(std::move(runtime).error());
  }
  TRY_ASSIGN(const auto warnings,
             (*runtime)->remove(arguments[0], line.force ? Force::kYes : Force::kNo));
  for (const std::string& warning : warnings) context.log().warning(warning);
  return 0;
}

}  // namespace

constinit const Command kDeleteCommand = {
    .name = "delete",
    .summary = "delete any resources held by the container",
    .usage = "<container-id>",
    .description =
        "A container that still runs is deleted with --force only; then an unknown id is\n"
        "no error either.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<DeleteOptions, &delete_container>,
};

}  // namespace amphora::cli
