// SPDX-License-Identifier: Apache-2.0
// The manual page and the shells' completion scripts, made from the verbs' own option tables: what the
// command does not know they cannot name. Pure; the verbs `man` and `completion` print them, and the
// build installs what they print.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "executor/cli/command.h"

namespace amphora::cli {

/// All verbs and the global options, as one value.
struct CommandLine {
  const char* program;
  std::span<const Command* const> commands;
  std::span<const Option> options;
};

/// amphora(1) in roff's man macros.
std::string manual_page(const CommandLine& line);

/// For bash, zsh or fish; nothing for another shell.
std::optional<std::string> completion_script(const CommandLine& line, std::string_view shell);

}  // namespace amphora::cli
