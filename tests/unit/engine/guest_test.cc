// SPDX-License-Identifier: Apache-2.0
// What a guest sees and does: stdio, arguments, directories, memory, exits and traps.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/driver.h"

namespace engine_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Demo : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(guests_path("demo.wasm"))) {
      GTEST_SKIP() << "demo.wasm was not built: clang, lld or wasi-libc is missing";
    }
    job_.artifact = compile_guest("demo.wasm");
  }
  Result demo(std::vector<std::string> words) {
    words.insert(words.begin(), "demo");
    job_.args = std::move(words);
    Result result = run(job_);
    EXPECT_EQ(result.load.code, AMPHORA_OK) << result.load.text;
    EXPECT_EQ(result.wait_status, 0);
    EXPECT_EQ(result.threads, 1) << "the engine started a thread";
    return result;
  }
  Job job_;
};

TEST(Guest, TextSaysHello) {
  const Result result = run({.artifact = compile_guest("hello.wat")});
  EXPECT_EQ(result.run.code, AMPHORA_OK) << result.run.text;
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "hello from wat\n");
  EXPECT_EQ(result.err, "");
}

TEST(Guest, ExitCode) {
  const Result result = run({.artifact = compile_guest("exit42.wat")});
  EXPECT_EQ(result.run.code, AMPHORA_OK) << result.run.text;
  EXPECT_EQ(result.exit_code, 42);
}

TEST(Guest, TrapIsToldWithItsFrames) {
  const Result result = run({.artifact = compile_guest("trap.wat")});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_EQ(result.run.text, "wasm trap: wasm `unreachable` instruction executed");
  EXPECT_THAT(result.err,
              StartsWith("amphora-wasm: wasm trap: wasm `unreachable` instruction executed\n"));
  EXPECT_THAT(result.err, HasSubstr("trap!inner"));
  EXPECT_THAT(result.err, HasSubstr("trap!outer"));
}

TEST(Guest, BacktraceCanBeOff) {
  const Result result =
      run({.artifact = compile_guest("trap.wat"), .options = {"backtrace", "off"}});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_EQ(result.err, "amphora-wasm: wasm trap: wasm `unreachable` instruction executed\n");
}

TEST(Guest, SignalsOfTheHardwareAreTrapsAfterAReset) {
  const char* const text =
      "(memory 1) (func (export \"_start\") (drop (i32.load (i32.const 65536))))";
  const Result result = run({.artifact = compile(text), .default_signals = true});
  EXPECT_EQ(result.wait_status, 0) << "ended by a signal";
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_EQ(result.run.text, "wasm trap: out of bounds memory access");
}

TEST(Guest, EndlessRecursionIsATrap) {
  const Result result =
      run({.artifact = compile("(func $f (export \"_start\") (call $f) (call $f))")});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_EQ(result.run.text, "wasm trap: call stack exhausted");
}

TEST(Guest, EntryMayGiveTheExitCode) {
  const char* const text = "(func (export \"other\") (result i32) (i32.const 7))";
  const Result result = run({.artifact = compile(text), .entry = "other"});
  EXPECT_EQ(result.run.code, AMPHORA_OK) << result.run.text;
  EXPECT_EQ(result.exit_code, 7);
}

TEST(Guest, ReactorIsInitialized) {
  const char* const text =
      "(global $g (mut i32) (i32.const 0))"
      "(func (export \"_initialize\") (global.set $g (i32.const 5)))"
      "(func (export \"get\") (result i32) (global.get $g))";
  EXPECT_EQ(run({.artifact = compile(text), .entry = "get"}).exit_code, 5);
}

TEST(Guest, InitialMemoryOverTheLimit) {
  const char* const text = "(memory 2) (func (export \"_start\"))";
  const Result result = run({.artifact = compile(text), .memory_limit = 65536});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_SYSTEM);
  EXPECT_THAT(result.run.text, StartsWith("instantiate: memory minimum size of 2 pages exceeds"));
}

TEST(Guest, ComponentCommandWithoutRun) {
  const Result result = run({.artifact = compile("(component)")});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_NOT_FOUND);
  EXPECT_EQ(result.load.text,
            "the component exports neither wasi:cli/run nor wasi:http/incoming-handler");
}

// wasi:cli/run by hand: the result is ok or error, and nothing else.
std::string component(const char* flag) {
  return std::string("(component (core module $m (func (export \"run\") (result i32) (i32.const ") +
         flag +
         ")) (memory (export \"memory\") 1) (data (i32.const 70) \"image\"))"
         "(core instance $i (instantiate $m))"
         "(func $run (result (result)) (canon lift (core func $i \"run\")))"
         "(instance $api (export \"run\" (func $run)))"
         "(export \"wasi:cli/run@0.2.0\" (instance $api)))";
}

TEST(Guest, ComponentGivesOkOrError) {
  for (const auto& [flag, code] : {std::pair{"0", 0}, std::pair{"1", 1}}) {
    const Result result = run({.artifact = compile(component(flag))});
    EXPECT_EQ(result.load.code, AMPHORA_OK) << result.load.text;
    EXPECT_EQ(result.run.code, AMPHORA_OK) << result.run.text;
    EXPECT_EQ(result.exit_code, code);
    EXPECT_EQ(result.threads, 1);
  }
}

TEST(Guest, ComponentTraps) {
  const Result result = run({.artifact = compile(component("0) (unreachable"))});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_EQ(result.run.text, "wasm trap: wasm `unreachable` instruction executed");
}

TEST(Guest, ComponentHasNoEntryToChoose) {
  const Result result = run({.artifact = compile(component("0")), .entry = "other"});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_UNSUPPORTED);
  EXPECT_EQ(result.load.text, "a component has no entry to choose, only modules have: other");
}

