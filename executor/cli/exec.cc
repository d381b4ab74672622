// SPDX-License-Identifier: Apache-2.0
// amphora exec: one more process in a running container.
#include <fcntl.h>

#include <expected>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/cgroup/sub_groups.h"
#include "executor/cli/command.h"
#include "executor/cli/console.h"
#include "executor/cli/context.h"
#include "executor/cli/exec_process.h"
#include "executor/cli/foreground.h"
#include "executor/cli/launch.h"
#include "executor/cli/options.h"
#include "executor/cli/words.h"
#include "executor/oci/spec.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

constexpr Option kOptions[] = {
    option<&ExecOptionsLine::console_socket>("console-socket", 0, words::kConsoleSocket),
    option<&ExecOptionsLine::pidfd_socket>("pidfd-socket", 0, words::kPidfdSocket),
    option<&ExecOptionsLine::cwd>("cwd", 0, "current working directory in the container"),
    option<&ExecOptionsLine::env>("env", 'e', "set environment variables"),
    option<&ExecOptionsLine::tty>("tty", 't', "allocate a pseudo-TTY"),
    option<&ExecOptionsLine::user>("user", 'u', "UID (format: <uid>[:<gid>])"),
    option<&ExecOptionsLine::additional_gids>("additional-gids", 'g', "additional gids"),
    option<&ExecOptionsLine::process>("process", 'p', "path to the process.json"),
    option<&ExecOptionsLine::detach>("detach", 'd', words::kDetach),
    option<&ExecOptionsLine::pid_file>("pid-file", 0, words::kPidFile),
    option<&ExecOptionsLine::process_label>(
        "process-label", 0, "set the process label for the process, used with selinux"),
    option<&ExecOptionsLine::apparmor>("apparmor", 0, "set the apparmor profile for the process"),
    option<&ExecOptionsLine::no_new_privs>("no-new-privs", 0,
                                           "set the no new privileges value for the process"),
    option<&ExecOptionsLine::caps>("cap", 'c',
                                   "add a capability to the bounding set for the process"),
    option<&ExecOptionsLine::preserve_fds>("preserve-fds", 0, words::kPreserveFds, "0"),
    option<&ExecOptionsLine::cgroup>(
        "cgroup", 0,
        "run the process in an (existing) sub-cgroup(s); format is [<controller>:]<cgroup>"),
    option<&ExecOptionsLine::ignore_paused>("ignore-paused", 0, "allow exec in a paused container"),
};

/// A process.json, which says everything itself.
Result<oci::Process> process_from_file(const ExecOptionsLine& line) {
  TRY_ASSIGN(const std::string json, read_file_at(AT_FDCWD, line.process, 4 << 20));
  auto process = oci::parse_process(json);
  if (!process) return std::unexpected(std::move(process).error().context(line.process));
  return process;
}

Result<void> check_line(const ExecOptionsLine& line, Arguments arguments) {
  if (line.process.empty() && arguments.size() < 2) {
    return fail(Errc::kInvalid, "process args cannot be empty");
  }
  return {};
}

Result<void> check_terminal(const ExecOptionsLine& line, bool terminal) {
  if (terminal && line.detach && line.console_socket.empty()) {
    return fail(Errc::kInvalid, kTerminalNeedsSocket);
  }
  if (!line.console_socket.empty() && (!terminal || !line.detach)) {
    return fail(Errc::kInvalid,
                "cannot use console socket if runc will not detach or allocate tty");
  }
  return {};
}

/// What makes the process: a process.json, or the container's own with the line's changes.
Result<Runtime::MakeProcess> process_of(const ExecOptionsLine& line, Arguments arguments) {
  bool terminal = line.tty;
  std::optional<oci::Process> given;
  if (!line.process.empty()) {
    TRY_ASSIGN(given, process_from_file(line));
    terminal = given->terminal;
  }
  TRY(check_terminal(line, terminal));
  return Runtime::MakeProcess(
      [&line, arguments, given](const oci::Process& own) -> Result<oci::Process> {
        if (given) return *given;
        return exec_process(own, line,
                            std::vector<std::string>(arguments.begin() + 1, arguments.end()));
      });
}

Result<int> do_exec(Context& context, const ExecOptionsLine& line, Arguments arguments) {
  TRY(check_line(line, arguments));
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  TRY_ASSIGN(const Runtime::MakeProcess process, process_of(line, arguments));
  ExecOptions options;
  options.ignore_paused = line.ignore_paused;
  TRY_ASSIGN(options.cgroup, cgroup::parse_sub_groups(line.cgroup));
  TRY_ASSIGN(options.pid_file, absolute(line.pid_file));
  TRY_ASSIGN(const Inherited inherited, inherited_descriptors(line.preserve_fds));
  options.preserve_fds = inherited.count;
  const auto with_inherited = [&](const oci::Process& own) -> Result<oci::Process> {
    TRY_ASSIGN(oci::Process made, process(own));
    made.env.insert(made.env.end(), inherited.env.begin(), inherited.env.end());
    return made;
  };

  UniqueFd console, pidfd_socket;
  if (!line.console_socket.empty()) {
    TRY_ASSIGN(console, connect_unix(line.console_socket, "console socket"));
  }
  if (!line.pidfd_socket.empty()) {
    TRY_ASSIGN(pidfd_socket, connect_unix(line.pidfd_socket, "pidfd socket"));
  }
  Foreground foreground;
  Stdio stdio = detached_stdio(console);
  if (!line.detach) {
    TRY(foreground.prepare(Subreaper::kNo));
    stdio.on_console = [&foreground](UniqueFd master) {
      return foreground.terminal().attach(std::move(master));
    };
  }
  TRY_ASSIGN(const Process started, runtime->exec(arguments[0], with_inherited, stdio, options));
  if (pidfd_socket) TRY(send_pidfd(pidfd_socket, "setns", started));
  if (line.detach) return 0;
  TRY_ASSIGN(const ExitStatus status, foreground.wait(started, context.children()));
  return status.code();
}

Result<int> exec(Context& context, const ExecOptionsLine& line, Arguments arguments) {
  auto code = do_exec(context, line, arguments);
  if (!code) {
    const std::string noun = std::string("exec in ") + arguments[0] + ": ";
    return std::unexpected(without_noun(std::move(code).error(), noun).context("exec failed"));
  }
  return code;
}

}  // namespace

constinit const Command kExecCommand = {
    .name = "exec",
    .summary = "execute new process inside the container",
    .usage = "<container-id> <command> [arguments...] || -p process.json <container-id>",
    .description =
        "Options end at the container's id. Without --detach the exit code of the command\n"
        "(or 128 and the signal that ended it) becomes amphora's; 255: it could not be\n"
        "started.",
    .options = kOptions,
    .order = Order::kStop,
    .min_arguments = 1,
    .max_arguments = -1,
    .failure_code = 255,
    .sealed = true,
    .run = &verb<ExecOptionsLine, &exec>,
};

}  // namespace amphora::cli
