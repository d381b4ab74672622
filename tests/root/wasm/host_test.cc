// SPDX-License-Identifier: Apache-2.0
// Clones of the zygote in namespaces and under other users: what exec would have done for a native
// program must have been done by hand.
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/sys.h"
#include "tests/unit/wasm/host_fixture.h"

namespace amphora::wasm {
namespace {

using ::testing::HasSubstr;

class WasmHostRoot : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: makes namespaces";
  }
  Outcome run(const GuestRun& run) {
    auto outcome = run_guest_in(zygote_, children_, run);
    EXPECT_TRUE(outcome.has_value()) << outcome.error().what();
    return outcome ? *outcome : Outcome{};
  }
  /// The guest's end after `signal`, as PID 1 of its namespace, in a busy loop.
  int end_by(int signal, double* seconds = nullptr) {
    GuestRun busy{.args = {"busy"}, .clone_flags = CLONE_NEWPID | CLONE_NEWNS};
    std::chrono::steady_clock::time_point sent;
    busy.while_running = [&](const Process& process) {
      // Until the handlers stand the kernel drops signals to PID 1: SigCgt shows them.
      const std::string status = "/proc/" + std::to_string(process.pid) + "/status";
      for (int i = 0; i < 500; ++i) {
        const auto text = read_file_at(AT_FDCWD, status);
        if (text && text->find("SigCgt:\tfffffffe") != std::string::npos) break;
        ::usleep(2000);
      }
      sent = std::chrono::steady_clock::now();
      EXPECT_TRUE(send_signal(process, signal).has_value());
    };
    const int code = run(busy).code;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - sent;
    if (seconds != nullptr) *seconds = took.count();
    return code;
  }
  /// A line of /proc/self/status as the guest sees it.
  std::string status_of(const std::function<void(PlanBytes&)>& before) {
    GuestRun cat{.args = {"cat", "/proc/self/status"}};
    cat.before = before;
    return run(cat).out;
  }
  Children children_;
  HostProgram program_{test_programs(), children_};
  Zygote zygote_{program_, "stub"};
};

void set_caps(PlanBytes& plan, uint64_t effective, uint64_t permitted, uint64_t inheritable) {
  const uint32_t at = plan.text({reinterpret_cast<const char*>(&inheritable), sizeof inheritable});
  init::Step& step = plan.step(init::Op::kSetCaps);
  step.n = effective;
  step.m = permitted;
  step.a = at;
}

/// As make_plan does for a user that is not root.
void become(PlanBytes& plan, uint64_t uid, uint64_t caps, uint64_t inheritable, uint64_t ambient) {
  plan.step(init::Op::kKeepCaps).n = 1;
  plan.step(init::Op::kSetGid).n = uid;
  plan.step(init::Op::kSetUid).n = uid;
  set_caps(plan, caps, caps, inheritable);
  if (ambient != 0) plan.step(init::Op::kRaiseAmbient).n = ambient;
}

constexpr uint64_t kKill = uint64_t{1} << CAP_KILL;
constexpr uint64_t kBind = uint64_t{1} << CAP_NET_BIND_SERVICE;

TEST_F(WasmHostRoot, BusyPidOneEndsOnTermWithinASecond) {
  double seconds = 0;
  EXPECT_EQ(end_by(SIGTERM, &seconds), 143);
  EXPECT_LT(seconds, 1.0);
}

TEST_F(WasmHostRoot, PidOneEndsByEverySignalThatEndsAProcess) {
  EXPECT_EQ(end_by(SIGINT), 130);
  EXPECT_EQ(end_by(SIGQUIT), 131);
  EXPECT_EQ(end_by(SIGHUP), 129);
  EXPECT_EQ(end_by(SIGUSR1), 138);
  EXPECT_EQ(end_by(SIGRTMIN + 3), 128 + SIGRTMIN + 3);
  EXPECT_EQ(end_by(SIGKILL), 137);
}

TEST_F(WasmHostRoot, AbortAndFaultOfPidOneAre134) {
  EXPECT_EQ(run({.args = {"abort"}, .clone_flags = CLONE_NEWPID}).code, 134);
  EXPECT_EQ(run({.args = {"fault"}, .clone_flags = CLONE_NEWPID}).code, 134);
}

TEST_F(WasmHostRoot, LibcIsWholeAsPidOne) {
  EXPECT_EQ(run({.args = {"libc"}, .clone_flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET}).code,
            0);
}

