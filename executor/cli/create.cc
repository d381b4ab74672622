// SPDX-License-Identifier: Apache-2.0
// amphora create: a container set up to the last step before its program.
#include <expected>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/launch.h"
#include "executor/cli/options.h"
#include "executor/cli/words.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

constexpr Option kOptions[] = {
    option<&LaunchOptions::bundle>("bundle", 'b', words::kBundle),
    option<&LaunchOptions::console_socket>("console-socket", 0, words::kConsoleSocket),
    option<&LaunchOptions::pidfd_socket>("pidfd-socket", 0, words::kPidfdSocket),
    option<&LaunchOptions::pid_file>("pid-file", 0, words::kPidFile),
    option<&LaunchOptions::no_pivot>("no-pivot", 0, words::kNoPivot),
    option<&LaunchOptions::no_new_keyring>("no-new-keyring", 0, words::kNoNewKeyring),
    option<&LaunchOptions::preserve_fds>("preserve-fds", 0, words::kPreserveFds, "0"),
};

Result<void> do_create(Context& context, const LaunchOptions& line, const std::string& id) {
  TRY_ASSIGN(Launch launch, prepare_launch(context, line, /*detached=*/true));
  TRY_ASSIGN(Runtime * runtime, context.runtime(CreateRoot::kYes));
  TRY(add_notify(launch, *runtime, id));
  const Stdio stdio = detached_stdio(launch.console);
  TRY_ASSIGN(const Created created, runtime->create(id, launch.bundle, stdio, launch.options));
  for (const std::string& warning : created.warnings) context.log().warning(warning);
  context.log().debug("container " + id + " is " + created.kind + ": " + created.reason);
  if (launch.pidfd_socket) {
    if (auto sent = send_pidfd(launch.pidfd_socket, "standard", created.init); !sent) {
      static_cast<void>(runtime->remove(id, Force::kYes));
      return sent;
    }
  }
  return {};
}

Result<int> create(Context& context, const LaunchOptions& line, Arguments arguments) {
  if (auto done = do_create(context, line, arguments[0]); !done) {
    return std::unexpected(
        without_noun(std::move(done).error(), std::string("create ") + arguments[0] + ": ")
            .context(std::string(context.name()) + " create failed"));
  }
  return 0;
}

}  // namespace

constinit const Command kCreateCommand = {
    .name = "create",
    .summary = "create a container",
    .usage = "<container-id>",
    .description =
        "Sets up a container for a bundle, a directory with a config.json and a root\n"
        "filesystem, and stops right before its program, which \"start\" lets run.\n"
        "The id must be unique on the host.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .sealed = true,
    .run = &verb<LaunchOptions, &create>,
};

}  // namespace amphora::cli
