// SPDX-License-Identifier: Apache-2.0
// Our generator of seccomp programs against libseccomp's: for the same rules both programs must decide
// alike, for every syscall number and the interesting arguments, on every architecture of the rules.
#include <errno.h>
#include <linux/audit.h>
#include <seccomp.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "executor/setup/seccomp_library.h"
#include "tests/unit/setup/bpf_machine.h"

namespace amphora::setup {
namespace {

/// All that a comparison could turn on: the values themselves, their neighbours, their halves.
std::vector<uint64_t> interesting(const SeccompRules& rules) {
  std::set<uint64_t> values = {0, 1, 0xffffffff, 0x100000000, ~uint64_t{0}};
  for (const SeccompRule& rule : rules.rules) {
    for (const auto& alternative : rule.alternatives) {
      for (const BpfCondition& c : alternative) {
        for (const uint64_t v : {c.value, c.mask, c.value | ~c.mask}) {
          values.insert({v, v - 1, v + 1, v ^ (uint64_t{1} << 32), v & 0xffffffff});
        }
      }
    }
  }
  return {values.begin(), values.end()};
}

/// Numbers that the rules name with conditions, per architecture.
std::set<uint32_t> conditional_numbers(const SeccompRules& rules, uint32_t arch) {
  std::set<uint32_t> numbers;
  if (arch == SCMP_ARCH_X86) numbers = {102, 117};
  for (const SeccompRule& rule : rules.rules) {
    if (rule.always) continue;
    for (const std::string& name : *rule.names) {
      const int number = seccomp_syscall_resolve_name_arch(arch, name.c_str());
      if (number >= 0) numbers.insert(static_cast<uint32_t>(number));
    }
  }
  return numbers;
}

class Comparison {
 public:
  explicit Comparison(const SeccompRules& rules)
      : ours_(make_range_program(rules)), theirs_(make_library_program(rules).value()) {
    EXPECT_FALSE(ours_.empty()) << "the rules are not for our generator";
    if (ours_.empty()) return;
    const auto values = interesting(rules);
    for (const uint32_t arch :
         std::vector<uint32_t>{SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32, SCMP_ARCH_AARCH64,
                               SCMP_ARCH_ARM, SCMP_ARCH_RISCV64, SCMP_ARCH_S390X}) {
      const bool x32 = arch == SCMP_ARCH_X32;
      const uint32_t audit_arch = x32 ? AUDIT_ARCH_X86_64 : arch;
      const uint32_t base = x32 ? 0x40000000 : 0;
      for (uint32_t n = 0; n < 620; ++n) ask(audit_arch, base + n, {});
      for (const uint32_t n : {0x3fffffffU, 0x40000000U, 0x7fffffffU, 0x80000000U, 0xbfffffffU,
                               0xc0000000U, 0xfffffffeU, 0xffffffffU, 0xf0001U, 0xf0005U}) {
        ask(audit_arch, n, {});
      }
      for (const uint32_t number : conditional_numbers(rules, arch)) {
        for (const uint64_t a : values) {
          for (const uint64_t b : values) ask(audit_arch, number, {a, b, a ^ b});
        }
        for (uint64_t call = 0; call < 30; ++call) ask(audit_arch, number, {call});
      }
    }
  }
  size_t ours() const { return ours_.size(); }
  size_t theirs() const { return theirs_.size(); }
  size_t asked() const { return asked_; }

 private:
  void ask(uint32_t arch, uint32_t number, std::vector<uint64_t> args) {
    if (failed_) return;
    seccomp_data data{};
    data.arch = arch;
    data.nr = static_cast<int>(number);
    for (size_t i = 0; i < args.size(); ++i) data.args[i] = args[i];
    ++asked_;
    const uint32_t ours = BpfMachine(ours_).run(data);
    const uint32_t theirs = BpfMachine(theirs_).run(data);
    failed_ = ours != theirs;
    EXPECT_EQ(ours, theirs) << std::hex << "arch " << arch << " number " << number << " args "
                            << data.args[0] << " " << data.args[1] << " " << data.args[2];
  }

  std::vector<sock_filter> ours_, theirs_;
  size_t asked_ = 0;
  bool failed_ = false;
};

/// Names of x86_64 but every twentieth, as a stand-in for the default profiles of container engines.
std::vector<std::string> many_names() {
  std::vector<std::string> names = {"socketcall", "ipc", "mmap2", "waitpid", "no_such_syscall"};
  for (int number = 0; number < 450; ++number) {
    char* const name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);
    if (name == nullptr) continue;
    if (number % 20 != 7 && std::string(name) != "clone" && std::string(name) != "personality") {
      names.emplace_back(name);
    }
    std::free(name);
  }
  return names;
}

class Generators : public ::testing::Test {
 protected:
  const std::vector<std::string>& names(std::vector<std::string> list) {
    return *names_.emplace_back(std::make_unique<std::vector<std::string>>(std::move(list)));
  }
  SeccompRule allow(std::vector<std::string> list, BpfAlternatives alternatives = {}) {
    SeccompRule rule;
    rule.names = &names(std::move(list));
    rule.action = SECCOMP_RET_ALLOW;
    rule.always = alternatives.empty();
    rule.alternatives = std::move(alternatives);
    return rule;
  }
  static SeccompRules rules(std::vector<uint32_t> archs) {
    return {
        .default_action = SECCOMP_RET_ERRNO | EPERM, .enosys = true, .archs = archs, .rules = {}};
  }