TEST_F(WasmHostRoot, JoinsAPidNamespaceAndTheZygoteStaysInItsOwn) {
  GuestRun owner{.args = {"busy"}, .clone_flags = CLONE_NEWPID};
  owner.while_running = [&](const Process& init) {
    const std::string path = "/proc/" + std::to_string(init.pid) + "/ns/pid";
    const UniqueFd ns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    GuestRun joined{.args = {"busy"}, .pid_namespace_fd = ns.get()};
    joined.while_running = [](const Process& process) {
      const auto text = read_file_at(AT_FDCWD, "/proc/" + std::to_string(process.pid) + "/status");
      EXPECT_THAT(text.value_or(""),
                  ::testing::ContainsRegex("NSpid:\t" + std::to_string(process.pid) + "\t2\n"));
      EXPECT_TRUE(send_signal(process, SIGKILL).has_value());
    };
    EXPECT_EQ(run(joined).code, 137);
    GuestRun outside{.args = {"cat", "/proc/self/status"}};
    EXPECT_THAT(run(outside).out, ::testing::ContainsRegex("NSpid:\t[0-9]+\n"));
    EXPECT_TRUE(send_signal(init, SIGKILL).has_value());
  };
  EXPECT_EQ(run(owner).code, 137);
}

TEST_F(WasmHostRoot, UserThatIsNotRootKeepsNoCapability) {
  const std::string status =
      status_of([](PlanBytes& plan) { become(plan, 1000, kKill | kBind, 0, 0); });
  EXPECT_THAT(status, HasSubstr("Uid:\t1000\t1000\t1000\t1000\n"));
  EXPECT_THAT(status, HasSubstr("CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"));
}

TEST_F(WasmHostRoot, AmbientCapabilitiesSurviveAsThroughExec) {
  const std::string status =
      status_of([](PlanBytes& plan) { become(plan, 1000, kKill | kBind, kBind, kBind); });
  EXPECT_THAT(status, HasSubstr("CapInh:\t0000000000000400\nCapPrm:\t0000000000000400\n"
                                "CapEff:\t0000000000000400\n"));
  EXPECT_THAT(status, HasSubstr("CapAmb:\t0000000000000400\n"));
}

TEST_F(WasmHostRoot, RootHasItsPermittedSetInEffect) {
  const std::string status =
      status_of([](PlanBytes& plan) { set_caps(plan, 0, kKill | kBind, 0); });
  EXPECT_THAT(status, HasSubstr("CapPrm:\t0000000000000420\nCapEff:\t0000000000000420\n"));
}

TEST_F(WasmHostRoot, ItIsDumpableAsAfterExec) {
  GuestRun cat{.args = {"cat", "/proc/self/environ"}, .env = {"A=1"}};
  cat.before = [](PlanBytes& plan) { become(plan, 1000, 0, 0, 0); };
  // Not dumpable, the file would be root's, and uid 1000 could not read its own environment.
  EXPECT_EQ(run(cat).out, std::string("A=1\0", 4));
}

// The shape of CVE-2019-5736: keep a handle on the program that runs in the container, wait until it
// runs no more (ETXTBSY protects it so long), then write it.
TEST_F(WasmHostRoot, ProgramOfTheGuestCannotBeWrittenAfterItsEnd) {
  UniqueFd handle;
  {
    Zygote zygote(program_, "stub");
    GuestRun busy{.args = {"busy"}};
    busy.while_running = [&](const Process& process) {
      const std::string exe = "/proc/" + std::to_string(process.pid) + "/exe";
      handle.reset(::open(exe.c_str(), O_PATH | O_CLOEXEC));
      EXPECT_TRUE(send_signal(process, SIGKILL).has_value());
    };
    ASSERT_EQ(run_guest_in(zygote, children_, busy)->code, 137);
  }
  ASSERT_TRUE(handle);
  const std::string again = "/proc/self/fd/" + std::to_string(handle.get());
  errno = 0;
  const UniqueFd written(::open(again.c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_FALSE(written);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(WasmHostRoot, SeccompFilterBeforeTheCapabilitiesIsNamed) {
  GuestRun filtered{.args = {"echo"}};
  filtered.before = [](PlanBytes& plan) {
    // capset answered with EPERM, everything else allowed.
    const struct {
      uint16_t code;
      uint8_t jt, jf;
      uint32_t k;
    } program[] = {
        {0x20, 0, 0, 0}, {0x15, 0, 1, 126}, {0x06, 0, 0, 0x00050001}, {0x06, 0, 0, 0x7fff0000}};
    const uint32_t at = plan.text({reinterpret_cast<const char*>(program), sizeof program});
    set_caps(plan, 0, kKill, 0);
    init::Step& step = plan.step(init::Op::kSeccomp);
    step.a = at;
    step.n = 4;
    plan.step(init::Op::kNop);
  };
  // The filter needs no_new_privs or CAP_SYS_ADMIN; here root had it before the sets were cut.
  auto order = filtered.before;
  filtered.before = [order](PlanBytes& plan) {
    plan.step(init::Op::kNoNewPrivs);
    order(plan);
  };
  EXPECT_THAT(run(filtered).failure,
              HasSubstr("set capabilities as exec would: capset: Operation not "
                        "permitted (allow it in the seccomp profile"));
}

}  // namespace
}  // namespace amphora::wasm
