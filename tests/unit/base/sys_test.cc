// SPDX-License-Identifier: Apache-2.0
// System call wrappers, as far as they need no privilege: the child that clone3 makes, and the sealed
// copy of an executable.
#include "executor/base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "executor/base/process.h"

namespace amphora::sys {
namespace {

TEST(Sys, Clone3GivesAPidfdAtBirth) {
  int pidfd = -1;
  struct clone_args args{};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const pid_t pid = clone3(args);
  if (pid == 0) _exit(6);
  ASSERT_GT(pid, 0);
  const Process process{pid, UniqueFd(pidfd), 0};
  EXPECT_EQ(wait_for(process)->code(), 6);
}

TEST(Sys, CloseRangeMarksOrCloses) {
  const int low = fcntl(0, F_DUPFD, 500);
  ASSERT_GE(low, 500);
  EXPECT_EQ(fcntl(low, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(close_range(500, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */), 0);
  EXPECT_EQ(fcntl(low, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(close_range(500, ~0U, 0), 0);
  EXPECT_LT(fcntl(low, F_GETFD), 0);
}

TEST(Sys, SealedExecutablesRunAndCannotBeWritten) {
  const auto sealed = seal_executable("/bin/true");
  ASSERT_TRUE(sealed) << sealed.error().what();
  // Through the magic link, as a container would that is shown our /proc/PID/exe.
  const std::string link = "/proc/self/fd/" + std::to_string(sealed->get());
  const UniqueFd writable(open(link.c_str(), O_WRONLY | O_CLOEXEC));
  if (writable) {
    EXPECT_LT(write(writable.get(), "x", 1), 0);
    EXPECT_EQ(errno, EPERM);
  } else {
    EXPECT_TRUE(errno == EROFS || errno == ETXTBSY || errno == EACCES) << errno;
  }
  const pid_t pid = fork();
  if (pid == 0) {
    char name[] = "true";
    char* argv[] = {name, nullptr};
    char* envp[] = {nullptr};
    syscall(SYS_execveat, sealed->get(), "", argv, envp, AT_EMPTY_PATH);
    _exit(99);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(Sys, SealingAMissingFileSaysSo) {
  const auto sealed = seal_executable("/nope");
  ASSERT_FALSE(sealed);
  EXPECT_EQ(sealed.error().what(), "open /nope: no such file or directory");
}

}  // namespace
}  // namespace amphora::sys
