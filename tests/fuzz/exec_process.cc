// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: words, one a line, as the options of exec, of the shim, as sizes and durations; and
// the whole text as what ps printed and as a message for the log. The process that comes of it must be one that may be started.
#include "executor/cli/exec_process.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "executor/cli/log.h"
#include "executor/cli/options.h"
#include "executor/cli/ps_filter.h"
#include "executor/cli/units.h"
#include "shim/flags.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;
using cli::ExecOptionsLine;
using cli::option;

/// One option of every type that exec has.
constexpr cli::Option kOptions[] = {
    option<&ExecOptionsLine::cwd>("cwd", 0, ""),
    option<&ExecOptionsLine::user>("user", 'u', ""),
    option<&ExecOptionsLine::env>("env", 'e', ""),
    option<&ExecOptionsLine::additional_gids>("additional-gids", 'g', ""),
    option<&ExecOptionsLine::caps>("cap", 'c', ""),
    option<&ExecOptionsLine::no_new_privs>("no-new-privs", 0, ""),
    option<&ExecOptionsLine::tty>("tty", 't', ""),
    option<&ExecOptionsLine::preserve_fds>("preserve-fds", 0, ""),
};

oci::Process base() {
  oci::Process process;
  process.args = {"init"};
  process.cwd = "/";
  process.env = {"A=b"};
  process.capabilities.emplace().inheritable = {"CAP_CHOWN"};
  return process;
}

void check_exec(std::span<const char* const> words, size_t size) {
  ExecOptionsLine line;
  const auto parsed = cli::parse_options(kOptions, cli::Order::kStop, words, &line);
  fuzz::check_error(parsed, size);
  if (!parsed) return;
  AMPHORA_CHECK(parsed->arguments.size() <= words.size());
  const std::vector<std::string> args(parsed->arguments.begin(), parsed->arguments.end());
  const auto process = cli::exec_process(base(), line, args);
  fuzz::check_error(process, size);
  if (!process) return;
  AMPHORA_CHECK(process->args == args);
  AMPHORA_CHECK(process->user.uid != UINT32_MAX && process->user.gid != UINT32_MAX);
  // An empty user is an error and never root.
  AMPHORA_CHECK(!line.user || !line.user->empty());
  for (const uint32_t group : process->user.additional_gids) AMPHORA_CHECK(group != UINT32_MAX);
  for (const auto& entry : process->env) AMPHORA_CHECK(entry.find('=') + 1 > 1);
  const oci::Capabilities& caps = *process->capabilities;
  for (const auto& name : caps.ambient) {
    AMPHORA_CHECK(std::ranges::find(caps.inheritable, name) != caps.inheritable.end());
  }
}

void check_units(std::string_view word) {
  if (const auto bytes = cli::parse_size(word)) AMPHORA_CHECK(*bytes >= -1);
  if (const auto time = cli::parse_duration(word)) AMPHORA_CHECK(time->count() >= 0);
  if (const auto number = cli::parse_number(word)) {
    const std::string again = std::to_string(*number);
    AMPHORA_CHECK(cli::parse_number(again) == number);
  }
}

void check_ps(std::string_view output) {
  const auto lines = cli::ps_lines(output, std::set<pid_t>{1, 7});
  fuzz::check_error(lines, output.size());
  if (lines) AMPHORA_CHECK(lines->size() <= output.size() + 1);
}

/// A message is one line of the log, whatever it holds.
void check_log(std::string_view message) {
  const std::string text = cli::text_line(cli::Level::kError, "2026-11-23T10:00:00Z", message);
  AMPHORA_CHECK(!text.contains('\n') && !text.contains('\0') && !text.contains('\x1b'));
  const std::string json = cli::json_line(cli::Level::kDebug, "2026-11-23T10:00:00Z", message);
  AMPHORA_CHECK(!json.contains('\n') && nlohmann::json::accept(json));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  std::vector<std::string> words = fuzz::split(text, '\n');
  std::vector<const char*> pointers;
  for (const auto& word : words) {
    pointers.push_back(word.c_str());
    check_units(word);
  }
  check_exec(pointers, size);
  const shim::Flags flags = shim::parse_flags(pointers);
  AMPHORA_CHECK(flags.id.size() + flags.action.size() <= size);
  check_ps(text);
  check_log(text);
  return 0;
}
