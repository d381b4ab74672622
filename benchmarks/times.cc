// SPDX-License-Identifier: Apache-2.0
// bench_times ROUNDS: reads commands from stdin, one a line as NAME<tab>WORD<tab>WORD..., and runs all of
// them once per round, in turn, so that whatever else the machine does falls on all alike. Each run is
// timed from posix_spawn to wait, output thrown away. Prints NAME<tab>microseconds... a line each, and
// ends with 1 when any run did not exit with 0.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

extern char** environ;

namespace {

struct Command {
  std::vector<std::string> words;  ///< the name first
  std::vector<char*> argv;
  std::vector<double> times;
};

double now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

std::vector<Command> read_commands() {
  std::vector<Command> commands;
  std::string text;
  char buffer[4096];
  for (size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) text.append(buffer, n);
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    Command command;
    for (size_t word = at; word <= end && end != std::string::npos;) {
      size_t stop = text.find('\t', word);
      if (stop == std::string::npos || stop > end) stop = end;
      command.words.push_back(text.substr(word, stop - word));
      word = stop + 1;
    }
    if (command.words.size() > 1) commands.push_back(std::move(command));
    if (end == std::string::npos) break;
    at = end + 1;
  }
  for (Command& command : commands) {
    for (size_t i = 1; i < command.words.size(); ++i)
      command.argv.push_back(command.words[i].data());
    command.argv.push_back(nullptr);
  }
  return commands;
}

bool run_once(Command& command, const posix_spawn_file_actions_t& actions, bool keep) {
  pid_t pid = 0;
  int status = 0;
  const double begun = now();
  if (posix_spawnp(&pid, command.argv[0], &actions, nullptr, command.argv.data(), environ) != 0) {
    std::fprintf(stderr, "%s: cannot be started\n", command.words[0].c_str());
    return false;
  }
  if (waitpid(pid, &status, 0) != pid) return false;
  if (keep) command.times.push_back(now() - begun);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  std::fprintf(stderr, "%s: ended with status %#x\n", command.words[0].c_str(),
               static_cast<unsigned>(status));
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 20;
  std::vector<Command> commands = read_commands();
  posix_spawn_file_actions_t actions{};
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  bool good = true;
  for (int round = -2; round < rounds; ++round) {  // two rounds to warm up
    for (Command& command : commands) good = run_once(command, actions, round >= 0) && good;
  }
  for (const Command& command : commands) {
    std::printf("%s", command.words[0].c_str());
    for (const double t : command.times) std::printf("\t%.1f", t);
    std::printf("\n");
  }
  return good ? 0 : 1;
}
