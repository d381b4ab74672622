// SPDX-License-Identifier: Apache-2.0
// The manual page. See manual.h; completion.cc has the scripts.
#include "executor/cli/manual.h"

#include <span>
#include <string>
#include <string_view>

#include "executor/cli/command.h"
#include "executor/cli/options.h"

namespace amphora::cli {
namespace {

/// Text as roff must have it: backslashes and hyphens escaped, no line that begins like a request.
std::string roff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
    line_start = c == '\n';
  }
  return out;
}

std::string option_item(const Option& row) {
  std::string names = std::string("--") + row.name;
  if (row.alias != 0) names.append(", -").append(1, row.alias);
  std::string out = ".TP\n\\fB" + roff(names) + "\\fR";
  if (row.takes == Takes::kValue) out += " \\fIvalue\\fR";
  out.append("\n").append(roff(row.help));
  if (row.shown_default != nullptr) {
    out.append(" (default: ").append(roff(row.shown_default)).append(")");
  }
  return out + "\n";
}

std::string option_items(std::span<const Option> options) {
  std::string out;
  for (const Option& row : options) {
    if (row.help != nullptr) out += option_item(row);
  }
  return out;
}

std::string verb_section(const Command& command) {
  std::string out = ".SS " + roff(command.name) + "\n.B " + roff(command.name) + "\n";
  if (!command.options.empty()) out += "[options] ";
  out += roff(command.usage) + "\n.PP\n" + roff(command.summary) + ".\n";
  if (*command.description != 0) out += ".PP\n" + roff(command.description) + "\n";
  return out + option_items(command.options);
}

}  // namespace

std::string manual_page(const CommandLine& line) {
  const std::string name = line.program;
  std::string out =
      ".TH AMPHORA 1 \"\" \"" + name + " " AMPHORA_VERSION "\"\n.SH NAME\n" + name +
      " \\- container runtime for native and WebAssembly programs\n.SH SYNOPSIS\n.B " + name +
      "\n[global options] command [command options] [arguments...]\n.SH DESCRIPTION\n"
      "Runs bundles of the Open Container Initiative: a directory with a config.json and a "
      "root filesystem. Whether the program in it is native or WebAssembly is read from its "
      "bytes. The command line is runc's.\n.PP\nOptions may be written with one dash or "
      "two; a value follows as the next word or behind \"=\".\n.SH GLOBAL OPTIONS\n";
  out += option_items(line.options);
  out += ".TP\n\\fB\\-\\-help, \\-h\\fR\nshow help\n.SH COMMANDS\n";
  for (const Command* command : line.commands) {
    if (!command->hidden) out += verb_section(*command);
  }
  out +=
      ".SH EXIT STATUS\nThe program's own for run and exec in the foreground, 128 and the signal "
      "when one "
      "ended it; 255 when exec could not start it; 3 for an unknown command; 1 for everything "
      "else.\n"
      ".SH FILES\n.TP\n.I /run/amphora\nstate of root's containers\n.TP\n.I "
      "$XDG_RUNTIME_DIR/amphora\n"
      "state of who is not root\n.SH SEE ALSO\n.BR runc (8),\n.BR containerd (8)\n";
  return out;
}

}  // namespace amphora::cli
