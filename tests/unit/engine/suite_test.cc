// SPDX-License-Identifier: Apache-2.0
// The suite that every engine passes, by modules that all of them take: stdio, arguments, directories,
// memory, exits and traps. Built once for each engine (CMakeLists.txt); what an engine cannot do it says
// by itself, and the case is skipped with its words.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <utility>

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
  job_.args = {"demo", "echo"};
  if (const Result probe = run(job_); probe.load.code == AMPHORA_ERR_UNSUPPORTED) {
    GTEST_SKIP() << probe.load.text;
  }
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
  job_.options = {"backtrace", "on"};
  job_.args = {"demo", "echo"};
  if (const Result probe = run(job_); probe.load.code == AMPHORA_ERR_INVALID) {
    GTEST_SKIP() << probe.load.text;
  }
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
  if (variant().options[0] != nullptr)
    GTEST_SKIP() << "LLVM takes a minute for it; demo.wasm goes the same way";
  const Result result = run({.artifact = compile_guest("hello-go.wasm"), .args = {"go", "a b"}});
  EXPECT_EQ(result.run.code, AMPHORA_OK) << result.run.text;
  EXPECT_EQ(result.out, "hello from go\nargv[0] go\nargv[1] a b\n");
  EXPECT_EQ(result.threads, 1);
}

TEST_F(Demo, ExitCodeIsTheGuestsOwn) {
  EXPECT_EQ(demo({"exit", "42"}).exit_code, 42);
  EXPECT_EQ(demo({"exit", "255"}).exit_code, 255);
}

TEST_F(Demo, TrapIsToldOnStderr) {
  job_.options = {"backtrace", "off"};
  const Result result = demo({"trap"});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_EQ(result.run.text, "wasm trap: wasm `unreachable` instruction executed");
  EXPECT_THAT(result.err,
              HasSubstr("amphora-wasm: wasm trap: wasm `unreachable` instruction executed\n"));
}

TEST_F(Demo, MissingEntryIsNotFound) {
  job_.args = {"demo"};
  job_.entry = "nothing";
  const Result result = run(job_);
  EXPECT_EQ(result.load.code, AMPHORA_ERR_NOT_FOUND);
  EXPECT_EQ(result.load.text, "the module exports no function nothing");
}

TEST_F(Demo, StandardStreamsMayBeClosed) {
  job_.stdin_fd = -1;
  EXPECT_EQ(demo({"echo", "x"}).out, "x\n");
}

/// A memory of one page, and `code` as _start.
std::string module_of(std::string_view code) {
  const auto bytes = [](std::initializer_list<int> list) {
    return std::string(list.begin(), list.end());
  };
  const std::string body = bytes({0}) + std::string(code) + bytes({0x0b});
  const auto size = static_cast<int>(body.size());
  return std::string("\0asm\1\0\0\0", 8) +
         bytes({1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 19, 2, 6}) + "memory" +
         bytes({2, 0, 6}) + "_start" + bytes({0, 0, 10, size + 2, 1, size}) + body;
}

// These traps come by signals, which may be reset after the engine was prepared.
TEST(Module, BeyondItsMemoryIsATrap) {
  for (const std::string_view address : {"\x41\x80\x80\x04", "\x41\x7f"}) {
    for (const std::string_view offset :
         {std::string_view("\0", 1), std::string_view("\xff\xff\xff\xff\x0f")}) {
      const std::string code = std::string(address) + "\x41\1\x36\2" + std::string(offset);
      const Result result = run({.artifact = compile(module_of(code)), .default_signals = true});
      EXPECT_EQ(result.load.code, AMPHORA_OK) << result.load.text;
      EXPECT_EQ(result.wait_status, 0) << "ended by a signal";
      EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
      EXPECT_EQ(result.run.text, "wasm trap: out of bounds memory access");
    }
  }
}

TEST(Module, EndlessRecursionIsATrap) {
  const std::string code("\x10\0\x10\0", 4);
  const Result result = run({.artifact = compile(module_of(code)), .default_signals = true});
  EXPECT_EQ(result.wait_status, 0) << "ended by a signal";
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_EQ(result.run.text, "wasm trap: call stack exhausted");
}

TEST(Interface, BothObjectsAgree) {
  EXPECT_EQ(runtime().abi_version, AMPHORA_ENGINE_ABI);
  EXPECT_EQ(compiler().abi_version, AMPHORA_ENGINE_ABI);
  EXPECT_STREQ(runtime().name, ENGINE_UNDER_TEST);
  EXPECT_STREQ(runtime().name, compiler().name);
  EXPECT_STREQ(runtime().version, compiler().version);
  EXPECT_EQ(runtime().cache_key(&variant()), compiler().cache_key(&variant()));
  EXPECT_EQ(runtime().cache_key(nullptr) == runtime().cache_key(&variant()),
            variant().options[0] == nullptr);
  EXPECT_NE(compiler().capabilities() & AMPHORA_CAP_COMPILE, 0u);
}

TEST(Interface, UnknownOptionListsTheKnownOnes) {
  const char* options[] = {"colour", "red", nullptr};
  const amphora_config config{sizeof config, options, nullptr};
  char text[200] = "";
  amphora_error error{text, sizeof text};
  EXPECT_EQ(runtime().prepare(&config, &error), AMPHORA_ERR_OPTION);
  EXPECT_THAT(text, StartsWith("unknown option colour; known options: "));
}

TEST(Interface, LayerTypesAreMediaTypes) {
  size_t count = 0;
  if (runtime().layer_types != nullptr) {
    for (const char* const* type = runtime().layer_types(); *type != nullptr; type++, count++) {
      EXPECT_THAT(*type, HasSubstr("/"));
    }
  }
  EXPECT_EQ(count, std::string_view(runtime().name) == "example" ? 1u : 0u);
}

TEST(Interface, RubbishIsRefusedByTheCompiler) {
  Answer answer;
  compile(std::string_view("\0asm\1\0\0\0\1\xff\xff\xff\xff\x0f", 14), &answer);
  EXPECT_EQ(answer.code, AMPHORA_ERR_INVALID);
  EXPECT_FALSE(answer.text.empty());
}

}  // namespace
}  // namespace engine_test
