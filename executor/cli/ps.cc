// SPDX-License-Identifier: Apache-2.0
// amphora ps: the processes of a container, as numbers or as the host's ps shows them.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <expected>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"
#include "executor/cli/ps_filter.h"
#include "executor/cli/words.h"
#include "executor/oci/json_writer.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

struct PsOptions {
  std::string format = "table";
};
constexpr Option kOptions[] = {
    option<&PsOptions::format>("format", 'f', words::kFormat, "\"table\""),
};

/// What `ps` prints; its complaints go to our stderr.
Result<std::string> output_of_ps(Arguments words) {
  std::vector<char*> argv;
  // SAFETY: posix_spawn takes char* const[] for history's sake and writes to none of them.
  const auto add = [&argv](const char* word) { argv.push_back(const_cast<char*>(word)); };
  add("ps");
  for (const char* word : words) add(word);
  if (words.empty()) add("-ef");
  argv.push_back(nullptr);

  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
  const UniqueFd read_end(fds[0]);
  UniqueFd write_end(fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, "ps", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail_errno(error, "exec: \"ps\"");
  write_end.reset();
  auto text = read_all(read_end.get(), 64 << 20);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!text) return std::unexpected(std::move(text).error().context("output of ps"));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return fail(Errc::kSystem, "ps: exit status " + std::to_string(WEXITSTATUS(status)));
  }
  return text;
}

std::string as_json(const std::vector<pid_t>& pids) {
  if (pids.empty()) return "null\n";
  oci::JsonWriter json;
  json.open("", '[');
  for (const pid_t pid : pids) json.number("", int64_t{pid});
  json.close(']');
  return std::move(json).take() + "\n";
}

Result<int> ps(Context& context, const PsOptions& line, Arguments arguments) {
  if (line.format != "table" && line.format != "json") {
    return fail(Errc::kInvalid, "invalid format option");
  }
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  TRY_ASSIGN(std::vector<pid_t> pids, runtime->pids(arguments[0]));
  std::sort(pids.begin(), pids.end());
  if (line.format == "json") {
    TRY(print(as_json(pids)));
    return 0;
  }
  TRY_ASSIGN(const std::string all, output_of_ps(arguments.subspan(1)));
  TRY_ASSIGN(const std::string ours, ps_lines(all, std::set<pid_t>(pids.begin(), pids.end())));
  TRY(print(ours));
  return 0;
}

}  // namespace

constinit const Command kPsCommand = {
    .name = "ps",
    .summary = "ps displays the processes running inside a container",
    .usage = "<container-id> [ps options]",
    .description =
        "Words behind the id are options of the host's ps, in place of -ef; its output\n"
        "needs a PID column.",
    .options = kOptions,
    .order = Order::kStop,
    .min_arguments = 1,
    .max_arguments = -1,
    .run = &verb<PsOptions, &ps>,
};

}  // namespace amphora::cli
