// SPDX-License-Identifier: Apache-2.0
// The zygote and its clones with the stub engine, without namespaces and without root.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/sys.h"
#include "tests/unit/wasm/host_fixture.h"

namespace amphora::wasm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class WasmHost : public ::testing::Test {
 protected:
  Outcome run(const GuestRun& run) {
    auto outcome = run_guest_in(zygote_, children_, run);
    EXPECT_TRUE(outcome.has_value()) << outcome.error().what();
    return outcome ? *outcome : Outcome{};
  }
  Children children_;
  HostProgram program_{test_programs(), children_};
  Zygote zygote_{program_, "stub"};
};

TEST_F(WasmHost, ArgumentsAndEnvironmentArriveExactly) {
  const Outcome echo = run({.args = {"echo", "a b", "", "c"}, .env = {}});
  EXPECT_EQ(echo.out, "a b\n\nc\n");
  EXPECT_EQ(echo.code, 0);
  EXPECT_TRUE(echo.ready);
  EXPECT_EQ(run({.args = {"env"}, .env = {"A=1", "B="}}).out, "A=1\nB=\n");
}

TEST_F(WasmHost, ExitCodeIsTheGuests) { EXPECT_EQ(run({.args = {"exit", "42"}}).code, 42); }

TEST_F(WasmHost, CloneIsOurChildAndHasThePidWeWereTold) {
  GuestRun busy{.args = {"busy"}};
  busy.while_running = [](const Process& process) {
    const auto stat = read_file_at(AT_FDCWD, "/proc/" + std::to_string(process.pid) + "/status");
    EXPECT_TRUE(stat.has_value());
    EXPECT_THAT(*stat, HasSubstr("PPid:\t" + std::to_string(::getpid()) + "\n"));
    EXPECT_TRUE(send_signal(process, SIGKILL).has_value());
  };
  EXPECT_EQ(run(busy).code, 137);
}

TEST_F(WasmHost, LibcIsWholeInTheClone) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run({.args = {"libc"}}).code, 0);
}

TEST_F(WasmHost, EngineKeepsItsFaultHandler) {
  const Outcome fault = run({.args = {"fault"}});
  EXPECT_EQ(fault.code, 134);
  EXPECT_EQ(fault.err, "stub: fault\n");
}

TEST_F(WasmHost, NothingButStdioIsOpenInTheGuest) {
  GuestRun list{.args = {"fds"}, .extra_fds = 300};
  // One that is needed until the end, as the start socket is.
  list.late = [](PlanBytes& plan) { plan.step(init::Op::kNop).fd = 5; };
  const Outcome fds = run(list);
  EXPECT_THAT(fds.out, HasSubstr("0 /dev/null\n1 pipe:"));
  // Beside stdio: the preopen of "/".
  EXPECT_THAT(fds.out, HasSubstr(" /\n"));
  EXPECT_EQ(std::count(fds.out.begin(), fds.out.end(), '\n'), 4) << fds.out;
}

TEST_F(WasmHost, ProcShowsTheContainersProgram) {
  const GuestRun cat{.args = {"cat", "/proc/self/cmdline"},
                     .env = {"LONG=" + std::string(9000, 'x')}};
  EXPECT_EQ(run(cat).out, std::string("/app.wasm\0cat\0/proc/self/cmdline\0", 33));
  GuestRun environ = cat;
  environ.args[1] = "/proc/self/environ";
  EXPECT_EQ(run(environ).out, "LONG=" + std::string(9000, 'x') + '\0');
  EXPECT_EQ(run({.args = {"cat", "/proc/self/comm"}}).out, "app.wasm\n");
}

TEST_F(WasmHost, TrapEndsWith134AndItsOwnText) {
  const Outcome trap = run({.args = {"trap"}});
  EXPECT_EQ(trap.code, 134);
  EXPECT_EQ(trap.err, "wasm trap: unreachable\n");
}

TEST_F(WasmHost, EngineFailureWhileRunningIs125WithALine) {
  const Outcome broken = run({.args = {"broken"}});
  EXPECT_EQ(broken.code, 125);
  EXPECT_EQ(broken.err, "amphora: /app.wasm: the engine is broken\n");
}

TEST_F(WasmHost, ModuleThatCannotBeLinkedFailsBeforeReady) {
  const Outcome outcome = run({.args = {"echo"}, .module = "unlinkable"});
  EXPECT_FALSE(outcome.ready);
  EXPECT_EQ(outcome.failure, "/app.wasm: unknown import env.f");
  EXPECT_EQ(outcome.failure_code, 126);
  EXPECT_EQ(outcome.code, 126);
  EXPECT_EQ(outcome.err, "amphora: /app.wasm: unknown import env.f\n");
}

