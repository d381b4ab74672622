// SPDX-License-Identifier: Apache-2.0
// Seccomp programs in the kernel, without privilege: a child sets no_new_privs, installs the program
// and tries.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include <gtest/gtest.h>

#include "executor/setup/seccomp.h"

namespace amphora::setup {
namespace {

/// Everything that a child of a test, sanitizers and coverage included, may need, but the named.
oci::Seccomp without(std::vector<std::string> names, const char* action,
                     const char* default_action = "SCMP_ACT_ALLOW") {
  return {.default_action = default_action,
          .syscalls = {{.names = std::move(names), .action = action}}};
}

/// Installs the program in a child and runs `body` there; its result, or 200 when the program could
/// not be installed.
int status_of(const SeccompProgram& program, const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    sock_fprog arg{static_cast<unsigned short>(program.count()),
                   reinterpret_cast<sock_filter*>(const_cast<char*>(program.filters.data()))};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(200);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, program.flags, &arg) < 0) _exit(200);
    // Not _exit: sanitizers make system calls of their own before a function that does not return.
    syscall(SYS_exit_group, body());
  }
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

int errno_of(long number) { return syscall(number, 0, 0, 0, 0, 0, 0) < 0 ? errno : 0; }

TEST(SeccompKernel, DeniesAndAllows) {
  const auto program = compile_seccomp(without({"uname"}, "SCMP_ACT_ERRNO"));
  ASSERT_TRUE(program) << program.error().what();
  const int status = status_of(*program, [] {
    if (errno_of(SYS_uname) != EPERM) return 1;
    return errno_of(SYS_getppid) == 0 ? 0 : 2;
  });
  EXPECT_EQ(status, 0);
}

TEST(SeccompKernel, YoungerSyscallsAreEnosysAndOthersTheDefault) {
  oci::Seccomp profile{.default_action = "SCMP_ACT_ERRNO", .default_errno_ret = EACCES};
  profile.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  profile.syscalls = {
      {.names = {"exit_group", "exit", "getppid", "openat2"}, .action = "SCMP_ACT_ALLOW"}};
  const auto program = compile_seccomp(profile);
  ASSERT_TRUE(program) << program.error().what();
  const int status = status_of(*program, [] {
    if (errno_of(SYS_getpid) != EACCES) return 1;
    if (errno_of(SYS_getppid) != 0) return 2;
    if (errno_of(437) == ENOSYS) return 3;  // openat2, the highest known: allowed
    return errno_of(600) == ENOSYS && errno_of(438) == ENOSYS ? 0 : 4;
  });
  EXPECT_EQ(status, 0);
}

TEST(SeccompKernel, ConditionsSeeTheArguments) {
  auto profile = without({"prctl"}, "SCMP_ACT_ERRNO");
  profile.syscalls[0].errno_ret = 77;
  profile.syscalls[0].args = {{0, PR_GET_NAME, 0, "SCMP_CMP_EQ"}};
  const auto program = compile_seccomp(profile);
  ASSERT_TRUE(program) << program.error().what();
  const int status = status_of(*program, [] {
    char name[16];
    if (prctl(PR_GET_NAME, name) == 0 || errno != 77) return 1;
    return prctl(PR_GET_DUMPABLE) >= 0 ? 0 : 2;
  });
  EXPECT_EQ(status, 0);
}

TEST(SeccompKernel, Kills) {
  const auto program = compile_seccomp(without({"getppid"}, "SCMP_ACT_KILL_PROCESS"));
  ASSERT_TRUE(program) << program.error().what();
  const int status = status_of(*program, [] { return errno_of(SYS_getppid); });
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGSYS);
}

TEST(SeccompKernel, TakesTheProgramOfALargeProfileAndItsFlags) {
  oci::Seccomp profile{.default_action = "SCMP_ACT_ALLOW"};
  profile.architectures = {"SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"};
  profile.flags = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"};
  // Two actions for one syscall: by libseccomp's generator.
  for (const char* action : {"SCMP_ACT_ERRNO", "SCMP_ACT_KILL"}) {
    const uint64_t value = action[9] == 'E' ? 1 : 2;
    profile.syscalls.push_back(
        {.names = {"kexec_load"}, .action = action, .args = {{0, value, 0, "SCMP_CMP_EQ"}}});
  }
  const auto program = compile_seccomp(profile);
  ASSERT_TRUE(program) << program.error().what();
  EXPECT_EQ(status_of(*program, [] { return errno_of(SYS_getppid); }), 0);
}

TEST(SeccompKernel, NotifyGivesAListener) {
  auto profile = without({"getppid"}, "SCMP_ACT_NOTIFY");
  profile.listener_path = "/nowhere";
  const auto program = compile_seccomp(profile);
  ASSERT_TRUE(program) << program.error().what();
  const pid_t pid = fork();
  if (pid == 0) {
    sock_fprog arg{static_cast<unsigned short>(program->count()),
                   reinterpret_cast<sock_filter*>(const_cast<char*>(program->filters.data()))};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(1);
    const long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, program->flags, &arg);
    _exit(listener > 2 ? 0 : 2);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace amphora::setup
