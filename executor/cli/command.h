// SPDX-License-Identifier: Apache-2.0
// Command: one verb of the command line, as a constexpr value: its words for the help, its option
// table, how many arguments it takes, and the function that does it. Every verb has a file of its
// own with its Command in it; main.cc lists them by hand.
#pragma once

#include <expected>
#include <span>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"

namespace amphora::cli {

/// What is left of the line when the options are taken out.
using Arguments = std::span<const char* const>;

struct Command {
  const char* name;
  const char* summary;      ///< one line, as the list of commands has it
  const char* usage;        ///< "<container-id> [signal]"
  const char* description;  ///< below USAGE; may be empty
  std::span<const Option> options;
  Order order = Order::kAnywhere;
  int min_arguments = 0, max_arguments = 0;  ///< max -1: any number
  int failure_code = 1;                      ///< exit code when it fails; exec has 255
  /// Whether it makes processes that come near our executable: then it runs from a sealed copy.
  bool sealed = false;
  bool hidden = false;
  /// Parses and does it. The exit code, or the error to be logged.
  Result<int> (*run)(const Command& self, Context& context, Arguments words) = nullptr;
};

/// Parses `words` into the struct at `options` and checks the number of arguments. Without arguments
/// to go on with, the exit code: 0, the help was asked for and is printed; 1, the line is wrong, which
/// is said (and is 1 for exec too).
std::expected<std::vector<const char*>, int> parse_line(const Command& command, Context& context,
                                                        Arguments words, void* options);

/// Makes a Command's run function of a verb's body.
template <class Options, Result<int> (*kBody)(Context&, const Options&, Arguments)>
Result<int> verb(const Command& self, Context& context, Arguments words) {
  Options options;
  const auto arguments = parse_line(self, context, words, &options);
  if (!arguments) return arguments.error();
  return kBody(context, options, *arguments);
}

/// For verbs without options.
struct NoOptions {};

extern const Command kCacheCommand, kCheckpointCommand, kCreateCommand, kDeleteCommand,
    kDetectCommand, kEventsCommand, kExecCommand, kFeaturesCommand, kImageCommand, kKillCommand,
    kListCommand, kPauseCommand, kPlanCommand, kPsCommand, kRestoreCommand, kResumeCommand,
    kRunCommand, kSpecCommand, kStartCommand, kStateCommand, kUpdateCommand;

}  // namespace amphora::cli