TEST_F(Demo, EchoUsesBothStreams) {
  const Result result = demo({"echo", "hello", "world"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "hello world\n");
  EXPECT_EQ(result.err, "exiting\n");
}

TEST_F(Demo, NamedExport) {
  job_.entry = "named";
  EXPECT_EQ(demo({}).out, "named export\n");
}

TEST_F(Demo, ArgumentsAndEnvironmentAsGiven) {
  job_.env = {"A=1=2", "EMPTY=", "UNI=h\u00e9"};
  EXPECT_EQ(demo({"env"}).out, "A=1=2\nEMPTY=\nUNI=h\u00e9\n");
  EXPECT_EQ(demo({"args", "", "two words"}).out, "demo\nargs\n\ntwo words\n");
}

TEST_F(Demo, StdinFromAPipeEnds) {
  job_.input = std::string(50'000, 'x') + "end";
  EXPECT_EQ(demo({"cat"}).out, job_.input);
}

TEST_F(Demo, StdinFromAFileAndNull) {
  const TempDir dir;
  dir.write("in", "from a file");
  job_.stdin_fd = open((dir.path() + "/in").c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(demo({"cat"}).out, "from a file");
  close(job_.stdin_fd);
  job_.stdin_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const Result null = demo({"cat"});
  EXPECT_EQ(null.out, "");
  EXPECT_EQ(null.exit_code, 0);
  close(job_.stdin_fd);
}

TEST_F(Demo, StdinClosed) {
  job_.stdin_fd = -1;
  EXPECT_EQ(demo({"cat"}).exit_code, 0);
}

TEST_F(Demo, StdinFromASocketWaitsForData) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const pid_t writer = fork();
  if (writer == 0) {
    for (const char* word : {"one ", "two"}) {
      usleep(100'000);
      (void)!write(pair[1], word, std::strlen(word));
    }
    _exit(0);
  }
  close(pair[1]);
  job_.stdin_fd = pair[0];
  EXPECT_EQ(demo({"cat"}).out, "one two");
  close(pair[0]);
  waitpid(writer, nullptr, 0);
}

TEST_F(Demo, FilesThroughPreopens) {
  const TempDir dir;
  job_.directories = {{dir.path(), "/"}};
  EXPECT_EQ(demo({"write", "/note", "a", "b"}).exit_code, 0);
  EXPECT_EQ(read_file(dir.path() + "/note"), "a b\n");
  EXPECT_EQ(demo({"read", "/note"}).out, "a b\n");
  EXPECT_EQ(demo({"stat", "/note"}).out, "file 4\n");
  EXPECT_THAT(demo({"ls", "/"}).out, HasSubstr("note\n"));
}

TEST_F(Demo, ReadOnlyPreopen) {
  const TempDir dir;
  dir.write("note", "old");
  job_.directories = {{dir.path(), "/", true}};
  const Result result = demo({"write", "/note", "new"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, StartsWith("/note: "));
  EXPECT_EQ(read_file(dir.path() + "/note"), "old");
  EXPECT_EQ(demo({"read", "/note"}).out, "old");
}

TEST_F(Demo, NothingAboveAPreopen) {
  const TempDir dir;
  dir.make("inside");
  dir.write("secret", "secret");
  std::filesystem::create_symlink("../secret", dir.path() + "/inside/link");
  std::filesystem::create_symlink(dir.path() + "/secret", dir.path() + "/inside/absolute");
  job_.directories = {{dir.path() + "/inside", "/"}};
  for (const char* path : {"/../secret", "/link", "/absolute", "../secret"}) {
    const Result result = demo({"read", path});
    EXPECT_EQ(result.exit_code, 1) << path;
    EXPECT_THAT(result.out, Not(HasSubstr("secret"))) << path;
  }
}

TEST_F(Demo, TheHostsWorkingDirectoryIsNotTouched) {
  const TempDir dir;
  const auto before = std::filesystem::current_path();
  job_.directories = {{dir.path(), "/"}, {"/", "/host"}};
  EXPECT_EQ(demo({"echo"}).exit_code, 0);
  EXPECT_EQ(std::filesystem::current_path(), before);
}

TEST_F(Demo, MemoryLimitMakesMallocFail) {
  job_.memory_limit = 32 << 20;
  const Result result = demo({"hog"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("16 MiB\nmalloc failed after "));
  job_.memory_limit = 0;
  job_.options = {"memory-max", "8388608"};
  EXPECT_THAT(demo({"hog"}).out, StartsWith("malloc failed after "));
}

TEST_F(Demo, TrapNamesTheFunctions) {
  const Result result = demo({"trap"});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_THAT(result.err, HasSubstr("inner_function"));
  EXPECT_THAT(result.err, HasSubstr("outer_function"));
}

TEST_F(Demo, SleepSleeps) {
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(demo({"sleep", "1"}).exit_code, 0);
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
}

TEST_F(Demo, RandomIsNotInheritedFromTheZygote) {
  const std::string one = demo({"random"}).out;
  EXPECT_EQ(one.size(), 17u);
  EXPECT_NE(one, demo({"random"}).out);
}

TEST(Go, Hello) {
  if (!std::filesystem::exists(guests_path("hello-go.wasm")))
    GTEST_SKIP() << "hello-go.wasm was not built";
  const Result result = run({.artifact = compile_guest("hello-go.wasm"), .args = {"go", "a b"}});
  EXPECT_EQ(result.run.code, AMPHORA_OK) << result.run.text;
  EXPECT_EQ(result.out, "hello from go\nargv[0] go\nargv[1] a b\n");
  EXPECT_EQ(result.threads, 1);
}

}  // namespace
}  // namespace engine_test