TEST_F(WasmHost, MissingExportIs127) {
  const Outcome outcome = run({.args = {"echo"}, .function = "nope"});
  EXPECT_EQ(outcome.failure, "/app.wasm: no export named \"nope\"");
  EXPECT_EQ(outcome.code, 127);
}

TEST_F(WasmHost, LimitThatBreaksTheEngineIsNamed) {
  GuestRun hungry{.args = {"echo"}, .module = "hungry"};
  hungry.before = [](PlanBytes& plan) {
    const uint64_t hard = 1 << 30;
    const uint32_t at = plan.text({reinterpret_cast<const char*>(&hard), sizeof hard});
    init::Step& step = plan.step(init::Op::kRlimit);
    step.n = RLIMIT_AS;
    step.m = hard;
    step.d = at;
  };
  EXPECT_THAT(run(hungry).failure,
              HasSubstr("cannot reserve memory (RLIMIT_AS of 1073741824 may be too low"));
}

TEST_F(WasmHost, FailingStepIsReportedAsForANativeContainer) {
  GuestRun bad{.args = {"echo"}};
  bad.before = [](PlanBytes& plan) { plan.step(init::Op::kSetNamespace).n = 1; };
  const Outcome outcome = run(bad);
  EXPECT_EQ(outcome.failure, "step 3 errno 9");
  EXPECT_EQ(outcome.code, 127);
}

TEST_F(WasmHost, PreopensAreTheRootAndWithACwdMore) {
  struct stat root{};
  ASSERT_EQ(::stat("/", &root), 0);
  EXPECT_EQ(run({.args = {"preopens"}}).out, "/ " + std::to_string(root.st_ino) + "\n");
  struct stat usr{};
  ASSERT_EQ(::stat("/usr", &usr), 0);
  GuestRun elsewhere{.args = {"preopens"}, .cwd = "/usr"};
  elsewhere.before = [](PlanBytes& plan) {
    const uint32_t at = plan.text("/usr");
    plan.step(init::Op::kChdir).a = at;
  };
  const std::string inode = std::to_string(usr.st_ino);
  const std::string out = run(elsewhere).out;
  // First the working directory by name (Go, Zig), last as "." (wasi-libc).
  EXPECT_EQ(out.substr(0, out.find('\n')), "/usr " + inode);
  EXPECT_THAT(out, ::testing::EndsWith("\n. " + inode + "\n"));
  EXPECT_THAT(out, HasSubstr("\n/etc "));
}

TEST_F(WasmHost, ZygoteIsKeptAndReplacedWhenItHasDied) {
  run({.args = {"exit", "0"}});
  const pid_t first = zygote_.pid();
  run({.args = {"exit", "0"}});
  EXPECT_EQ(zygote_.pid(), first);
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  while (zygote_.pid() != 0) ::usleep(1000);
  EXPECT_EQ(run({.args = {"exit", "3"}}).code, 3);
  EXPECT_NE(zygote_.pid(), first);
}

TEST_F(WasmHost, ZygoteEndsWithItsClient) {
  Process zygote;
  {
    Zygote other(program_, "stub");
    ASSERT_TRUE(other.warm_up().has_value());
    zygote.pid = other.pid();
  }
  EXPECT_EQ(::kill(zygote.pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(WasmHost, EngineThatIsNotInstalledIsNamedWithItsFile) {
  Zygote missing(program_, "nothere");
  const auto result = missing.warm_up();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Errc::kUnsupported);
  EXPECT_THAT(result.error().what(), HasSubstr("engine \"nothere\" is not installed: "));
  EXPECT_THAT(result.error().what(), HasSubstr("libamphora-engine-nothere.so: No such file"));
}

TEST_F(WasmHost, PlanOfAnotherVersionIsRefused) {
  PlanBytes plan;
  std::string blob = plan.blob();
  blob[4] = 99;
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd ours(pair[0]), theirs(pair[1]);
  auto process = make_clone(zygote_, children_, {blob, {}, 0, -1, -1, theirs.get()});
  ASSERT_TRUE(process.has_value()) << process.error().what();
  theirs.reset();
  char buffer[600];
  const ssize_t n = ::recv(ours.get(), buffer, sizeof buffer, 0);
  ASSERT_GT(n, 0);
  EXPECT_THAT(
      std::string(buffer + sizeof(init::Message), static_cast<size_t>(n) - sizeof(init::Message)),
      HasSubstr("does not fit this version"));
  EXPECT_EQ(wait_for(*process)->code(), 125);
}

}  // namespace
}  // namespace amphora::wasm
