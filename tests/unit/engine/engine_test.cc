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

TEST(Compile, UnknownImportIsNamed) {
  Answer answer;
  compile("(import \"env\" \"magic\" (func))", &answer);
  EXPECT_EQ(answer.code, AMPHORA_ERR_IMPORTS);
  EXPECT_EQ(answer.text,
            "unknown import: env::magic; this engine offers wasi_snapshot_preview1 to modules");
}

TEST(Load, UnknownFunctionOfWasiIsNamed) {
  const Result result =
      run({.artifact = compile("(import \"wasi_snapshot_preview1\" \"magic\" (func))")});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_INVALID);
  EXPECT_EQ(result.load.text,
            "unknown import: wasi_snapshot_preview1::magic; this engine offers "
            "wasi_snapshot_preview1 to modules");
}

constexpr const char* kMain = R"((module
  (import "one" "next" (func $next (result i32)))
  (import "two" "next" (func $other (result i32)))
  (func (export "_start"))
  (func (export "sum") (param i32) (result i32)
    (drop (call $next)) (i32.add (i32.mul (local.get 0) (call $next)) (call $other)))))";
// _initialize sets it; each has its own global and memory.
constexpr const char* kOne = R"((module
  (memory (export "memory") 1)
  (func (export "_initialize") (i32.store (i32.const 0) (i32.const 40)))
  (func (export "_start") unreachable)
  (func (export "next") (result i32)
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (i32.load (i32.const 0)))))";
constexpr const char* kTwo = R"((module
  (import "one" "next" (func $next (result i32)))
  (memory (export "memory") 1)
  (func (export "next") (result i32) (i32.add (call $next) (i32.load (i32.const 0))))))";

TEST(Link, LibrariesAreInitializedSharedAndHaveTheirOwnMemory) {
  const std::string artifact = link({{"app.wasm", kMain}, {"two.wat", kTwo}, {"one.wasm", kOne}});
  const Result result = run({.artifact = artifact, .entry = "sum", .args = {"app", "10"}});
  EXPECT_EQ(result.load.text, "");
  EXPECT_EQ(result.out, "463\n");  // 10 * 42 + 43
  EXPECT_EQ(run({.artifact = artifact}).exit_code, 0);
}

TEST(Link, AllMemoriesCountAgainstTheLimit) {
  const std::string artifact = link({{"app.wasm", kMain}, {"two.wat", kTwo}, {"one.wasm", kOne}});
  EXPECT_EQ(run({.artifact = artifact, .memory_limit = 2 << 16}).exit_code, 0);
  const Result less = run({.artifact = artifact, .memory_limit = 1 << 16});
  EXPECT_EQ(less.run.code, AMPHORA_ERR_SYSTEM);
  EXPECT_THAT(less.run.text, HasSubstr("memory"));
}

TEST(Link, WhatDoesNotFitIsAnErrorOfLoad) {
  const auto reason = [](const char* one) {
    const Result result =
        run({.artifact = link(
                 {{"app.wasm",
                   "(module (import \"one\" \"f\" (func (param i32))) (func (export \"_start\")))"},
                  {"one.wasm", one}})});
    EXPECT_EQ(result.load.code, AMPHORA_ERR_INVALID);
    return result.load.text;
  };
  EXPECT_EQ(reason("(module)"),
            "unknown import: app.wasm imports one::f, which one.wasm does not export");
  EXPECT_EQ(reason("(module (func (export \"f\")))"),
            "app.wasm imports one::f as (type (func (param i32))), and one.wasm has (type (func))");
  EXPECT_EQ(reason("(module (memory (export \"f\") 1))"),
            "app.wasm imports one::f as (type (func (param i32))), and one.wasm has (memory)");
  EXPECT_EQ(
      reason("(module (import \"wasi_snapshot_preview1\" \"magic\" (func)) (func (export \"f\") "
             "(param i32)))"),
      "unknown import: one.wasm imports wasi_snapshot_preview1::magic, which this engine does "
      "not export");
}

TEST(Link, ATrapInALibraryIsTheGuests) {
  const Result result =
      run({.artifact = link(
               {{"app.wasm",
                 "(module (import \"one\" \"f\" (func $f)) (func (export \"_start\") (call $f)))"},
                {"one.wasm", "(module (func $broken (export \"f\") unreachable))"}})});
  EXPECT_EQ(result.run.code, AMPHORA_ERR_TRAP);
  EXPECT_THAT(result.err, HasSubstr("broken"));
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
