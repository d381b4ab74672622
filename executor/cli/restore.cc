// SPDX-License-Identifier: Apache-2.0
// amphora restore: a container from a bundle and a checkpoint, running.
#include <expected>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/criu_line.h"
#include "executor/cli/foreground.h"
#include "executor/cli/launch.h"
#include "executor/cli/options.h"
#include "executor/cli/words.h"
#include "executor/runtime/checkpoint.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct RestoreLine : CriuLine {
  std::string console_socket, bundle, pid_file, lsm_profile, lsm_mount_context;
  bool detach = false, no_subreaper = false, no_pivot = false;
};

using namespace criu_words;

constexpr Option kOptions[] = {
    option<&RestoreLine::console_socket>("console-socket", 0, words::kConsoleSocket),
    option<&RestoreLine::image_path>("image-path", 0, kImagePath),
    option<&RestoreLine::work_path>("work-path", 0, kWorkPath),
    option<&RestoreLine::tcp_established>("tcp-established", 0, kTcp),
    option<&RestoreLine::ext_unix_sk>("ext-unix-sk", 0, kUnix),
    option<&RestoreLine::shell_job>("shell-job", 0, kShell),
    option<&RestoreLine::file_locks>("file-locks", 0, kLocks),
    option<&RestoreLine::cgroups_mode>("manage-cgroups-mode", 0, kCgroups),
    option<&RestoreLine::bundle>("bundle", 'b', words::kBundle),
    option<&RestoreLine::detach>("detach", 'd', words::kDetach),
    option<&RestoreLine::pid_file>("pid-file", 0, words::kPidFile),
    option<&RestoreLine::no_subreaper>(
        "no-subreaper", 0, "disable the use of the subreaper used to reap reparented processes"),
    option<&RestoreLine::no_pivot>("no-pivot", 0, words::kNoPivot),
    option<&RestoreLine::empty_ns>("empty-ns", 0, kEmptyNs),
    option<&RestoreLine::auto_dedup>("auto-dedup", 0, kDedup),
    option<&RestoreLine::lazy_pages>("lazy-pages", 0, kLazy),
    option<&RestoreLine::lsm_profile>("lsm-profile", 0, "LSM profile to restore with"),
    option<&RestoreLine::lsm_mount_context>("lsm-mount-context", 0,
                                            "LSM mount context to restore with"),
};

Result<int> do_restore(Context& context, const RestoreLine& line, const std::string& id) {
  RestoreOptions criu;
  TRY(understand(line, criu));
  criu.lsm_profile = line.lsm_profile;
  if (!line.lsm_mount_context.empty()) {
    return fail(Errc::kUnsupported,
                "--lsm-mount-context: mounts get the context of config.json's mountLabel");
  }
  LaunchOptions as_run;
  as_run.bundle = line.bundle;
  as_run.console_socket = line.console_socket;
  as_run.pid_file = line.pid_file;
  as_run.detach = line.detach;
  TRY_ASSIGN(Launch launch, prepare_launch(context, as_run, line.detach));
  Foreground foreground;
  Stdio stdio = detached_stdio(launch.console);
  if (!line.detach) {
    TRY(foreground.prepare(line.no_subreaper ? Subreaper::kNo : Subreaper::kYes));
    stdio.on_console = [&foreground](UniqueFd master) {
      return foreground.terminal().attach(std::move(master));
    };
  }
  TRY_ASSIGN(Runtime * runtime, context.runtime(CreateRoot::kYes));
  TRY_ASSIGN(Created created, runtime->restore(id, launch.bundle, stdio, launch.options, criu));
  if (line.detach) return 0;
  auto status = foreground.wait(created.init, context.children());
  if (!status) {
    static_cast<void>(runtime->remove(id, Force::kYes));
    return std::unexpected(std::move(status).error());
  }
  TRY_ASSIGN(const auto warnings, runtime->remove_ended(id, created));
  for (const std::string& warning : warnings) context.log().warning(warning);
  return status->code();
}

Result<int> restore(Context& context, const RestoreLine& line, Arguments arguments) {
  return do_restore(context, line, arguments[0]);
}

}  // namespace

constinit const Command kRestoreCommand = {
    .name = "restore",
    .summary = "restore a container from a checkpoint",
    .usage = "<container-id>",
    .description =
        "Makes a container of a bundle whose processes come from the image path of an\n"
        "earlier checkpoint. What they may see and do is the bundle's config.json to say:\n"
        "a checkpoint that has more is refused.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .sealed = true,
    .run = &verb<RestoreLine, &restore>,
};

}  // namespace amphora::cli
