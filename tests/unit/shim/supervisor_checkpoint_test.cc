// SPDX-License-Identifier: Apache-2.0
// Checkpoints of tasks, and tasks of checkpoints, with plain processes in the place of containers.
#include <signal.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/shim/supervisor_fixture.h"

namespace amphora::shim {
namespace {

using test::SupervisorTest;
using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(SupervisorTest, ARunningOrPausedContainerIsCheckpointed) {
  const auto checkpoint = [&] {
    CheckpointOptions options;
    options.image_path = "/images";
    options.leave_running = true;
    return run_void([&](Done<void> done) {
      supervisor_.checkpoint("web", std::move(options), std::move(done));
    });
  };
  EXPECT_FALSE(checkpoint());
  EXPECT_EQ(errc_, Errc::kNotFound);
  ASSERT_TRUE(create("web"));
  EXPECT_FALSE(checkpoint());
  EXPECT_EQ(error_, "cannot checkpoint container web: it is created");
  EXPECT_EQ(errc_, Errc::kPrecondition);
  ASSERT_TRUE(start("web"));
  EXPECT_TRUE(checkpoint()) << error_;
  EXPECT_EQ(backend_.written_to, "/images and runs on");
  EXPECT_TRUE(run_void([&](Done<void> done) { supervisor_.pause("web", std::move(done)); }));
  EXPECT_TRUE(checkpoint()) << "clients pause before they ask: " << error_;
  EXPECT_THAT(events_.words,
              ElementsAre("create", "start", "checkpointed", "paused", "checkpointed"));
}

TEST_F(SupervisorTest, ACheckpointIsACreatedContainerWithoutAProcess) {
  const auto create_restored = [&] {
    CreateRequest request;
    request.id = "web";
    request.bundle = dir_.path();
    request.checkpoint = "/images";
    return get<uint32_t>(
        [&](Done<uint32_t> done) { supervisor_.create(std::move(request), std::move(done)); });
  };
  EXPECT_EQ(create_restored(), 0U) << error_;
  EXPECT_EQ(backend_.restored_from, "") << "it is Start's to do";
  EXPECT_TRUE(supervisor_.state("web", "")->process->is<CreatedPhase>());
  EXPECT_FALSE(kill("web", SIGKILL));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(add_exec("e", "true").error().code(), Errc::kPrecondition);
  backend_.fail_restore = true;
  EXPECT_FALSE(start("web"));
  EXPECT_THAT(error_, HasSubstr("criu says no"));
  backend_.fail_restore = false;
  const auto pid = start("web");
  ASSERT_TRUE(pid) << error_;
  made_.push_back("web");
  EXPECT_NE(*pid, 0U);
  EXPECT_EQ(backend_.restored_from, "/images");
  EXPECT_TRUE(add_exec("e", "true").has_value());
  ASSERT_TRUE(kill("web", SIGKILL));
  EXPECT_EQ(wait("web")->status, 137U);
  ASSERT_TRUE(remove("web")) << error_;
  EXPECT_THAT(events_.words,
              ElementsAre("create", "start", "exec-added", "exit web 137", "delete"));
}

TEST_F(SupervisorTest, ACheckpointThatWasNeverStartedIsDeleted) {
  CreateRequest request;
  request.id = "web";
  request.bundle = dir_.path();
  request.checkpoint = "/images";
  ASSERT_TRUE(get<uint32_t>(
      [&](Done<uint32_t> done) { supervisor_.create(std::move(request), std::move(done)); }));
  std::optional<uint32_t> waited;
  supervisor_.wait("web", "",
                   {[&](Result<Exit> exit) { waited = exit->status; }, [] { return false; }});
  ASSERT_TRUE(remove("web")) << error_;
  EXPECT_EQ(waited, 137U) << "who waited hears of the end";
  EXPECT_THAT(events_.words, ElementsAre("create", "delete"));
  EXPECT_TRUE(supervisor_.is_empty());
}

}  // namespace
}  // namespace amphora::shim
