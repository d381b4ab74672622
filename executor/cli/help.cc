// SPDX-License-Identifier: Apache-2.0
// Help and version texts. See help.h.
#include "executor/cli/help.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/cli/command.h"
#include "executor/cli/features.h"
#include "executor/cli/options.h"
#include "executor/setup/seccomp.h"

namespace amphora::cli {
namespace {

std::string option_column(const Option& row) {
  std::string text = std::string("--") + row.name;
  const char* value = row.takes == Takes::kValue ? " value" : "";
  text += value;
  if (row.alias != 0) text.append(", -").append(1, row.alias).append(value);
  return text;
}

/// Two aligned columns, each line indented by three spaces.
std::string columns(const std::vector<std::pair<std::string, std::string>>& rows) {
  size_t width = 0;
  for (const auto& [left, right] : rows) width = std::max(width, left.size());
  std::string out;
  for (const auto& [left, right] : rows) {
    out.append("   ").append(left).append(width - left.size() + 2, ' ').append(right).append("\n");
  }
  return out;
}

std::string option_lines(std::span<const Option> options) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Option& row : options) {
    if (row.help == nullptr) continue;
    std::string help = row.help;
    if (row.shown_default != nullptr) {
      help.append(" (default: ").append(row.shown_default).append(")");
    }
    rows.emplace_back(option_column(row), std::move(help));
  }
  rows.emplace_back("--help, -h", "show help");
  return columns(rows);
}

}  // namespace

std::string command_help(const char* program_name, const Command& command) {
  std::string out = "NAME:\n   ";
  out.append(program_name).append(" ").append(command.name).append(" - ").append(command.summary);
  out.append("\n\nUSAGE:\n   ").append(program_name).append(" ").append(command.name);
  out.append(" [command options] ").append(command.usage).append("\n");
  if (*command.description != 0) out.append("\n").append(command.description).append("\n");
  out.append("\nOPTIONS:\n").append(option_lines(command.options));
  return out;
}

std::string global_help(const char* program_name, std::span<const Command* const> commands,
                        std::span<const Option> options) {
  std::string out = "NAME:\n   ";
  out.append(program_name)
      .append(std::string_view(program_name) == "runc" ? " - Open Container Initiative runtime"
                                                       : " - container runtime")
      .append(
          " for native and WebAssembly programs\n\n"
          "It runs bundles of the Open Container Initiative: a directory with a config.json\n"
          "and a root filesystem. Whether the program in it is native or WebAssembly is read\n"
          "from its bytes. The command line is runc's.\n\n    # ");
  out.append(program_name).append(" run [-b bundle] <container-id>\n\nUSAGE:\n   ");
  out.append(program_name)
      .append(" [global options] command [command options] [arguments...]\n\nVERSION:\n   ");
  out.append(AMPHORA_VERSION).append("\n\nCOMMANDS:\n");
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Command* command : commands) {
    if (!command->hidden) rows.emplace_back(command->name, command->summary);
  }
  rows.emplace_back("help, h", "show a list of commands or help for one command");
  out.append(columns(rows)).append("\nGLOBAL OPTIONS:\n").append(option_lines(options));
  out.append("   --version, -v  print the version\n");
  return out;
}

std::string version_text(const char* program_name) {
  std::string out = program_name;
  out.append(" version ");
  if (std::string_view(program_name) == "runc") {
    out.append(kRuncLevel).append("+amphora.");
  }
  out.append(AMPHORA_VERSION)
      .append("\ncommit: v")
      .append(AMPHORA_VERSION)
      .append("\nspec: ")
      .append(kSpecVersion)
      .append("\nlibseccomp: ");
  return out.append(setup::seccomp_features().libseccomp_version).append("\n");
}

}  // namespace amphora::cli
