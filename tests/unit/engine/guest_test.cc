// SPDX-License-Identifier: Apache-2.0
// What a guest of wasmtime sees and does beyond the suite for all engines (suite_test.cc): text, entries,
// traps, components.
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/driver.h"

namespace engine_test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

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

TEST(Guest, ComponentWithoutTheNamedExport) {
  const Result result = run({.artifact = compile(component("0")), .entry = "other"});
  EXPECT_EQ(result.load.code, AMPHORA_ERR_NOT_FOUND);
  EXPECT_EQ(result.load.text, "the component exports no function other");
}

}  // namespace
}  // namespace engine_test
