// SPDX-License-Identifier: Apache-2.0
// From a verb's words to its struct: options, number of arguments, help. See command.h.
#include "executor/cli/command.h"

#include <cstddef>
#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/cli/context.h"
#include "executor/cli/help.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"

namespace amphora::cli {
namespace {

Result<void> check_count(const Command& command, const char* program, size_t count) {
  const char* rule = nullptr;
  int wanted = command.min_arguments;
  if (command.min_arguments == command.max_arguments) {
    if (count != static_cast<size_t>(wanted)) rule = "exactly ";
  } else if (count < static_cast<size_t>(wanted)) {
    rule = "a minimum of ";
  } else if (command.max_arguments >= 0 && count > static_cast<size_t>(command.max_arguments)) {
    rule = "a maximum of ";
    wanted = command.max_arguments;
  }
  if (rule == nullptr) return {};
  std::string text = program;
  text.append(": \"").append(command.name).append("\" requires ").append(rule);
  text.append(std::to_string(wanted)).append(" argument(s)");
  return fail(Errc::kInvalid, std::move(text));
}

int refuse(const Command& command, Context& context, const char* heading, const Error& error) {
  static_cast<void>(print(heading + command_help(context.name(), command)));
  context.log().fatal(error.what());
  return 1;
}

}  // namespace

std::expected<std::vector<const char*>, int> parse_line(const Command& command, Context& context,
                                                        Arguments words, void* options) {
  auto parsed = parse_options(command.options, command.order, words, options);
  if (!parsed) {
    const std::string heading = "Incorrect Usage: " + parsed.error().what() + "\n\n";
    return std::unexpected(refuse(command, context, heading.c_str(), parsed.error()));
  }
  if (parsed->help) {
    return std::unexpected(print(command_help(context.name(), command)) ? 0 : 1);
  }
  if (auto counted = check_count(command, context.program(), parsed->arguments.size()); !counted) {
    return std::unexpected(refuse(command, context, "Incorrect Usage.\n\n", counted.error()));
  }
  return std::move(parsed->arguments);
}

}  // namespace amphora::cli
