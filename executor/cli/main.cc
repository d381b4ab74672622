// SPDX-License-Identifier: Apache-2.0
// amphora: the command. Global options, the list of verbs, and the one place where a failure is
// logged and becomes an exit code. A start costs what the verb needs and nothing else.
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/early_seal.h"
#include "executor/cli/help.h"
#include "executor/cli/manual.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"

namespace amphora::cli {
namespace {

extern const Command kManCommand, kCompletionCommand;

constexpr const Command* kCommands[] = {
    &kCacheCommand,  &kCheckpointCommand, &kCompletionCommand, &kCreateCommand,   &kDeleteCommand,
    &kDetectCommand, &kEventsCommand,     &kExecCommand,       &kFeaturesCommand, &kImageCommand,
    &kKillCommand,   &kListCommand,       &kManCommand,        &kPauseCommand,    &kPlanCommand,
    &kPsCommand,     &kRestoreCommand,    &kResumeCommand,     &kRunCommand,      &kSpecCommand,
    &kStartCommand,  &kStateCommand,      &kUpdateCommand,
};

constexpr Option kGlobalOptions[] = {
    option<&Globals::debug>("debug", 0, "enable debug logging"),
    option<&Globals::log>("log", 0, "set the log file to write logs to (default is '/dev/stderr')"),
    option<&Globals::log_format>("log-format", 0,
                                 "set the log format ('text' (default), or 'json')", "\"text\""),
    option<&Globals::root>("root", 0,
                           "root directory for storage of container state (this should be located "
                           "in tmpfs)",
                           "\"/run/amphora\" or $XDG_RUNTIME_DIR/amphora"),
    option<&Globals::criu>("criu", 0, nullptr),
    option<&Globals::systemd_cgroup>(
        "systemd-cgroup", 0,
        "enable systemd cgroup support, expects cgroupsPath to be of form \"slice:prefix:name\""),
    option<&Globals::rootless_text>(
        "rootless", 0, "ignore cgroup permission errors ('true', 'false', or 'auto')", "\"auto\""),
    option<&Globals::version>("version", 'v', nullptr),
};

/// A short life: the heap grows once and is never given back (mallopt(3)), each a system call and faults.
void keep_heap() {
  mallopt(M_TOP_PAD, 512 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}
/// Before the constructors of libraries, the first of which takes memory from the heap.
[[gnu::section(".preinit_array"), gnu::used]] void (*const kBeforeAll)() = keep_heap;

/// What is opened first must not become the payload's stdio, nor a container's output a state file.
void fill_standard_descriptors() {
  pollfd standard[3] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
  if (poll(standard, 3, 0) == 0) return;  // one call says it of all three
  for (const pollfd& one : standard) {
    if ((one.revents & POLLNVAL) != 0) static_cast<void>(open("/dev/null", O_RDWR));
  }
}

const Command* find_command(std::string_view name) {
  for (const Command* command : kCommands) {
    if (name == command->name) return command;
  }
  return nullptr;
}

Result<void> check_globals(Globals& globals) {
  if (globals.log_format != "text" && globals.log_format != "json") {
    return fail(Errc::kInvalid, "invalid log-format: " + globals.log_format);
  }
  bool yes = false;
  if (globals.rootless_text != "auto") {
    if (store_value(yes, globals.rootless_text) != nullptr) {
      return fail(Errc::kInvalid, "invalid value \"" + globals.rootless_text +
                                      "\" for --rootless: true, false or auto");
    }
    globals.rootless_cgroups = yes;
  }
  return {};
}

Result<int> help_verb(Context& context, Arguments words) {
  if (words.empty()) {
    TRY(print(global_help(context.name(), kCommands, kGlobalOptions)));
    return 0;
  }
  const Command* command = find_command(words[0]);
  if (command == nullptr) {
    context.log().fatal(std::string("No help topic for '") + words[0] + "'");
    return 3;
  }
  TRY(print(command_help(context.name(), *command)));
  return 0;
}

struct Nothing {};

Result<int> print_manual(Context&, const Nothing&, Arguments) {
  TRY(print(manual_page({"amphora", kCommands, kGlobalOptions})));
  return 0;
}

Result<int> print_completion(Context&, const Nothing&, Arguments arguments) {
  const auto script = completion_script({"amphora", kCommands, kGlobalOptions}, arguments[0]);
  if (!script) {
    return fail(Errc::kInvalid, std::string("no completion for shell \"") + arguments[0] +
                                    "\": there are bash, zsh and fish");
  }
  TRY(print(*script));
  return 0;
}

/// Here and not in files of their own: they need the list that they are in.
constexpr Command kManCommand = {
    .name = "man",
    .summary = "print the manual page",
    .usage = "",
    .description = "In roff's man macros: amphora man | man -l -",
    .options = {},
    .run = &verb<Nothing, &print_manual>,
};
constexpr Command kCompletionCommand = {
    .name = "completion",
    .summary = "print a shell's completion script",
    .usage = "bash|zsh|fish",
    .description = "",
    .options = {},
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<Nothing, &print_completion>,
};

int report(Context& context, const Error& error, int code) {
  context.log().fatal(error.what());
  return code;
}

int run_command(Context& context, const Command& command, Arguments words, char* const argv[]) {
  if (command.sealed && !sealed_at_entry) {
    if (auto sealed = sys::ensure_sealed(argv, environ); !sealed) {
      return report(context,
                    std::move(sealed).error().context("cannot run from a read-only copy of myself"),
                    command.failure_code);
    }
  }
  auto code = command.run(command, context, words);
  return code ? *code : report(context, code.error(), command.failure_code);
}

int run(int argc, char* argv[]) {
  const char* program = argc > 0 ? argv[0] : "amphora";
  Globals globals;
  const std::vector<const char*> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  auto parsed = parse_options(kGlobalOptions, Order::kStop, words, &globals);
  auto checked = parsed ? check_globals(globals) : Result<void>();
  // Never destroyed: its descriptors go with the process, in no call of their own.
  Context& context = *new Context(program, std::move(globals));
  if (!parsed) {
    static_cast<void>(print("Incorrect Usage. " + parsed.error().what() + "\n\n" +
                            global_help(context.name(), kCommands, kGlobalOptions)));
    return report(context, parsed.error(), 1);
  }
  if (!checked) return report(context, checked.error(), 1);
  if (auto opened = context.log().open(); !opened) return report(context, opened.error(), 1);
  const Arguments rest = parsed->arguments;
  if (context.globals().version) return print(version_text(context.name())) ? 0 : 1;
  const bool asks_help = parsed->help || rest.empty();
  const std::string_view name = asks_help ? "help" : rest[0];
  if (name == "help" || name == "h") {
    auto code = help_verb(context, asks_help ? Arguments() : rest.subspan(1));
    return code ? *code : report(context, code.error(), 1);
  }
  const Command* command = find_command(name);
  if (command == nullptr) {
    context.log().fatal("No help topic for '" + std::string(name) + "'");
    return 3;
  }
  return run_command(context, *command, rest.subspan(1), argv);
}

}  // namespace
}  // namespace amphora::cli

int main(int argc, char* argv[]) {
  // Before anything is opened or read: no process of a container that comes near ours may look into
  // it through /proc or ptrace (CVE-2016-9962).
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  amphora::cli::fill_standard_descriptors();
  try {  // the last door: nothing of ours throws, but libraries and the allocator may
    return amphora::cli::run(argc, argv);
  } catch (const std::exception& e) {
    static_cast<void>(
        amphora::write_all(STDERR_FILENO, std::string("amphora: ") + e.what() + "\n"));
    return 1;
  }
}