 private:
  std::vector<std::unique_ptr<std::vector<std::string>>> names_;
};

TEST_F(Generators, AgreeOnALargeProfile) {
  for (const std::vector<uint32_t>& archs : std::vector<std::vector<uint32_t>>{
           {SCMP_ARCH_X86_64},
           {SCMP_ARCH_X86_64, SCMP_ARCH_X86},
           {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32},
           {SCMP_ARCH_X86_64, SCMP_ARCH_AARCH64, SCMP_ARCH_ARM, SCMP_ARCH_RISCV64}}) {
    for (const bool enosys : {true, false}) {
      SeccompRules r = rules(archs);
      r.enosys = enosys;
      r.rules.push_back(allow(many_names()));
      r.rules.push_back(
          allow({"personality"}, {{{.value = 0}}, {{.value = 8}}, {{.value = 0xffffffff}}}));
      r.rules.push_back(
          allow({"clone"}, {{{.compare = BpfCompare::kMasked, .value = 0, .mask = 0x7e020000}}}));
      const Comparison comparison(r);
      EXPECT_GT(comparison.asked(), 4000U);
      EXPECT_LT(comparison.ours(), comparison.theirs());
    }
  }
}

TEST_F(Generators, AgreeOnCallsWithinOthers) {
  // Without socketcall and ipc themselves, and with every second of their calls.
  SeccompRules r = rules({SCMP_ARCH_X86_64, SCMP_ARCH_X86});
  r.rules.push_back(allow({"socket", "connect", "accept", "accept4", "send", "recvmsg", "semop",
                           "semtimedop", "shmat", "msgget", "clone3"}));
  const Comparison comparison(r);
  EXPECT_GT(comparison.asked(), 4000U);
}

TEST_F(Generators, AgreeOnDenyLists) {
  SeccompRules r{.default_action = SECCOMP_RET_ALLOW,
                 .enosys = false,
                 .archs = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32},
                 .rules = {}};
  r.rules.push_back(allow({"ptrace", "mount", "socket"}));
  r.rules.back().action = SECCOMP_RET_KILL_PROCESS;
  r.rules.push_back(allow({"read"}));  // the default action: redundant
  r.rules.push_back(allow({"ioctl"}, {{{.argument = 1, .value = 0x5412}}}));
  r.rules.back().action = SECCOMP_RET_ERRNO | 25;
  const Comparison comparison(r);
  EXPECT_GT(comparison.asked(), 4000U);
}

TEST_F(Generators, AgreeOnConditions) {
  std::mt19937_64 random(20261123);  // the same rules in every run
  const std::vector<std::string> pool = {"read",  "ioctl", "clone", "prctl", "openat", "mmap",
                                         "fcntl", "kill",  "futex", "write", "bpf",    "mount"};
  const auto pick = [&](uint64_t below) { return random() % below; };
  for (int round = 0; round < 60; ++round) {
    SeccompRules r = rules({SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32, SCMP_ARCH_AARCH64});
    // One condition for a syscall and its arguments: rules that overlap in part are legal, but
    // libseccomp forgets some of them (its issue of 2.5), so they cannot be compared.
    std::set<std::string> used;
    for (uint64_t count = 1 + pick(6); count > 0; --count) {
      const std::string& name = pool[pick(pool.size())];
      if (!used.insert(name).second) continue;
      std::vector<BpfCondition> conditions;
      for (uint32_t argument = 0; argument < 2; ++argument) {
        if (pick(3) == 0) continue;
        BpfCondition c{.argument = argument, .compare = static_cast<BpfCompare>(pick(7))};
        c.value = pick(2) == 0 ? pick(16) : random() >> pick(40);
        if (c.compare == BpfCompare::kMasked) {
          c.mask = random() >> pick(40);
        }
        conditions.push_back(c);
      }
      r.rules.push_back(conditions.empty() ? allow({name}) : allow({name}, {conditions}));
    }
    const Comparison comparison(r);
    ASSERT_FALSE(HasFailure()) << "round " << round;
    ASSERT_GT(comparison.asked(), 4000U);
  }
}

TEST_F(Generators, LeaveToLibseccompWhatIsNotDefinedHere) {
  SeccompRules r = rules({SCMP_ARCH_X86_64});
  r.rules.push_back(allow({"ioctl"}, {{{.value = 1}}}));
  r.rules.push_back(allow({"ioctl"}, {{{.value = 2}}}));
  r.rules.back().action = SECCOMP_RET_TRAP;
  EXPECT_TRUE(make_range_program(r).empty()) << "two actions";
  SeccompRules s = rules({SCMP_ARCH_X86_64, SCMP_ARCH_PPC64LE});
  s.rules.push_back(allow({"read"}));
  EXPECT_TRUE(make_range_program(s).empty()) << "an architecture of its own ways";
  EXPECT_FALSE(make_library_program(s).value().empty());
  SeccompRules t = rules({SCMP_ARCH_X86_64, SCMP_ARCH_X86});
  t.rules.push_back(allow({"socket"}, {{{.value = 1}}}));
  EXPECT_TRUE(make_range_program(t).empty()) << "arguments within socketcall";
}

}  // namespace
}  // namespace amphora::setup
