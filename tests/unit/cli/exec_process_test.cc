// SPDX-License-Identifier: Apache-2.0
// exec's process: what the command line changes of the container's own, and what it leaves.
#include "executor/cli/exec_process.h"

#include <stdlib.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "executor/cli/launch.h"

namespace amphora::cli {
namespace {

oci::Process container_process() {
  oci::Process process;
  process.terminal = true;
  process.console_size = oci::ConsoleSize{24, 80};
  process.args = {"init"};
  process.env = {"PATH=/bin"};
  process.cwd = "/srv";
  process.user.uid = 5;
  process.user.gid = 6;
  process.user.additional_gids = {7};
  process.no_new_privileges = true;
  process.capabilities.emplace();
  process.capabilities->inheritable = {"CAP_KILL"};
  return process;
}

TEST(ExecProcess, InheritsAllButProgramAndTerminal) {
  const auto process = exec_process(container_process(), {}, {"ls", "-l"});
  ASSERT_TRUE(process);
  EXPECT_EQ(process->args, (std::vector<std::string>{"ls", "-l"}));
  EXPECT_EQ(process->env, std::vector<std::string>{"PATH=/bin"});
  EXPECT_EQ(process->cwd, "/srv");
  EXPECT_EQ(process->user.uid, 5U);
  EXPECT_TRUE(process->no_new_privileges);
  EXPECT_FALSE(process->terminal);
  EXPECT_FALSE(process->console_size.has_value());
}

TEST(ExecProcess, TakesTheLinesChanges) {
  ExecOptionsLine line;
  line.cwd = "/";
  line.user = "1000:1001";
  line.env = {"A=1", "B="};
  line.additional_gids = {"8", "9,10"};
  line.no_new_privs = false;
  line.tty = true;
  line.apparmor = "profile";
  line.process_label = "label";
  const auto process = exec_process(container_process(), line, {"sh"});
  ASSERT_TRUE(process);
  EXPECT_EQ(process->cwd, "/");
  EXPECT_EQ(process->user.uid, 1000U);
  EXPECT_EQ(process->user.gid, 1001U);
  EXPECT_EQ(process->user.additional_gids, (std::vector<uint32_t>{7, 8, 9, 10}));
  EXPECT_EQ(process->env, (std::vector<std::string>{"PATH=/bin", "A=1", "B="}));
  EXPECT_FALSE(process->no_new_privileges);
  EXPECT_TRUE(process->terminal);
  EXPECT_EQ(process->apparmor_profile, "profile");
  EXPECT_EQ(process->selinux_label, "label");
}

TEST(ExecProcess, UidAloneKeepsTheGid) {
  ExecOptionsLine line;
  line.user = "1000";
  EXPECT_EQ(exec_process(container_process(), line, {"id"})->user.gid, 6U);
}

TEST(ExecProcess, CapabilityIsAmbientOnlyWhereInheritable) {
  ExecOptionsLine line;
  line.caps = {"CAP_SYS_PTRACE", "CAP_KILL"};
  const auto process = exec_process(container_process(), line, {"id"});
  ASSERT_TRUE(process);
  const std::vector<std::string> both = {"CAP_SYS_PTRACE", "CAP_KILL"};
  EXPECT_EQ(process->capabilities->bounding, both);
  EXPECT_EQ(process->capabilities->effective, both);
  EXPECT_EQ(process->capabilities->permitted, both);
  EXPECT_EQ(process->capabilities->ambient, std::vector<std::string>{"CAP_KILL"});
}

TEST(ExecProcess, WrongWordsAreNamed) {
  const auto error_of = [](const ExecOptionsLine& line) {
    return exec_process(container_process(), line, {"id"}).error().what();
  };
  ExecOptionsLine user, group, gids, env;
  user.user = "root";
  EXPECT_EQ(error_of(user), "parsing root as int for uid failed");
  group.user = "0:wheel";
  EXPECT_EQ(error_of(group), "parsing wheel as int for gid failed");
  gids.additional_gids = {"-1"};
  EXPECT_EQ(error_of(gids), "additional-gids must be a positive number -1");
  env.env = {"novalue"};
  EXPECT_EQ(error_of(env), "invalid environment variable: novalue");
}

TEST(Inherited, ClosedDescriptorIsNamedBeforeAnythingExists) {
  const auto inherited = inherited_descriptors(900);
  ASSERT_FALSE(inherited);
  EXPECT_NE(inherited.error().what().find("please check that preserved-fd"), std::string::npos)
      << inherited.error().what();
}

class ListenFds : public ::testing::Test {
 protected:
  void SetUp() override { setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1); }
  void TearDown() override {
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
  }
};

TEST_F(ListenFds, AreCountedAndToldToThePayload) {
  // Descriptor 3 must be open for this; 0 stays open besides.
  const int spare = dup2(0, 3);
  ASSERT_EQ(spare, 3);
  setenv("LISTEN_FDS", "1", 1);
  const auto inherited = inherited_descriptors(0);
  ASSERT_TRUE(inherited) << inherited.error().what();
  EXPECT_EQ(inherited->count, 1);
  EXPECT_EQ(inherited->env, (std::vector<std::string>{"LISTEN_FDS=1", "LISTEN_PID=1"}));
  close(spare);
}

TEST_F(ListenFds, OfAnotherProcessAreNotOurs) {
  setenv("LISTEN_PID", "1", 1);
  setenv("LISTEN_FDS", "1", 1);
  const auto inherited = inherited_descriptors(0);
  ASSERT_TRUE(inherited);
  EXPECT_EQ(inherited->count, 0);
  EXPECT_TRUE(inherited->env.empty());
}

TEST_F(ListenFds, ThatAreNoNumberAreNamed) {
  setenv("LISTEN_FDS", "many", 1);
  EXPECT_EQ(inherited_descriptors(0).error().what(),
            "LISTEN_FDS is no number of descriptors: many");
  unsetenv("LISTEN_FDS");
  EXPECT_EQ(inherited_descriptors(-1).error().what(),
            "--preserve-fds -1 is no number of descriptors");
}

TEST(Words, RuntimesNounIsTakenOffOnce) {
  EXPECT_EQ(without_noun(Error(Errc::kExists, "create a: create a: x"), "create a: ").what(),
            "create a: x");
  EXPECT_EQ(without_noun(Error(Errc::kExists, "start a: x"), "create a: ").what(), "start a: x");
}

}  // namespace
}  // namespace amphora::cli
