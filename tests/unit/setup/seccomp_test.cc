// SPDX-License-Identifier: Apache-2.0
// Seccomp profiles: what programs decide, by a machine for BPF; what is refused, by its words. What the
// kernel makes of them is in seccomp_kernel_test.cc.
#include "executor/setup/seccomp.h"

#include <errno.h>
#include <linux/audit.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/setup/seccomp_library.h"
#include "tests/unit/setup/bpf_machine.h"

namespace amphora::setup {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr uint32_t kErrno = SECCOMP_RET_ERRNO;
constexpr uint32_t kX32 = 0x40000000;

#if !defined(__x86_64__)
#error "the numbers below are x86_64's"
#endif

class Program {
 public:
  explicit Program(const oci::Seccomp& profile) {
    auto program = compile_seccomp(profile);
    EXPECT_TRUE(program) << program.error().what();
    if (!program) return;
    compiled = *program;
    code_.resize(compiled.count());
    std::memcpy(code_.data(), compiled.filters.data(), compiled.filters.size());
  }
  uint32_t operator()(uint32_t number, std::vector<uint64_t> args = {},
                      uint32_t arch = AUDIT_ARCH_X86_64) const {
    seccomp_data data{};
    data.nr = static_cast<int>(number);
    data.arch = arch;
    for (size_t i = 0; i < args.size(); ++i) data.args[i] = args[i];
    return BpfMachine(code_).run(data);
  }
  SeccompProgram compiled;

