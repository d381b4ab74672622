// SPDX-License-Identifier: Apache-2.0
// Hooks as ordinary programs of the test's own user: what they are given, what their failure says,
// and that nothing of them is left. Needs no privilege.
#include "executor/hooks/hooks.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

namespace amphora::hooks {
namespace {

class Hooks : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/amphora-hooks-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { ASSERT_EQ(std::system(("rm -rf " + dir_).c_str()), 0); }

  static oci::Hook shell(const std::string& script) {
    oci::Hook hook;
    hook.path = "/bin/sh";
    hook.args = {"hook", "-c", script};
    return hook;
  }
  std::string file(const std::string& name) const {
    std::ifstream in(dir_ + "/" + name);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }

  std::string dir_;
  Children children_;
};

TEST_F(Hooks, StateArrivesOnStdinToItsEnd) {
  std::string state(200'000, 'x');  // more than a pipe holds
  ASSERT_TRUE(run("prestart", {shell("cat > " + dir_ + "/state")}, state, children_));
  EXPECT_EQ(file("state"), state);
}

TEST_F(Hooks, HookThatNeverReadsItsStateSucceeds) {
  EXPECT_TRUE(run("prestart", {shell("exit 0")}, std::string(1 << 20, 'x'), children_));
}

TEST_F(Hooks, EnvironmentAndArgumentsAreExactlyTheHooks) {
  ASSERT_EQ(setenv("AMPHORA_HOOK_LEAK", "yes", 1), 0);
  oci::Hook hook;
  hook.path = "/usr/bin/env";
  hook.env = {"ONLY=this"};
  hook.args = {"env", "sh", "-c", "env > " + dir_ + "/env"};
  hook.env.emplace_back("PATH=/usr/bin:/bin");
  ASSERT_TRUE(run("poststop", {hook}, "{}", children_));
  const std::string env = file("env");
  EXPECT_NE(env.find("ONLY=this\n"), std::string::npos) << env;
  EXPECT_EQ(env.find("AMPHORA_HOOK_LEAK"), std::string::npos) << env;
  unsetenv("AMPHORA_HOOK_LEAK");
}

TEST_F(Hooks, StartWithDefaultSignalsWhateverTheCallerIgnoresOrBlocks) {
  const auto before = signal(SIGPIPE, SIG_IGN);
  sigset_t blocked, mask;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &mask);
  ASSERT_TRUE(run("prestart",
                  {shell("grep -E '^Sig(Ign|Blk)' /proc/self/status > " + dir_ + "/signals")}, "{}",
                  children_));
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  signal(SIGPIPE, before);
  EXPECT_EQ(file("signals"), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(Hooks, MissingArgumentsMeanThePathAlone) {
  oci::Hook hook;
  hook.path = "/bin/true";
  EXPECT_TRUE(run("prestart", {hook}, "{}", children_));
}

TEST_F(Hooks, RunInOrderAndStopAtTheFirstFailure) {
  const std::string log = dir_ + "/log";
  const auto done = run("createRuntime",
                        {shell("echo one >> " + log),
                         shell("echo two >> " + log + "; echo noise >&2; echo why >&2; exit 3"),
                         shell("echo three >> " + log)},
                        "{}", children_);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().what(),
            "error running createRuntime hook #1: exit status 3, stdout: , stderr: why");
  EXPECT_EQ(file("log"), "one\ntwo\n");
}

TEST_F(Hooks, DeathBySignalIsNamed) {
  const auto done = run("prestart", {shell("kill -9 $$")}, "{}", children_);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().what(),
            "error running prestart hook #0: signal: Killed, stdout: , stderr: ");
}

TEST_F(Hooks, MissingProgramIsNamed) {
  oci::Hook hook;
  hook.path = "/nonexistent/hook";
  const auto done = run("prestart", {hook}, "{}", children_);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().sys_errno(), ENOENT);
  EXPECT_NE(done.error().what().find("error running prestart hook #0: exec /nonexistent/hook"),
            std::string::npos)
      << done.error().what();
}

TEST_F(Hooks, TimeoutKillsTheHookAndWhatItStarted) {
  oci::Hook hook = shell("sleep 60 & echo $! > " + dir_ + "/child; while :; do echo busy; done");
  hook.timeout = 1;
  const auto begin = std::chrono::steady_clock::now();
  const auto done = run("poststart", {hook}, "{}", children_);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().what(),
            "error running poststart hook #0: hook ran past specified timeout of 1s");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  const pid_t child = std::stoi(file("child"));
  // It is an orphan now; whoever adopted it reaps it in its own time, so a zombie is dead enough.
  for (int i = 0; i < 100 && kill(child, 0) == 0; ++i) {
    std::ifstream in("/proc/" + std::to_string(child) + "/stat");
    const std::string stat((std::istreambuf_iterator<char>(in)), {});
    if (stat.find(") Z ") != std::string::npos) return;
    usleep(10'000);
  }
  EXPECT_EQ(kill(child, 0), -1);
}

TEST_F(Hooks, DaemonLeftWithOurPipesDoesNotHoldUsUp) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(run("poststart", {shell("sleep 5 & echo $! > " + dir_ + "/child")}, "{}", children_));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
  kill(std::stoi(file("child")), SIGKILL);
}

TEST_F(Hooks, SignalsBlockedInTheCallerAreOpenInTheHook) {
  sigset_t all, before;
  sigfillset(&all);
  ASSERT_EQ(sigprocmask(SIG_BLOCK, &all, &before), 0);
  const auto done = run("prestart", {shell("grep SigBlk /proc/self/status > " + dir_ + "/mask")},
                        "{}", children_);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(done);
  EXPECT_EQ(file("mask"), "SigBlk:\t0000000000000000\n");
}

TEST_F(Hooks, NoDescriptorStaysOpen) {
  const auto count = [] {
    int n = 0;
    for (int fd = 0; fd < 256; ++fd) n += dup2(fd, fd) == fd ? 1 : 0;
    return n;
  };
  oci::Hook missing;
  missing.path = "/nonexistent/hook";
  ASSERT_TRUE(run("prestart", {shell("exit 0")}, "{}", children_));
  const int before = count();
  ASSERT_TRUE(run("prestart", {shell("exit 0")}, "{}", children_));
  ASSERT_FALSE(run("prestart", {missing}, "{}", children_));
  EXPECT_EQ(count(), before);
}

}  // namespace
}  // namespace amphora::hooks
