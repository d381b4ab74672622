// SPDX-License-Identifier: Apache-2.0
// Processes as values: identity, signals, waiting and whose children are whose.
#include "executor/base/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/sys.h"

namespace amphora {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// A child that runs `body`; with its pidfd. Ended and reaped by the test.
Process child(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  UniqueFd pidfd(sys::pidfd_open(pid, 0));
  EXPECT_TRUE(pidfd);
  return Process{pid, std::move(pidfd), start_time_of(pid).value_or(0)};
}
int wait_forever() {
  for (;;) pause();
}
/// Until the process has ended, but without reaping it.
void await_zombie(const Process& process) {
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process.pid), &info, WEXITED | WNOWAIT), 0);
}

TEST(ExitStatus, CodesAreWhatShellsExpect) {
  EXPECT_EQ(ExitStatus::exited(3).code(), 3);
  EXPECT_EQ(ExitStatus::exited(3).signal(), 0);
  EXPECT_EQ(ExitStatus::exited(256 + 7).code(), 7);
  EXPECT_EQ(ExitStatus::signaled(SIGKILL).code(), 137);
  EXPECT_EQ(ExitStatus::signaled(SIGKILL).signal(), SIGKILL);
}

TEST(Process, WaitTellsHowItEnded) {
  const Process exits = child([] { return 42; });
  EXPECT_EQ(wait_for(exits)->code(), 42);
  const Process killed = child(wait_forever);
  EXPECT_FALSE(try_wait(killed)->has_value()) << "it runs";
  EXPECT_TRUE(send_signal(killed, SIGTERM));
  const auto status = wait_for(killed);
  EXPECT_EQ(status->signal(), SIGTERM);
  EXPECT_EQ(status->code(), 143);
  const auto again = wait_for(killed);
  ASSERT_FALSE(again) << "it is reaped";
  EXPECT_EQ(again.error().sys_errno(), ECHILD);
  EXPECT_EQ(again.error().what(),
            "wait for process " + std::to_string(killed.pid) + ": no child processes");
}

TEST(Process, TryWaitReapsWhatHasEnded) {
  const Process process = child([] { return 5; });
  await_zombie(process);
  const auto status = try_wait(process);
  ASSERT_TRUE(status.has_value() && status->has_value());
  EXPECT_EQ((*status)->code(), 5);
}

TEST(Process, IsFoundByItsStartTimeOnly) {
  const Process process = child(wait_forever);
  ASSERT_NE(process.start_time, 0U);
  const auto found = find_process(process.pid, process.start_time);
  ASSERT_TRUE(found) << found.error().what();
  EXPECT_EQ(found->pid, process.pid);
  const auto other = find_process(process.pid, process.start_time + 1);
  ASSERT_FALSE(other) << "another process with this pid";
  EXPECT_EQ(other.error().code(), Errc::kNotFound);
  EXPECT_EQ(other.error().what(), "process " + std::to_string(process.pid) + " has ended");
  EXPECT_TRUE(send_signal(*found, SIGKILL));
  await_zombie(process);
  EXPECT_EQ(find_process(process.pid, process.start_time).error().code(), Errc::kNotFound)
      << "a zombie";
  EXPECT_TRUE(wait_for(process));
  const auto gone = find_process(process.pid, process.start_time);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().what(), "process " + std::to_string(process.pid) + " does not exist");
  EXPECT_EQ(start_time_of(process.pid).error().code(), Errc::kNotFound);
  EXPECT_EQ(find_process(0, 1).error().code(), Errc::kNotFound);
  EXPECT_EQ(find_process(-1, 1).error().code(), Errc::kNotFound);
}

TEST(Process, StartTimeIsReadBehindAnyName) {
  // A name may hold spaces and parentheses, which /proc/PID/stat does not escape.
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const Process process = child([&] {
    prctl(PR_SET_NAME, ") Z 1 1 (x)");
    (void)!write(ready[1], "x", 1);
    return wait_forever();
  });
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  close(ready[1]);
  EXPECT_EQ(start_time_of(process.pid).value(), process.start_time);
  EXPECT_TRUE(find_process(process.pid, process.start_time));
  EXPECT_TRUE(send_signal(process, SIGKILL));
  EXPECT_TRUE(wait_for(process));
}

TEST(Process, SignalsToTheGoneAndUnknownSignals) {
  const Process process = child([] { return 0; });
  const auto invalid = send_signal(process, 4711);
  ASSERT_FALSE(invalid);
  EXPECT_EQ(invalid.error().code(), Errc::kInvalid);
  EXPECT_TRUE(wait_for(process));
  const auto gone = send_signal(process, SIGTERM);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), Errc::kNotFound);
  EXPECT_EQ(gone.error().what(),
            "signal 15 to process " + std::to_string(process.pid) + ": no such process");
}

TEST(Children, OrphansAreReapedAndOwnOnesLeftAlone) {
  Children children;
  const Process own = child([] { return 9; });
  const Process orphan = child([] { return 1; });
  const Process running = child(wait_forever);
  {
    const std::lock_guard lock(children.mutex());
    children.add_locked(own.pid);
  }
  await_zombie(own);
  await_zombie(orphan);
  EXPECT_THAT(children.reap_orphans(), ElementsAre(orphan.pid));
  EXPECT_THAT(children.reap_orphans(), IsEmpty());
  EXPECT_EQ(wait_for(own)->code(), 9) << "still there for the one who waits for it";
  children.remove(own.pid);
  EXPECT_TRUE(send_signal(running, SIGKILL));
  await_zombie(running);
  EXPECT_THAT(children.reap_orphans(), ElementsAre(running.pid));
}

TEST(Children, OneThatIsYetToBeRegisteredIsNoOrphan) {
  Children children;
  Process quick, orphan;
  {
    const Children::Coming first(children);
    {
      const Children::Coming second(children);
      quick = child([] { return 9; });
      orphan = child([] { return 1; });
      await_zombie(quick);
      await_zombie(orphan);
      EXPECT_THAT(children.reap_orphans(), IsEmpty());
    }
    const std::lock_guard lock(children.mutex());
    children.add_locked(quick.pid);
  }
  EXPECT_EQ(wait_for(quick)->code(), 9);
  EXPECT_FALSE(wait_for(orphan).has_value()) << "cleared away when nobody was coming any more";
}

}  // namespace
}  // namespace amphora