 private:
  std::vector<sock_filter> code_;
};

oci::SyscallRule allow(std::vector<std::string> names, std::vector<oci::SyscallArg> args = {}) {
  return {.names = std::move(names), .action = "SCMP_ACT_ALLOW", .args = std::move(args)};
}

oci::Seccomp deny_all_but(std::vector<oci::SyscallRule> rules) {
  return {.default_action = "SCMP_ACT_ERRNO", .syscalls = std::move(rules)};
}

std::string error_of(const oci::Seccomp& profile, Errc code = Errc::kInvalid) {
  const auto program = compile_seccomp(profile);
  if (program) return "no error";
  EXPECT_EQ(program.error().code(), code);
  return program.error().what();
}

TEST(Seccomp, NamedSyscallsPassAndOthersGetTheDefault) {
  const Program p(deny_all_but({allow({"read", "write", "close", "clone3"})}));
  EXPECT_EQ(p(0), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(1), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(2), kErrno | EPERM);
  EXPECT_EQ(p(3), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(4), kErrno | EPERM);
  EXPECT_EQ(p(435), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(0, {}, AUDIT_ARCH_I386), uint32_t{SECCOMP_RET_KILL_THREAD});
  EXPECT_EQ(p(kX32 | 0), uint32_t{SECCOMP_RET_KILL_THREAD}) << "x32 is not in the profile";
}

TEST(Seccomp, NumbersAboveTheHighestKnownAreEnosys) {
  const Program p(deny_all_but({allow({"read", "clone3"})}));
  EXPECT_EQ(p(434), kErrno | EPERM);
  EXPECT_EQ(p(436), kErrno | ENOSYS);
  EXPECT_EQ(p(0x3fffffff), kErrno | ENOSYS);
  // A name that the profile denies is known to it as well.
  auto profile = deny_all_but({allow({"read"})});
  profile.syscalls.push_back({.names = {"openat2"}, .action = "SCMP_ACT_ERRNO"});
  const Program q(profile);
  EXPECT_EQ(q(437), kErrno | EPERM);
  EXPECT_EQ(q(438), kErrno | ENOSYS);
}

TEST(Seccomp, DefaultsThatLetPassHaveNoEnosys) {
  for (const auto& [name, action] : std::vector<std::pair<const char*, uint32_t>>{
           {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
           {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
           {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE | EPERM}}) {
    const Program p(
        {.default_action = name, .syscalls = {{.names = {"mkdir"}, .action = "SCMP_ACT_ERRNO"}}});
    EXPECT_EQ(p(83), kErrno | EPERM) << name;
    EXPECT_EQ(p(500), action) << name;
  }
  for (const char* name : {"SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"}) {
    const Program p({.default_action = name, .syscalls = {allow({"close"})}});
    EXPECT_EQ(p(500), kErrno | ENOSYS) << name;
    EXPECT_NE(p(1), kErrno | ENOSYS) << name;
  }
}

TEST(Seccomp, ErrnoAndTraceCarryTheirNumber) {
  oci::Seccomp profile{.default_action = "SCMP_ACT_ERRNO", .default_errno_ret = 13};
  profile.syscalls = {allow({"clone3"})};
  profile.syscalls.push_back({.names = {"mkdir"}, .action = "SCMP_ACT_ERRNO", .errno_ret = 38});
  profile.syscalls.push_back({.names = {"rmdir"}, .action = "SCMP_ACT_TRACE", .errno_ret = 4711});
  profile.syscalls.push_back({.names = {"creat"}, .action = "SCMP_ACT_KILL_PROCESS"});
  const Program p(profile);
  EXPECT_EQ(p(82), kErrno | 13U);
  EXPECT_EQ(p(83), kErrno | 38U);
  EXPECT_EQ(p(84), SECCOMP_RET_TRACE | 4711U);
  EXPECT_EQ(p(85), uint32_t{SECCOMP_RET_KILL_PROCESS});
}

TEST(Seccomp, UnknownSyscallsAreSkipped) {
  const Program p(deny_all_but({allow({"read", "no_such_syscall", "clone3"})}));
  EXPECT_EQ(p(0), SECCOMP_RET_ALLOW);
}

TEST(Seccomp, EmptyProfileInstallsNothing) {
  const auto program = compile_seccomp({});
  ASSERT_TRUE(program);
  EXPECT_EQ(program->count(), 0U);
}

struct Comparison {
  const char* op;
  bool below, same, above;
};

TEST(Seccomp, ComparisonsHave64Bits) {
  constexpr uint64_t kValue = 0x1'0000'0005;
  for (const Comparison& c : std::vector<Comparison>{{"SCMP_CMP_EQ", false, true, false},
                                                     {"SCMP_CMP_NE", true, false, true},
                                                     {"SCMP_CMP_LT", true, false, false},
                                                     {"SCMP_CMP_LE", true, true, false},
                                                     {"SCMP_CMP_GT", false, false, true},
                                                     {"SCMP_CMP_GE", false, true, true}}) {
    const Program p(deny_all_but({allow({"clone3"}), allow({"ioctl"}, {{1, kValue, 0, c.op}})}));
    const auto passes = [&](uint64_t value) { return p(16, {0, value}) == SECCOMP_RET_ALLOW; };
    EXPECT_EQ(passes(kValue - 1), c.below) << c.op;
    EXPECT_EQ(passes(kValue), c.same) << c.op;
    EXPECT_EQ(passes(kValue + 1), c.above) << c.op;
    EXPECT_EQ(passes(5), c.below) << c.op << ", upper half below";
    EXPECT_EQ(passes(0x0'ffff'ffff), c.below) << c.op << ", upper half below, lower above";
    EXPECT_EQ(passes(0x2'0000'0000), c.above) << c.op << ", upper half above, lower below";
    EXPECT_EQ(passes(~uint64_t{0}), c.above) << c.op << ": unsigned";
  }
}

TEST(Seccomp, MaskedEqualHasTheMaskFirst) {
  // As Docker's rule for clone: no CLONE_NEW* flag may be set.
  const Program p(deny_all_but(
      {allow({"clone3"}), allow({"clone"}, {{0, 0x7e020000, 0, "SCMP_CMP_MASKED_EQ"}})}));
  EXPECT_EQ(p(56, {17}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(56, {0x10000000 | 17}), kErrno | EPERM);
  const Program q(deny_all_but(
      {allow({"clone3"}),
       allow({"ioctl"}, {{1, 0xff'0000'0000, 0x12'0000'0000, "SCMP_CMP_MASKED_EQ"}})}));
  EXPECT_EQ(q(16, {0, 0x12'3456'789a}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(q(16, {0, 0x13'3456'789a}), kErrno | EPERM);
}

TEST(Seccomp, ConditionsOnDifferentArgumentsMustAllHold) {
  const Program p(deny_all_but({allow({"clone3"}), allow({"socket"}, {{0, 1, 0, "SCMP_CMP_EQ"},
                                                                      {1, 2, 0, "SCMP_CMP_NE"}})}));
  EXPECT_EQ(p(41, {1, 1}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(41, {1, 2}), kErrno | EPERM);
  EXPECT_EQ(p(41, {2, 1}), kErrno | EPERM);
}

TEST(Seccomp, ConditionsOnOneArgumentAreRulesOfTheirOwn) {
  const Program p(deny_all_but(
      {allow({"clone3"}),
       allow({"personality"},
             {{0, 0, 0, "SCMP_CMP_EQ"}, {0, 8, 0, "SCMP_CMP_EQ"}, {1, 7, 0, "SCMP_CMP_EQ"}})}));
  EXPECT_EQ(p(135, {0, 0}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(135, {8, 0}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(135, {1, 7}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(135, {1, 0}), kErrno | EPERM);
}

TEST(Seccomp, RulesForOneSyscallAddUp) {
  const Program p(
      deny_all_but({allow({"clone3"}), allow({"personality"}, {{0, 0, 0, "SCMP_CMP_EQ"}}),
                    allow({"personality"}, {{0, 8, 0, "SCMP_CMP_EQ"}})}));
  EXPECT_EQ(p(135, {0}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(135, {8}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(135, {4}), kErrno | EPERM);
  const Program q(deny_all_but(
      {allow({"personality"}, {{0, 0, 0, "SCMP_CMP_EQ"}}), allow({"personality", "clone3"})}));
  EXPECT_EQ(q(135, {4}), SECCOMP_RET_ALLOW) << "one of them has no condition";
}

TEST(Seccomp, TwoActionsForOneSyscallAreLeftToLibseccomp) {
  auto profile = deny_all_but({allow({"clone3"}), allow({"ioctl"}, {{1, 5, 0, "SCMP_CMP_EQ"}})});
  profile.syscalls.push_back({.names = {"ioctl"},
                              .action = "SCMP_ACT_ERRNO",
                              .errno_ret = 25,
                              .args = {{1, 6, 0, "SCMP_CMP_EQ"}}});
  const Program p(profile);
  EXPECT_EQ(p(16, {0, 5}), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(16, {0, 6}), kErrno | 25U);
  EXPECT_EQ(p(16, {0, 7}), kErrno | EPERM);
  EXPECT_EQ(p(500), kErrno | ENOSYS) << "with the same stub in front";
}

TEST(Seccomp, ArchitecturesHaveTheirOwnNumbers) {
  auto profile = deny_all_but({allow({"read", "openat", "clone3", "ioctl"})});
  profile.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  const Program p(profile);
  EXPECT_EQ(p(257), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(295), kErrno | EPERM);
  EXPECT_EQ(p(295, {}, AUDIT_ARCH_I386), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(257, {}, AUDIT_ARCH_I386), kErrno | EPERM);
  EXPECT_EQ(p(436, {}, AUDIT_ARCH_I386), kErrno | ENOSYS);
  EXPECT_EQ(p(kX32 | 257), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(kX32 | 514), SECCOMP_RET_ALLOW) << "x32's own ioctl";
  EXPECT_EQ(p(kX32 | 16), kErrno | EPERM);
  EXPECT_EQ(p(kX32 | 515), kErrno | ENOSYS);
  EXPECT_EQ(p(257, {}, AUDIT_ARCH_AARCH64), uint32_t{SECCOMP_RET_KILL_THREAD});
}

TEST(Seccomp, X86CallsWithinSocketcallAreMeant) {
  auto profile = deny_all_but({allow({"socket", "clone3"})});
  profile.architectures = {"SCMP_ARCH_X86"};
  const Program p(profile);
  EXPECT_EQ(p(359, {}, AUDIT_ARCH_I386), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(102, {1}, AUDIT_ARCH_I386), SECCOMP_RET_ALLOW);
  EXPECT_EQ(p(102, {2}, AUDIT_ARCH_I386), kErrno | EPERM);
  EXPECT_EQ(p(361, {}, AUDIT_ARCH_I386), kErrno | EPERM);
}

TEST(Seccomp, NotifyAsksForAListener) {
  auto profile = deny_all_but({allow({"read", "write"})});
  profile.listener_path = "/run/agent.sock";
  profile.listener_metadata = "x";
  profile.flags = std::vector<std::string>();
  EXPECT_FALSE(Program(profile).compiled.notify);
  EXPECT_EQ(Program(profile).compiled.flags, 0U);
  profile.syscalls.push_back({.names = {"mkdir"}, .action = "SCMP_ACT_NOTIFY"});
  const Program p(profile);
  EXPECT_EQ(p(83), uint32_t{SECCOMP_RET_USER_NOTIF});
  EXPECT_TRUE(p.compiled.notify);
  EXPECT_EQ(p.compiled.flags, uint32_t{SECCOMP_FILTER_FLAG_NEW_LISTENER});
}

TEST(Seccomp, NotifyRules) {
  EXPECT_EQ(error_of({.default_action = "SCMP_ACT_NOTIFY", .listener_path = "/x"}),
            "linux.seccomp: SCMP_ACT_NOTIFY cannot be used as default action");
  auto profile = deny_all_but({{.names = {"read", "write"}, .action = "SCMP_ACT_NOTIFY"}});
  EXPECT_EQ(error_of(profile),
            "linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall");
  profile.syscalls[0].names = {"mkdir"};
  EXPECT_EQ(error_of(profile),
            "linux.seccomp.listenerPath: not set, but a rule has SCMP_ACT_NOTIFY");
  auto metadata = deny_all_but({});
  metadata.listener_metadata = "m";
  EXPECT_EQ(error_of(metadata), "linux.seccomp.listenerMetadata: set without a listenerPath");
}

TEST(Seccomp, Flags) {
  auto profile = deny_all_but({allow({"read"})});
  EXPECT_EQ(Program(profile).compiled.flags, uint32_t{SECCOMP_FILTER_FLAG_SPEC_ALLOW}) << "absent";
  profile.flags = std::vector<std::string>{};
  EXPECT_EQ(Program(profile).compiled.flags, 0U) << "empty";
  profile.flags = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"};
  EXPECT_EQ(Program(profile).compiled.flags, uint32_t{SECCOMP_FILTER_FLAG_LOG});
  profile.flags = {"SECCOMP_FILTER_FLAG_FAST"};
  EXPECT_EQ(error_of(profile),
            "linux.seccomp.flags: \"SECCOMP_FILTER_FLAG_FAST\" is not a known flag");
  profile.flags = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  EXPECT_EQ(error_of(profile),
            "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without a rule that has "
            "SCMP_ACT_NOTIFY");
}

TEST(Seccomp, WrongMembersAreNamed) {
  EXPECT_EQ(error_of({.default_action = "SCMP_ACT_MAYBE"}),
            "linux.seccomp.defaultAction: \"SCMP_ACT_MAYBE\" is not a known action");
  EXPECT_EQ(error_of({.default_action = "SCMP_ACT_ALLOW", .default_errno_ret = 1}),
            "linux.seccomp.defaultAction: errnoRet 1 with SCMP_ACT_ALLOW, which takes none");
  auto profile = deny_all_but({allow({"read"}), allow({"write"})});
  profile.architectures = {"SCMP_ARCH_VAX"};
  EXPECT_EQ(error_of(profile), "linux.seccomp.architectures: \"SCMP_ARCH_VAX\" is not known");
  profile.architectures.clear();
  profile.syscalls[1].action = "ALLOW";
  EXPECT_EQ(error_of(profile),
            "linux.seccomp.syscalls[1]: action: \"ALLOW\" is not a known action");
  profile.syscalls[1].action = "SCMP_ACT_ALLOW";
  profile.syscalls[1].errno_ret = 5;
  EXPECT_EQ(error_of(profile),
            "linux.seccomp.syscalls[1]: action: errnoRet 5 with SCMP_ACT_ALLOW, "
            "which takes none");
  profile.syscalls[1] = {.names = {"read"}, .action = "SCMP_ACT_ERRNO", .errno_ret = 4096};
  EXPECT_EQ(error_of(profile), "linux.seccomp.syscalls[1]: action: errnoRet 4096 is above 4095");
  profile.syscalls[1] = allow({"read", ""});
  EXPECT_EQ(error_of(profile),
            "linux.seccomp.syscalls[1]: names: empty string is not a valid syscall");
  profile.syscalls[1] = allow({"read"}, {{6, 0, 0, "SCMP_CMP_EQ"}});
  EXPECT_EQ(error_of(profile), "linux.seccomp.syscalls[1]: args: argument index 6 is above 5");
  profile.syscalls[1] = allow({"read"}, {{0, 0, 0, "SCMP_CMP_ALIKE"}});
  EXPECT_EQ(error_of(profile),
            "linux.seccomp.syscalls[1]: args: \"SCMP_CMP_ALIKE\" is not a known operator");
}

TEST(Seccomp, ProgramsThatTheKernelWouldRefuseAreNamedTooLong) {
  auto profile = deny_all_but({});
  for (uint64_t i = 0; i < 1100; ++i) {
    profile.syscalls.push_back(allow({"ioctl"}, {{1, i, 0, "SCMP_CMP_EQ"}}));
  }
  EXPECT_THAT(error_of(profile, Errc::kUnsupported),
              HasSubstr("linux.seccomp: the profile makes 55"));
  EXPECT_THAT(error_of(profile, Errc::kUnsupported), HasSubstr("the kernel takes 4096"));
}

TEST(Seccomp, Features) {
  const auto features = seccomp_features();
  EXPECT_THAT(features.actions,
              ElementsAre("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",
                          "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
                          "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"));
  EXPECT_THAT(features.operators,
              ElementsAre("SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                          "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"));
  EXPECT_THAT(features.archs, Contains("SCMP_ARCH_X32"));
  EXPECT_THAT(features.archs, Contains("SCMP_ARCH_AARCH64"));
  EXPECT_THAT(features.known_flags,
              ElementsAre("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                          "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"));
  EXPECT_THAT(features.supported_flags, Contains("SECCOMP_FILTER_FLAG_SPEC_ALLOW"));
  EXPECT_THAT(features.libseccomp_version, Not(testing::IsEmpty()));
}

}  // namespace
}  // namespace amphora::setup
