// SPDX-License-Identifier: Apache-2.0
// The help texts' layout, as runc's users know it. The words are in the verbs' files.
#pragma once

#include <span>
#include <string>

#include "executor/cli/command.h"

namespace amphora::cli {

std::string command_help(const char* program_name, const Command& command);
std::string global_help(const char* program_name, std::span<const Command* const> commands,
                        std::span<const Option> options);
/// The lines of --version. Under the name runc the first one reads "runc version x.y.z", which its
/// callers parse.
std::string version_text(const char* program_name);

}  // namespace amphora::cli
