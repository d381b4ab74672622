// SPDX-License-Identifier: Apache-2.0
// The interface: tables, options, what compile and check say, what load refuses.
#include <unistd.h>

#include <cstring>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/driver.h"

namespace engine_test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Table, BothObjectsAgree) {
  EXPECT_EQ(runtime().abi_version, AMPHORA_ENGINE_ABI);
  EXPECT_EQ(compiler().abi_version, AMPHORA_ENGINE_ABI);
  EXPECT_EQ(runtime().size, sizeof(amphora_engine));
  EXPECT_STREQ(runtime().name, "wasmtime");
  EXPECT_STREQ(runtime().version, compiler().version);
  EXPECT_NE(runtime().cache_key(nullptr), 0u);
  EXPECT_EQ(runtime().cache_key(nullptr), compiler().cache_key(nullptr));
}

TEST(Table, OnlyTheCompilerCompiles) {
  EXPECT_EQ(runtime().compile, nullptr);
  EXPECT_EQ(runtime().check, nullptr);
  EXPECT_EQ(runtime().capabilities() & AMPHORA_CAP_COMPILE, 0u);
  EXPECT_NE(compiler().capabilities() & AMPHORA_CAP_COMPILE, 0u);
  char text[200];
  amphora_error error{text, sizeof text};
  EXPECT_EQ(compiler().load(nullptr, &error), AMPHORA_ERR_UNSUPPORTED);
  EXPECT_STREQ(text, "this object compiles; libamphora-engine-wasmtime.so runs");
}

TEST(Prepare, UnknownOptionListsTheKnownOnes) {
  const char* options[] = {"colour", "on", nullptr};
  const amphora_config config{sizeof config, options, nullptr};
  char text[200];
  amphora_error error{text, sizeof text};
  EXPECT_EQ(runtime().prepare(&config, &error), AMPHORA_ERR_OPTION);
  EXPECT_THAT(text, StartsWith("unknown option colour; known options: backtrace (on, off), "));
}

TEST(Check, SmallestTextAndEmptyText) {
  EXPECT_EQ(check("(func)").code, AMPHORA_OK);
  const Answer empty = check("");
  EXPECT_EQ(empty.code, AMPHORA_ERR_INVALID);
  EXPECT_EQ(empty.text, "neither a WebAssembly binary nor text: no \"(\" in it");
}

TEST(Check, ReasonIsOneLineWithThePlace) {
  const Answer bad = check("(module\n  (fnuc))");
  EXPECT_EQ(bad.code, AMPHORA_ERR_INVALID);
  EXPECT_THAT(bad.text, HasSubstr("(line 2, column 4)"));
  EXPECT_EQ(bad.text.find('\n'), std::string::npos);
}

TEST(Check, DeepNestingIsNoCrash) {
  std::string text;
  for (int i = 0; i < 200'000; i++) text += "(component ";
  const Answer deep = check(text + std::string(200'000, ')'));
  EXPECT_EQ(deep.code, AMPHORA_ERR_INVALID) << deep.text;
  EXPECT_THAT(deep.text, HasSubstr("nesting too deep"));
}

TEST(Compile, InvalidModuleSaysWhy) {
  Answer answer;
  compile("(func (result i32) i64.const 1)", &answer);
  EXPECT_EQ(answer.code, AMPHORA_ERR_INVALID);
  EXPECT_THAT(answer.text, HasSubstr("type mismatch: expected i32, found i64"));
}

TEST(Compile, ClosedOutputIsASystemError) {
  char text[200] = "";
  amphora_error error{text, sizeof text};
  const char* const module = "(module)";
  EXPECT_EXIT(
      {
        const auto* bytes = reinterpret_cast<const uint8_t*>(module);
        const int code = compiler().compile({bytes, std::strlen(module)}, -1, nullptr, &error);
        (void)!write(2, text, std::strlen(text));
        _exit(code);
      },
      testing::ExitedWithCode(AMPHORA_ERR_SYSTEM), "write the artifact: Bad file descriptor");
}

TEST(Load, UnknownImportIsNamed) {
  const Result result = run({.artifact = compile("(import \"env\" \"magic\" (func))")});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_INVALID);
  EXPECT_EQ(result.load.text,
            "unknown import: env::magic; this engine offers wasi_snapshot_preview1 to modules");
}

TEST(Load, MissingEntry) {
  const Result result = run({.artifact = compile("(module)")});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_NOT_FOUND);
  EXPECT_EQ(result.load.text, "the module exports no function _start");
  const Result named = run({.artifact = compile_guest("hello.wat"), .entry = "nothing"});
  EXPECT_EQ(named.load.code, AMPHORA_ERR_NOT_FOUND);
  EXPECT_EQ(named.load.text, "the module exports no function nothing");
}

TEST(Load, WrongEntry) {
  const Result typed = run({.artifact = compile("(func (export \"_start\") (param i32))")});
  EXPECT_EQ(typed.load.code, AMPHORA_ERR_INVALID);
  EXPECT_THAT(typed.load.text, StartsWith("export _start of type "));
  const Result memory = run({.artifact = compile_guest("hello.wat"), .entry = "memory"});
  EXPECT_EQ(memory.load.code, AMPHORA_ERR_INVALID);
  EXPECT_EQ(memory.load.text, "export memory is not a function");
}

TEST(Load, WhatTheCompilerDidNotMakeIsRefused) {
  const TempDir dir;
  dir.write("elf", read_file("/proc/self/exe"));
  dir.write("empty", "");
  std::string torn = read_file(compile_guest("hello.wat"));
  dir.write("torn", torn.substr(0, torn.size() / 2));
  const auto text = [&](const char* name) {
    const Result result = run({.artifact = dir.path() + "/" + name});
    EXPECT_EQ(result.load.code == AMPHORA_ERR_INVALID || result.load.code == AMPHORA_ERR_SYSTEM,
              true);
    return result.load.text;
  };
  EXPECT_EQ(text("elf"), "load the artifact: not made by this engine's compiler");
  EXPECT_EQ(text("torn"), "load the artifact: not made by this engine's compiler");
  EXPECT_EQ(text("empty"), "map the artifact: the file is empty");
}

TEST(Load, StringsMustBeUnicode) {
  const Result result = run({.artifact = compile_guest("hello.wat"), .args = {"a", "b\xff"}});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_INVALID);
  EXPECT_THAT(result.load.text, StartsWith("argument 1 is not UTF-8, as WASI wants it: b"));
}

TEST(Load, PreopenMustBeADirectory) {
  const Result result = run({.artifact = compile_guest("hello.wat"),
                             .directories = {{"/nonexistent-directory", "/data"}}});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_SYSTEM);
  EXPECT_THAT(result.load.text, StartsWith("preopen /data: Bad file descriptor"));
}

}  // namespace
}  // namespace engine_test
