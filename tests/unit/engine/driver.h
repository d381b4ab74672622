// SPDX-License-Identifier: Apache-2.0
// What the engine tests share: the two shared objects, artifacts compiled once, and a guest run in a
// child process the way amphora-wasm runs one, prepared before the fork. Tests of what a guest sees are
// in guest_test.cc, tests of the interface in engine_test.cc.
#ifndef AMPHORA_TESTS_UNIT_ENGINE_DRIVER_H_
#define AMPHORA_TESTS_UNIT_ENGINE_DRIVER_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <amphora/engine.h>

namespace engine_test {

const amphora_engine& runtime();   // prepared once, in the test process
const amphora_engine& compiler();  // never called but in a child, since it may start threads

/// The options that this build of the suite gives each guest (ENGINE_OPTIONS); others come beside them.
const amphora_config& variant();

// "" and the code of the failure with its text.
struct Answer {
  int code = -1;
  std::string text;
};

std::string guests_path(std::string_view name);
std::string read_file(const std::string& path);

// The artifact's path, or the failure's text in `answer`.
std::string compile(std::string_view wasm_or_text, Answer* answer = nullptr);
// The same of a guest with libraries: name and bytes each, the guest first.
using Parts = std::vector<std::pair<std::string, std::string>>;
std::string link(const Parts& parts, Answer* answer = nullptr);
std::string compile_guest(std::string_view name);  // a file of the guests directory
Answer check(std::string_view wasm_or_text);

struct Directory {
  std::string host{};
  std::string guest{};
  bool read_only = false;
};

struct Job {
  std::string artifact{};
  std::string entry{};
  std::vector<std::string> args{"guest"};
  std::vector<std::string> env{};
  std::vector<Directory> directories{};
  std::vector<std::string> options{};
  std::string input{};  // what stdin gives before its end
  int stdin_fd = -2;    // given instead of `input`
  uint64_t memory_limit = 0;
  bool default_signals = false;            // as a container's set-up leaves them
  int listen_fd = -1;                      // with one, SIGTERM calls the engine's interrupt
  std::function<void(pid_t)> meanwhile{};  // in the test, while the guest runs
};

struct Result {
  Answer load, run;
  int exit_code = -1;
  int wait_status = -1;
  int threads = -1;  // of the guest's process when it ended
  std::string out, err;
};

Result run(const Job& what);

// A directory that is removed with its content.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  void write(std::string_view name, std::string_view content) const;
  void make(std::string_view name) const;

 private:
  std::string path_;
};

}  // namespace engine_test

#endif  // AMPHORA_TESTS_UNIT_ENGINE_DRIVER_H_
