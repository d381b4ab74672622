// SPDX-License-Identifier: Apache-2.0
// The compile process with the stub compiler: what it lets out, what it keeps in, and the words.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/sys.h"
#include "tests/unit/wasm/host_fixture.h"
#include "wasm/compiler.h"

namespace amphora::wasm {
namespace {

using ::testing::HasSubstr;

#ifdef __SANITIZE_ADDRESS__
#define SKIP_WITHOUT_MEMORY_LIMIT() GTEST_SKIP() << "address sanitizer: its shadow counts as data"
#else
#define SKIP_WITHOUT_MEMORY_LIMIT()
#endif

class Compile : public ::testing::Test {
 protected:
  Result<std::string> compile(const std::string& module, CompileLimits limits = {},
                              std::optional<uint64_t> memory = std::nullopt) {
    const UniqueFd file(sys::memfd_create("module", MFD_CLOEXEC));
    TRY(write_all(file.get(), module));
    Compiler compiler(program_, limits);
    CompileRequest request;
    request.engine = "stub";
    request.module = file.get();
    request.name = "/app.wasm";
    request.memory_limit = memory;
    TRY_ASSIGN(const UniqueFd artifact, compiler.compile(request));
    ::lseek(artifact.get(), 0, SEEK_SET);
    return read_all(artifact.get(), 64 << 20);
  }
  Result<std::string> link(const std::vector<std::pair<std::string, std::string>>& parts,
                           const char* engine = "stub") {
    std::vector<UniqueFd> files;
    CompileRequest request;
    for (const auto& [name, bytes] : parts) {
      files.emplace_back(sys::memfd_create("module", MFD_CLOEXEC));
      TRY(write_all(files.back().get(), bytes));
      if (files.size() > 1) request.libraries.push_back({name, files.back().get()});
    }
    request.engine = engine;
    request.module = files.front().get();
    request.name = parts.front().first;
    TRY_ASSIGN(const UniqueFd artifact, compiler_.compile(request));
    ::lseek(artifact.get(), 0, SEEK_SET);
    return read_all(artifact.get(), 64 << 20);
  }
  std::string error_of(const Result<std::string>& result) {
    EXPECT_FALSE(result.has_value());
    return result ? "" : result.error().what();
  }
  Children children_;
  HostProgram program_{test_programs(), children_};
  Compiler compiler_{program_, {}};
};

TEST_F(Compile, ModuleBecomesAnArtifact) {
  EXPECT_EQ(compile("echo").value_or("failed"), "STUBecho");
  const std::string big(5 << 20, 'x');
  EXPECT_EQ(compile(big).value_or("failed"), "STUB" + big);
}

TEST_F(Compile, RefusedModuleIsInvalidWithTheCompilersWords) {
  const auto result = compile("malformed");
  EXPECT_EQ(error_of(result), "compiling /app.wasm: unexpected byte at offset 3");
  EXPECT_EQ(result.error().code(), Errc::kInvalid);
}

TEST_F(Compile, LibrariesComeWithTheirNamesInOrder) {
  EXPECT_EQ(
      link({{"/bin/app.wasm", "main"}, {"b.wasm", "B"}, {"--memory", "A"}}).value_or("failed"),
      "STUBapp.wasm=main b.wasm=B --memory=A");
  EXPECT_EQ(error_of(link({{"/app.wasm", "main"}, {"b.wasm", ""}})),
            "linking /app.wasm: an empty library");
  std::vector<std::pair<std::string, std::string>> many(65, {"x", "y"});
  EXPECT_THAT(link(many).value_or("failed"), HasSubstr("x=y x=y"));
}

TEST_F(Compile, ATableThatEndsBeforeLinkIsNotReadFurther) {
  const auto result = link({{"/app.wasm", "main"}, {"b.wasm", "B"}}, "old");
  EXPECT_EQ(error_of(result), "linking /app.wasm: this engine's compiler cannot do that");
  EXPECT_EQ(result.error().code(), Errc::kUnsupported);
}

TEST_F(Compile, WallsHold) {
  EXPECT_EQ(error_of(compile("walls")), "compiling /app.wasm: walls hold");
}

TEST_F(Compile, MemoryBesideTheContainerIsBoundedByTheFloor) {
  SKIP_WITHOUT_MEMORY_LIMIT();
  CompileLimits limits;
  limits.floor = 64 << 20;
  EXPECT_EQ(error_of(compile("greedy", limits, 16 << 20)),
            "compiling /app.wasm needs more memory than the compile floor of 67108864 bytes "
            "(AMPHORA_COMPILE_FLOOR)");
}

TEST_F(Compile, MemoryLimitWithoutACgroupHoldsToo) {
  SKIP_WITHOUT_MEMORY_LIMIT();
  CompileLimits limits;
  limits.floor = 0;
  EXPECT_EQ(error_of(compile("greedy", limits, 48 << 20)),
            "compiling /app.wasm needs more memory than the limit of 50331648 bytes");
}

TEST_F(Compile, EndlessCompileIsEnded) {
  CompileLimits limits;
  limits.timeout_seconds = 1;
  EXPECT_EQ(error_of(compile("endless", limits)),
            "compiling /app.wasm takes longer than 1 seconds (AMPHORA_COMPILE_TIMEOUT)");
}

TEST_F(Compile, CrashIsToldBySignal) {
  EXPECT_EQ(error_of(compile("crash")),
            "compiling /app.wasm: the compile process was ended by signal 6");
}

TEST_F(Compile, CheckAnswersWithTheParsersLine) {
  UniqueFd wat(sys::memfd_create("wat", MFD_CLOEXEC));
  ASSERT_TRUE(write_all(wat.get(), "(module)").has_value());
  const detect::WatCheck check = make_wat_check(compiler_, "stub");
  EXPECT_TRUE(check(wat.get()).has_value());
  UniqueFd text(sys::memfd_create("text", MFD_CLOEXEC));
  ASSERT_TRUE(write_all(text.get(), "hello").has_value());
  const auto refused = check(text.get());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().what(), "expected `(`");
}

TEST_F(Compile, IdentityNamesEngineVersionAndKey) {
  const std::vector<std::string> options{"known", "1"};
  const auto plain = compiler_.identify("stub", {});
  ASSERT_TRUE(plain.has_value()) << plain.error().what();
  EXPECT_STREQ(plain->engine, "stub");
  EXPECT_STREQ(plain->version, "1");
  EXPECT_EQ(plain->capabilities, 1U);
  EXPECT_NE(compiler_.identify("stub", options)->cache_key, plain->cache_key);
}

TEST_F(Compile, UnknownOptionIsRefusedWithTheKnownOnes) {
  const std::vector<std::string> options{"knwon", "1"};
  const auto result = compiler_.identify("stub", options);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().what(), "wasm engine stub: unknown option \"knwon\"; known: known");
  EXPECT_EQ(result.error().code(), Errc::kInvalid);
}

TEST_F(Compile, MissingCompilerIsNamedWithItsFile) {
  const auto result = compiler_.identify("nothere", {});
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().what(), HasSubstr("engine \"nothere\" is not installed: "));
  EXPECT_THAT(result.error().what(), HasSubstr("libamphora-compiler-nothere.so: No such file"));
}

TEST_F(Compile, NoProcessIsLeft) {
  compile("echo").value_or("");
  compile("crash").value_or("");
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace amphora::wasm
