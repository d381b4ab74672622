// SPDX-License-Identifier: Apache-2.0
// amphora run: create and start in one process; in the foreground it stays until the program ends,
// gives its exit code and removes the container.
#include <expected>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/foreground.h"
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
    option<&LaunchOptions::detach>("detach", 'd', words::kDetach),
    option<&LaunchOptions::keep>("keep", 0, "do not delete the container after it exits"),
    option<&LaunchOptions::pid_file>("pid-file", 0, words::kPidFile),
    option<&LaunchOptions::no_subreaper>(
        "no-subreaper", 0, "disable the use of the subreaper used to reap reparented processes"),
    option<&LaunchOptions::no_pivot>("no-pivot", 0, words::kNoPivot),
    option<&LaunchOptions::no_new_keyring>("no-new-keyring", 0, words::kNoNewKeyring),
    option<&LaunchOptions::preserve_fds>("preserve-fds", 0, words::kPreserveFds, "0"),
};

/// Removes the container when a later part of run fails.
class Undo {
 public:
  Undo(Runtime& runtime, const std::string& id) : runtime_(&runtime), id_(id) {}
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    if (runtime_ != nullptr) static_cast<void>(runtime_->remove(id_, Force::kYes));
  }
  void keep() noexcept { runtime_ = nullptr; }

 private:
  Runtime* runtime_;
  const std::string& id_;
};

/// After the program's end: what remains of the container and of its record.
Result<void> clean_up(Context& context, Runtime& runtime, const LaunchOptions& line,
                      const std::string& id, Created& created, const ExitStatus& status) {
  if (line.keep) return runtime.record_exit(id, status.code());
  TRY_ASSIGN(const auto warnings, runtime.remove_ended(id, created));
  for (const std::string& warning : warnings) context.log().warning(warning);
  return {};
}

Result<int> do_run(Context& context, const LaunchOptions& line, const std::string& id) {
  TRY_ASSIGN(Launch launch, prepare_launch(context, line, line.detach));
  Foreground foreground;
  Stdio stdio = detached_stdio(launch.console);
  if (!line.detach) {
    TRY(foreground.prepare(line.no_subreaper ? Subreaper::kNo : Subreaper::kYes));
    stdio.on_console = [&foreground](UniqueFd master) {
      return foreground.terminal().attach(std::move(master));
    };
  }
  launch.options.start_now = true;
  TRY_ASSIGN(Runtime * runtime, context.runtime(CreateRoot::kYes));
  TRY(add_notify(launch, *runtime, id));
  TRY_ASSIGN(Created created, runtime->create(id, launch.bundle, stdio, launch.options));
  Undo undo(*runtime, id);
  for (const std::string& warning : created.warnings) context.log().warning(warning);
  context.log().debug("container " + id + " is " + created.kind + ": " + created.reason);
  if (launch.pidfd_socket) TRY(send_pidfd(launch.pidfd_socket, "standard", created.init));
  if (line.detach) {
    undo.keep();
    if (launch.notify) TRY(launch.notify->wait_ready(created.init));
    return 0;
  }
  Notify* const notify = launch.notify ? &*launch.notify : nullptr;
  TRY_ASSIGN(const ExitStatus status, foreground.wait(created.init, context.children(), notify));
  static_cast<void>(created.init.pidfd.release());  // goes with this process
  auto cleaned = clean_up(context, *runtime, line, id, created, status);
  if (cleaned || line.keep) undo.keep();
  TRY(cleaned);
  return status.code();
}

Result<int> run(Context& context, const LaunchOptions& line, Arguments arguments) {
  auto code = do_run(context, line, arguments[0]);
  if (!code) {
    return std::unexpected(
        without_noun(std::move(code).error(), std::string("create ") + arguments[0] + ": ")
            .context(std::string(context.name()) + " run failed"));
  }
  return code;
}

}  // namespace

constinit const Command kRunCommand = {
    .name = "run",
    .summary = "create and run a container",
    .usage = "<container-id>",
    .description =
        "Creates a container for a bundle, a directory with a config.json and a root\n"
        "filesystem, and runs its program. Without --detach its exit code (or 128 and\n"
        "the signal that ended it) becomes the command's, signals are passed on to it,\n"
        "and the container is removed when it ends.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .sealed = true,
    .run = &verb<LaunchOptions, &run>,
};

}  // namespace amphora::cli
