// SPDX-License-Identifier: Apache-2.0
// The life of tasks with plain processes in the place of containers: order of events, codes, and that
// nobody waits for somebody else.
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/shim/supervisor_fixture.h"

namespace amphora::shim {
namespace {

using test::run_until;
using test::SupervisorTest;
using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(SupervisorTest, AWholeLife) {
  const auto pid = create("web");
  ASSERT_TRUE(pid) << error_;
  EXPECT_EQ(::kill(static_cast<pid_t>(*pid), 0), 0);
  EXPECT_EQ(start("web"), pid);
  EXPECT_TRUE(kill("web", SIGTERM)) << error_;
  const auto exit = wait("web");
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->status, 143U);
  EXPECT_EQ(wait("web")->at.nanos, exit->at.nanos) << "a later Wait gives the same answer";
  const auto deleted = remove("web");
  ASSERT_TRUE(deleted) << error_;
  EXPECT_EQ(deleted->pid, *pid);
  EXPECT_EQ(deleted->exit.status, 143U);
  EXPECT_THAT(events_.words, ElementsAre("create", "start", "exit web 143", "delete"));
  EXPECT_TRUE(supervisor_.is_empty());
  EXPECT_EQ(backend_.recorded, 143);
}

TEST_F(SupervisorTest, AShortProgramsExitNeverPrecedesItsStart) {
  backend_.slow_start = true;
  backend_.init_exit_code = 7;
  for (int i = 0; i < 20; ++i) {
    events_.words.clear();
    ASSERT_TRUE(create("web")) << error_;
    ASSERT_TRUE(start("web")) << error_;
    EXPECT_EQ(wait("web")->status, 7U);
    ASSERT_TRUE(remove("web")) << error_;
    ASSERT_THAT(events_.words, ElementsAre("create", "start", "exit web 7", "delete"));
  }
}

TEST_F(SupervisorTest, TheStatusOfAProcessThatSomebodyTracesIsNotLost) {
  const auto pid = create("web");
  ASSERT_TRUE(pid) << error_;
  ASSERT_TRUE(start("web"));
  int told[2];
  ASSERT_EQ(::pipe2(told, O_CLOEXEC), 0);
  const pid_t tracer = ::fork();
  if (tracer == 0) {
    const bool traces = ::ptrace(PTRACE_SEIZE, static_cast<pid_t>(*pid), nullptr, nullptr) == 0;
    if (::write(told[1], traces ? "y" : "n", 1) != 1) ::_exit(1);
    // Dead meanwhile, and kept by this one.
    ::usleep(300000);
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(told[0], &answer, 1), 1);
  ::close(told[0]);
  ::close(told[1]);
  if (answer == 'y') {
    ASSERT_TRUE(kill("web", SIGKILL));
    EXPECT_EQ(wait("web")->status, 137U);
  }
  ::waitpid(tracer, nullptr, 0);
  if (answer != 'y') GTEST_SKIP() << "a sibling may not be traced here";
}

TEST_F(SupervisorTest, UnknownIsNotFoundForEverything) {
  EXPECT_FALSE(start("nope"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(error_, "container nope does not exist");
  EXPECT_FALSE(kill("nope", SIGTERM));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_FALSE(wait("nope"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_FALSE(remove("nope"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(supervisor_.init_pid("nope"), 0U);
  ASSERT_TRUE(create("web"));
  EXPECT_FALSE(start("web", "no-exec"));
  EXPECT_EQ(error_, "exec no-exec does not exist in container web");
}

TEST_F(SupervisorTest, CreateTwiceAndBadIds) {
  ASSERT_TRUE(create("web"));
  EXPECT_FALSE(create("web"));
  EXPECT_EQ(errc_, Errc::kExists);
  EXPECT_FALSE(create("../etc"));
  EXPECT_EQ(errc_, Errc::kInvalid);
}

TEST_F(SupervisorTest, AFailedCreateLeavesNothingAndSaysWhy) {
  backend_.fail_create = true;
  EXPECT_FALSE(create("web"));
  EXPECT_EQ(error_, "create web: /nope: no such file");
  EXPECT_TRUE(supervisor_.is_empty());
  EXPECT_TRUE(events_.words.empty());
  backend_.fail_create = false;
  EXPECT_TRUE(create("web")) << error_;
}

TEST_F(SupervisorTest, ARunningContainerIsNotDeletedAndAFinishedOneNotKilled) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  EXPECT_FALSE(remove("web"));
  EXPECT_EQ(errc_, Errc::kPrecondition);
  EXPECT_EQ(error_, "cannot delete container web: it is running");
  EXPECT_FALSE(start("web"));
  EXPECT_EQ(errc_, Errc::kPrecondition);
  EXPECT_FALSE(kill("web", 65));
  EXPECT_EQ(errc_, Errc::kInvalid);
  ASSERT_TRUE(kill("web", SIGKILL));
  EXPECT_EQ(wait("web")->status, 137U);
  EXPECT_FALSE(kill("web", SIGKILL));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(error_, "process already finished");
  EXPECT_TRUE(remove("web"));
  EXPECT_FALSE(remove("web"));
  EXPECT_EQ(errc_, Errc::kNotFound);
}

TEST_F(SupervisorTest, ACreatedContainerCanBeDeleted) {
  ASSERT_TRUE(create("web"));
  const auto deleted = remove("web");
  ASSERT_TRUE(deleted) << error_;
  EXPECT_EQ(deleted->exit.status, 137U);
  EXPECT_THAT(events_.words, ElementsAre("create", "exit web 137", "delete"));
}

TEST_F(SupervisorTest, AFailedDeleteCanBeTriedAgain) {
  ASSERT_TRUE(create("web"));
  backend_.fail_remove = true;
  EXPECT_FALSE(remove("web"));
  EXPECT_THAT(error_, HasSubstr("cgroup is busy"));
  backend_.fail_remove = false;
  EXPECT_TRUE(remove("web")) << error_;
}

TEST_F(SupervisorTest, ASlowCreateDelaysNobodyElseAndIsInvisible) {
  ASSERT_TRUE(create("web"));
  backend_.slow_create = true;
  bool created = false;
  CreateRequest request;
  request.id = "slow";
  request.bundle = dir_.path();
  made_.push_back("slow");
  supervisor_.create(std::move(request), [&](Result<uint32_t> pid) { created = pid.has_value(); });
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_FALSE(supervisor_.state("slow", "").has_value());
  EXPECT_TRUE(supervisor_.state("web", "").has_value());
  EXPECT_TRUE(start("web"));
  ASSERT_TRUE(add_exec("e1", "true").has_value());
  EXPECT_TRUE(start("web", "e1"));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(400));
  EXPECT_FALSE(created);
  // Delete during Create waits for it and takes away what it made.
  EXPECT_TRUE(remove("slow")) << error_;
  EXPECT_TRUE(created);
  EXPECT_FALSE(supervisor_.state("slow", "").has_value());
}

TEST_F(SupervisorTest, ExecsHaveTheirOwnLife) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  ASSERT_TRUE(add_exec("e1", "true").has_value());
  EXPECT_EQ(add_exec("e1", "true").error().code(), Errc::kExists);
  EXPECT_FALSE(kill("web", SIGTERM, "e1"));
  EXPECT_EQ(error_, "exec e1 has not been started");
  ASSERT_TRUE(start("web", "e1"));
  EXPECT_EQ(wait("web", "e1")->status, 3U);
  EXPECT_FALSE(kill("web", SIGTERM, "e1"));
  EXPECT_EQ(errc_, Errc::kNotFound);
  EXPECT_EQ(remove("web", "e1")->exit.status, 3U);
  ASSERT_TRUE(add_exec("e2", "missing").has_value());
  EXPECT_FALSE(start("web", "e2"));
  EXPECT_EQ(error_, "exec missing: no such file");
  EXPECT_TRUE(remove("web", "e2")) << "an exec that failed to start can be deleted: " << error_;
  EXPECT_TRUE(alive("web"));
  EXPECT_THAT(events_.words, ElementsAre("create", "start", "exec-added", "exec-started",
                                         "exit e1 3", "exec-added"));
}

TEST_F(SupervisorTest, ExitsOfExecsPrecedeInitsAndNothingStartsAfterwards) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  std::vector<uint32_t> pids;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(add_exec("e" + std::to_string(i), "sleep").has_value());
    pids.push_back(start("web", "e" + std::to_string(i)).value_or(0));
  }
  ASSERT_TRUE(add_exec("late", "true").has_value());
  ASSERT_TRUE(kill("web", SIGKILL));
  int number = 0;
  std::string refusal;
  ASSERT_TRUE(run_until(loop_, [&] {
    const auto added = add_exec("more" + std::to_string(++number), "true");
    if (!added) refusal = added.error().what();
    return !added.has_value();
  }));
  EXPECT_EQ(refusal, "container web has ended");
  EXPECT_FALSE(start("web", "late"));
  EXPECT_EQ(errc_, Errc::kPrecondition);
  // What the end of a pid namespace does.
  for (const uint32_t pid : pids) ::kill(static_cast<pid_t>(pid), SIGKILL);
  EXPECT_EQ(wait("web")->status, 137U);
  EXPECT_EQ(
      std::ranges::count_if(events_.words, [](const auto& w) { return w.starts_with("exit e"); }),
      20);
  EXPECT_EQ(events_.words.back(), "exit web 137");
}

TEST_F(SupervisorTest, CloseIoBeforeAnExecsStartIsRemembered) {
  const std::string fifo = dir_ / "in";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0700), 0);
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  ASSERT_TRUE(supervisor_
                  .add_exec({"web",
                             "e1",
                             R"({"cwd":"/","args":["sleep"],"user":{"uid":0,"gid":0}})",
                             {fifo, "", "", false}})
                  .has_value());
  EXPECT_TRUE(supervisor_.close_stdin("web", "e1").has_value());
  ASSERT_TRUE(start("web", "e1")) << error_;
  const UniqueFd reader(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  char byte = 0;
  EXPECT_TRUE(run_until(loop_, [&] { return ::read(reader.get(), &byte, 1) == 0; }))
      << "somebody still holds the write end";
  EXPECT_TRUE(kill("web", SIGKILL, "e1"));
}

TEST_F(SupervisorTest, PauseAndResume) {
  ASSERT_TRUE(create("web"));
  EXPECT_FALSE(run_void([&](Done<void> done) { supervisor_.pause("web", std::move(done)); }));
  EXPECT_EQ(error_, "cannot pause container web: it is created");
  ASSERT_TRUE(start("web"));
  EXPECT_TRUE(run_void([&](Done<void> done) { supervisor_.pause("web", std::move(done)); }));
  EXPECT_EQ(add_exec("e", "true").error().code(), Errc::kPrecondition);
  EXPECT_FALSE(remove("web"));
  EXPECT_TRUE(run_void([&](Done<void> done) { supervisor_.resume("web", std::move(done)); }));
  EXPECT_TRUE(run_void([&](Done<void> done) { supervisor_.pause("web", std::move(done)); }));
  EXPECT_EQ(backend_.resumes, 1);
  EXPECT_TRUE(kill("web", SIGKILL)) << "a frozen container must be thawed to die";
  EXPECT_EQ(backend_.resumes, 2);
  EXPECT_EQ(wait("web")->status, 137U);
}

TEST_F(SupervisorTest, AThousandWaitsNeedNoThreads) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  ASSERT_TRUE(run_until(loop_, [&] { return workers_.threads() == 0; }));
  int answered = 0;
  for (int i = 0; i < 1000; ++i) {
    supervisor_.wait("web", "",
                     {[&](Result<Exit> exit) { answered += exit->status == 137 ? 1 : 0; },
                      [] { return false; }});
  }
  loop_.restart();
  loop_.poll();
  EXPECT_EQ(workers_.threads(), 0U);
  ASSERT_TRUE(kill("web", SIGKILL));
  EXPECT_TRUE(run_until(loop_, [&] { return answered == 1000; })) << answered;
}

TEST_F(SupervisorTest, WaitersWhoseClientsLeftAreClearedAway) {
  ASSERT_TRUE(create("web"));
  for (int i = 0; i < 100; ++i) {
    supervisor_.wait("web", "", {[](Result<Exit>) {}, [] { return true; }});
  }
  EXPECT_EQ(supervisor_.state("web", "")->process->waiters.size(), 1U);
}

TEST_F(SupervisorTest, KillAllGoesThroughTheRuntime) {
  ASSERT_TRUE(create("web"));
  ASSERT_TRUE(start("web"));
  EXPECT_TRUE(run_void(
      [&](Done<void> done) { supervisor_.kill("web", "", SIGTERM, All::kYes, std::move(done)); }));
  EXPECT_EQ(backend_.kill_alls, 1);
}

TEST_F(SupervisorTest, PidsIsNeverEmpty) {
  const auto pid = create("web");
  const auto list = [&] {
    return get<std::vector<Supervisor::Pid>>(
        [&](auto done) { supervisor_.pids("web", std::move(done)); });
  };
  ASSERT_EQ(list()->size(), 1U);
  EXPECT_EQ(list()->front().pid, static_cast<pid_t>(*pid));
}

}  // namespace
}  // namespace amphora::shim
