// SPDX-License-Identifier: Apache-2.0
// The executor from verdict to ExecPlan with the stub engine: cache, compile once, limits in a cgroup.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/sys.h"
#include "executor/cgroup/cgroup.h"
#include "tests/unit/wasm/host_fixture.h"
#include "wasm/wasm_executor.h"

namespace amphora {
namespace {

using ::testing::HasSubstr;

class WasmExecutorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: a cache of root's, cgroups";
    char name[] = "/tmp/amphora-executor-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    restart();
  }
  void TearDown() override {
    executor_.reset();
    if (!root_.empty()) {
      EXPECT_EQ(std::system(("rm -rf '" + root_ + "'").c_str()), 0);
    }
  }
  /// As a new shim would begin.
  void restart(wasm::CompileLimits limits = {}) {
    WasmExecutor::Options options;
    options.programs = wasm::test_programs();
    options.engine = "stub";
    options.cache_dir = root_ + "/cache";
    options.limits = limits;
    executor_ = std::make_unique<WasmExecutor>(std::move(options), children_);
  }
  Result<setup::ExecPlan> plan(const std::string& module, const cgroup::Cgroup* cgroup = nullptr) {
    detect::Verdict verdict;
    verdict.kind = detect::Kind::kWasmModule;
    verdict.path = "/app.wasm";
    verdict.module.reset(sys::memfd_create("module", MFD_CLOEXEC));
    TRY(write_all(verdict.module.get(), module));
    return executor_->plan_exec({id_, spec_, cgroup}, process_, std::move(verdict));
  }
  std::string error_of(const Result<setup::ExecPlan>& result) {
    EXPECT_FALSE(result.has_value());
    return result ? "" : result.error().what();
  }
  static std::string artifact_of(const setup::ExecPlan& plan) {
    char text[64] = {};
    const ssize_t n = ::pread(plan.fds.at(0).get(), text, sizeof text, 0);
    return std::string(text, n > 0 ? static_cast<size_t>(n) : 0);
  }

  std::string root_;
  Children children_;
  std::unique_ptr<WasmExecutor> executor_;
  const std::string id_ = "c1";
  oci::Spec spec_;
  oci::Process process_ = [] {
    oci::Process process;
    process.args = {"app.wasm", "x"};
    process.env = {"A=1"};
    process.cwd = "/";
    return process;
  }();
};

TEST_F(WasmExecutorTest, PlanCarriesTheGuestAndItsArtifact) {
  const auto made = plan("one");
  ASSERT_TRUE(made.has_value()) << made.error().what();
  EXPECT_EQ(artifact_of(*made), "STUBone");
  EXPECT_NE(made->spawner, nullptr);
  EXPECT_EQ(made->kind, "wasm");
  wasm::HandoverView view;
  ASSERT_TRUE(wasm::decode(made->handover, &view));
  EXPECT_STREQ(view.args[0], "app.wasm");
  EXPECT_STREQ(view.env[0], "A=1");
}

TEST_F(WasmExecutorTest, SecondStartCompilesNothingAndAChangedByteDoes) {
  ASSERT_TRUE(plan("one").has_value());
  ASSERT_TRUE(plan("one").has_value());
  EXPECT_EQ(executor_->cache().counts().made, 1U);
  restart();
  ASSERT_TRUE(plan("one").has_value());
  EXPECT_EQ(executor_->cache().counts().made, 0U);
  EXPECT_EQ(artifact_of(*plan("onE")), "STUBonE");
  EXPECT_EQ(executor_->cache().counts().made, 1U);
}

TEST_F(WasmExecutorTest, ArtifactCannotBeWrittenThroughItsDescriptor) {
  const auto made = plan("one");
  ASSERT_TRUE(made.has_value());
  const std::string again = "/proc/self/fd/" + std::to_string(made->fds.at(0).get());
  const UniqueFd written(::open(again.c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_FALSE(written);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(WasmExecutorTest, ManyFirstStartsCompileOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&] {
      const auto made = plan("slow");
      if (made && artifact_of(*made) == "STUBslow") ++right;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 32);
  EXPECT_EQ(executor_->cache().counts().made, 1U);
}

TEST_F(WasmExecutorTest, AnnotationsNameEngineAndOptions) {
  spec_.annotations["amphora.dev/engine.known"] = "1";
  EXPECT_TRUE(plan("one").has_value());
  spec_.annotations["amphora.dev/engine.wrong"] = "1";
  EXPECT_THAT(error_of(plan("one")), HasSubstr("unknown option \"wrong\"; known: known"));
  spec_.annotations = {{"amphora.dev/engine", "nothere"}};
  EXPECT_THAT(error_of(plan("one")), HasSubstr("engine \"nothere\" is not installed"));
  spec_.annotations = {{"amphora.dev/compile-floor", "maybe"}};
  EXPECT_EQ(error_of(plan("one")),
            "annotations[\"amphora.dev/compile-floor\"]: \"maybe\" is not on or off");
}

TEST_F(WasmExecutorTest, KindThatTheEngineCannotRunIsRefused) {
  detect::Verdict verdict;
  verdict.kind = detect::Kind::kWasmComponent;
  verdict.path = "/app.wasm";
  const auto result = executor_->plan_exec({id_, spec_, nullptr}, process_, std::move(verdict));
  EXPECT_EQ(error_of(result), "/app.wasm: engine stub 1 does not run a wasm-component");
  EXPECT_EQ(result.error().code(), Errc::kUnsupported);
}

TEST_F(WasmExecutorTest, OutOfMemoryInTheContainersCgroupNamesItsLimit) {
  auto host = setup::probe_host();
  ASSERT_TRUE(host.has_value()) << host.error().what();
  spec_.linux_.cgroups_path = "/amphora-wasm-test-" + std::to_string(::getpid());
  spec_.linux_.resources.memory.emplace().limit = 48 << 20;
  auto group = cgroup::create("wasm-test", spec_.linux_, *host, {});
  if (!group || !*group) GTEST_SKIP() << "no cgroups here: " << group.error().what();
  auto applied = (*group)->apply(spec_.linux_.resources);
  if (!applied) GTEST_SKIP() << "no memory limit here: " << applied.error().what();
  spec_.annotations["amphora.dev/compile-floor"] = "off";
  const auto result = plan("greedy", group->get());
  EXPECT_EQ(
      error_of(result),
      "compiling /app.wasm needs more memory than the container's limit of 50331648 bytes; raise "
      "the limit or warm the cache first");
#ifndef __SANITIZE_ADDRESS__  // whose shadow counts as data: no rlimit then
  // With the floor the compile runs beside the container, with more memory than it has, and bounded.
  spec_.annotations.clear();
  EXPECT_THAT(error_of(plan("greedy", group->get())),
              HasSubstr("the compile floor of 268435456 bytes"));
#endif
  EXPECT_TRUE((*group)->remove().has_value());
}

}  // namespace
}  // namespace amphora
