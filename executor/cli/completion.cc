// SPDX-License-Identifier: Apache-2.0
// Completion scripts for bash, zsh and fish. See manual.h.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executor/cli/command.h"
#include "executor/cli/manual.h"
#include "executor/cli/options.h"

namespace amphora::cli {
namespace {

/// The options' words, those that take a value apart if asked.
std::string option_words(std::span<const Option> options, bool with_value_only = false) {
  std::string out;
  for (const Option& row : options) {
    if (row.help == nullptr || (with_value_only && row.takes != Takes::kValue)) continue;
    out.append(out.empty() ? "" : " ").append("--").append(row.name);
    if (row.alias != 0) out.append(" -").append(1, row.alias);
  }
  return out;
}

std::string in_single_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

/// For _arguments and _describe, where brackets and colons are the format's own.
std::string for_zsh(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string or_list(std::string words) {
  for (char& c : words) c = c == ' ' ? '|' : c;
  return words;
}

bool takes_id(const Command& command) {
  return std::string_view(command.usage).starts_with("<container-id>");
}

std::vector<const Command*> shown(const CommandLine& line) {
  std::vector<const Command*> out;
  for (const Command* command : line.commands) {
    if (!command->hidden) out.push_back(command);
  }
  return out;
}

std::string bash_script(const CommandLine& line) {
  const std::string name = line.program;
  std::string verbs, cases;
  for (const Command* command : shown(line)) {
    verbs.append(command->name).append(" ");
    cases += "    " + std::string(command->name) +
             ") words=" + in_single_quotes(option_words(command->options) + " --help") +
             "; ids=" + (takes_id(*command) ? "1" : "") + " ;;\n";
  }
  return "# bash completion for " + name + "; made by `" + name + " completion bash`\n_" + name +
         "() {\n  local cur=${COMP_WORDS[COMP_CWORD]} verb= words= ids= i root=()\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n    case ${COMP_WORDS[i]} in\n"
         "      --root) root=(--root \"${COMP_WORDS[++i]}\") ;;\n      " +
         or_list(option_words(line.options, true)) +
         ") i=$((i + 1)) ;;\n      -*) ;;\n      *) verb=${COMP_WORDS[i]}; break ;;\n    esac\n  "
         "done\n"
         "  case $verb in\n    '') words=" +
         in_single_quotes(verbs + "help " + option_words(line.options) + " --help") + " ;;\n" +
         cases +
         "  esac\n  if [[ $verb && $cur != -* ]]; then\n"
         "    words=\n    [[ $ids ]] && words=$(" +
         name +
         " \"${root[@]}\" list -q 2>/dev/null)\n  fi\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -o default -F "
         "_" +
         name + " " + name + "\n";
}

std::string zsh_options(std::span<const Option> options) {
  std::string out;
  for (const Option& row : options) {
    if (row.help == nullptr) continue;
    const std::string tail =
        "[" + for_zsh(row.help) + "]" + (row.takes == Takes::kValue ? ":value:_files" : "");
    out += " \\\n      " + in_single_quotes(std::string("*--") + row.name + tail);
    if (row.alias != 0) out += " " + in_single_quotes(std::string("*-") + row.alias + tail);
  }
  return out;
}

std::string zsh_script(const CommandLine& line) {
  const std::string name = line.program;
  std::string verbs, cases;
  for (const Command* command : shown(line)) {
    verbs +=
        "\n    " + in_single_quotes(std::string(command->name) + ":" + for_zsh(command->summary));
    cases += "    (" + std::string(command->name) + ") _arguments" + zsh_options(command->options) +
             " \\\n      " +
             (takes_id(*command) ? "'*:container:($(" + name + " list -q 2>/dev/null))'"
                                 : std::string("'*:file:_files'")) +
             " ;;\n";
  }
  return "#compdef " + name + "\n# made by `" + name + " completion zsh`\n_" + name +
         "() {\n  local state line\n  local -a verbs\n  verbs=(" + verbs +
         "\n    'help:show help')\n  _arguments -C" + zsh_options(line.options) +
         " \\\n      '1: :->verb' '*:: :->rest'\n  case $state in\n  (verb) _describe command "
         "verbs ;;\n"
         "  (rest)\n    case $words[1] in\n" +
         cases + "    esac ;;\n  esac\n}\n_" + name + " \"$@\"\n";
}

std::string fish_options(const std::string& start, std::span<const Option> options) {
  std::string out;
  for (const Option& row : options) {
    if (row.help == nullptr) continue;
    out += start + " -l " + row.name;
    if (row.alias != 0) out.append(" -s ").append(1, row.alias);
    if (row.takes == Takes::kValue) out += " -r";
    out += " -d " + in_single_quotes(row.help) + "\n";
  }
  return out;
}

std::string fish_script(const CommandLine& line) {
  const std::string name = line.program;
  std::string out = "# fish completion for " + name + "; made by `" + name + " completion fish`\n";
  const std::string first = "complete -c " + name + " -n __fish_use_subcommand";
  out += fish_options(first, line.options);
  for (const Command* command : shown(line)) {
    out += first + " -f -a " + command->name + " -d " + in_single_quotes(command->summary) + "\n";
    const std::string seen =
        "complete -c " + name + " -n '__fish_seen_subcommand_from " + command->name + "'";
    out += fish_options(seen, command->options);
    if (takes_id(*command)) out += seen + " -f -a '(" + name + " list -q 2>/dev/null)'\n";
  }
  return out;
}

}  // namespace

std::optional<std::string> completion_script(const CommandLine& line, std::string_view shell) {
  if (shell == "bash") return bash_script(line);
  if (shell == "zsh") return zsh_script(line);
  if (shell == "fish") return fish_script(line);
  return std::nullopt;
}

}  // namespace amphora::cli
