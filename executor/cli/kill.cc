// SPDX-License-Identifier: Apache-2.0
// amphora kill: a signal to a container's init, or to all of its processes.
#include <expected>
#include <utility>

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/signals.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct KillOptions {
  bool all = false;
};
constexpr Option kOptions[] = {
    option<&KillOptions::all>("all", 'a',
                              "send the specified signal to all processes inside the container"),
};

Result<int> kill_container(Context& context, const KillOptions& line, Arguments arguments) {
  TRY_ASSIGN(const int signal, parse_signal(arguments.size() > 1 ? arguments[1] : "TERM"));
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  auto sent = runtime->kill(arguments[0], signal, line.all ? All::kYes : All::kNo);
  if (sent) return 0;
  // With --all it is no failure that nobody is left; an unknown container still is one.
  if (line.all && sent.error().code() == Errc::kNotFound && runtime->state(arguments[0])) return 0;
  return std::unexpected(std::move(sent).error());
}

}  // namespace

constinit const Command kKillCommand = {
    .name = "kill",
    .summary = "kill sends the specified signal (default: SIGTERM) to the container's init process",
    .usage = "<container-id> [signal]",
    .description = "The signal is a number or a name, with or without SIG, in any case.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 2,
    .run = &verb<KillOptions, &kill_container>,
};

}  // namespace amphora::cli
