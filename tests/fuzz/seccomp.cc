// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: bytes as rules over syscall numbers. The program that our generator makes of them
// must decide every question that the rules could turn on as the rules read plainly do.
#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <cstring>
#include <set>

#include <fuzzer/FuzzedDataProvider.h>

#include "executor/setup/seccomp_bpf.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora::setup;

constexpr uint32_t kX32 = 0x40000000;
constexpr uint32_t kDefault = SECCOMP_RET_ERRNO | 1, kBadArch = SECCOMP_RET_KILL_PROCESS;
constexpr uint32_t kUnknown = SECCOMP_RET_ERRNO | 38;

/// What the kernel allows of a filter, and what our generator uses of that.
uint32_t run(const std::vector<sock_filter>& program, const seccomp_data& data) {
  uint32_t a = 0;
  for (size_t at = 0; at < program.size(); ++at) {
    const sock_filter& i = program[at];
    bool holds = false;
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        AMPHORA_CHECK(i.k % 4 == 0 && i.k + 4 <= sizeof data);
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, sizeof a);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= i.k;
        continue;
      case BPF_JMP | BPF_JA:
        at += i.k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        holds = a == i.k;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        holds = a > i.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        holds = a >= i.k;
        break;
      case BPF_RET | BPF_K:
        return i.k;
      default:
        amphora::check_failed("an instruction that no generator of ours uses", __FILE__, __LINE__);
    }
    at += holds ? i.jt : i.jf;
  }
  amphora::check_failed("the program has no end", __FILE__, __LINE__);
}

bool holds(const BpfCondition& c, uint64_t argument, bool wide) {
  const uint64_t bits = wide ? ~uint64_t{0} : UINT32_MAX;
  const uint64_t a = argument & bits, v = c.value & bits;
  switch (c.compare) {
    case BpfCompare::kEqual:
      return a == v;
    case BpfCompare::kNotEqual:
      return a != v;
    case BpfCompare::kGreater:
      return a > v;
    case BpfCompare::kGreaterEqual:
      return a >= v;
    case BpfCompare::kLess:
      return a < v;
    case BpfCompare::kLessEqual:
      return a <= v;
    case BpfCompare::kMasked:
      return (a & c.mask & bits) == (v & c.mask);
  }
  return false;
}

uint32_t read_plainly(const std::vector<BpfAbi>& abis, const seccomp_data& data) {
  const auto number = static_cast<uint32_t>(data.nr);
  const BpfAbi* abi = nullptr;
  for (const BpfAbi& one : abis) {
    if (one.audit_arch == data.arch && one.first <= number) abi = &one;
  }
  if (abi == nullptr) return kBadArch;
  if (number >= abi->unknown_from) return abi->unknown;
  for (const BpfRule& rule : abi->rules) {
    if (rule.number != number) continue;
    const auto all = [&](const std::vector<BpfCondition>& conditions) {
      return std::ranges::all_of(conditions, [&](const BpfCondition& c) {
        return holds(c, data.args[c.argument], abi->wide);
      });
    };
    if (rule.always || std::ranges::any_of(rule.alternatives, all)) return rule.action;
  }
  return kDefault;
}

std::vector<BpfCondition> conditions_of(FuzzedDataProvider& in) {
  std::vector<BpfCondition> conditions(in.ConsumeIntegralInRange<size_t>(1, 6));
  for (BpfCondition& c : conditions) {
    c.argument = in.ConsumeIntegralInRange<uint32_t>(0, 5);
    c.compare = static_cast<BpfCompare>(in.ConsumeIntegralInRange<int>(0, 6));
    c.value = in.ConsumeBool() ? in.ConsumeIntegral<uint8_t>() : in.ConsumeIntegral<uint64_t>();
    if (c.compare == BpfCompare::kMasked) c.mask = in.ConsumeIntegral<uint64_t>();
  }
  return conditions;
}

BpfAbi abi_of(FuzzedDataProvider& in, uint32_t audit_arch, uint32_t first, bool wide) {
  BpfAbi abi{.audit_arch = audit_arch, .first = first, .unknown = kUnknown, .wide = wide};
  for (size_t count = in.ConsumeIntegralInRange<size_t>(0, 12); count > 0; --count) {
    BpfRule rule{.number = first + in.ConsumeIntegralInRange<uint32_t>(0, 500)};
    rule.action = in.ConsumeBool() ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP;
    size_t alternatives = in.ConsumeIntegralInRange<size_t>(0, 3);
    rule.always = alternatives == 0;
    for (; alternatives > 0; --alternatives) rule.alternatives.push_back(conditions_of(in));
    // Many neighbours of one action, as real profiles have them, in one stroke.
    uint32_t run = rule.always ? in.ConsumeIntegralInRange<uint32_t>(0, 200) : 0;
    for (; run > 0; --run) {
      abi.rules.push_back(rule);
      rule.number += 2;
    }
    abi.rules.push_back(std::move(rule));
  }
  if (in.ConsumeBool()) abi.unknown_from = uint64_t{first} + 1000;
  return abi;
}

/// All that the conditions of a rule could turn on.
std::set<uint64_t> values_of(const BpfRule& rule) {
  std::set<uint64_t> values = {0, ~uint64_t{0}};
  for (const auto& alternative : rule.alternatives) {
    for (const BpfCondition& c : alternative) {
      for (const uint64_t v : {c.value, c.value & c.mask, c.value | ~c.mask}) {
        values.insert({v, v - 1, v + 1, v ^ (uint64_t{1} << 32)});
      }
    }
  }
  return values;
}

class Comparison {
 public:
  Comparison(const std::vector<BpfAbi>& abis, std::vector<sock_filter> program)
      : abis_(abis), program_(std::move(program)) {}

  /// One question, and with each of `values` in every argument, in every second and in one.
  void ask(uint32_t arch, uint32_t number, const std::set<uint64_t>& values) {
    seccomp_data data{};
    data.arch = arch;
    data.nr = static_cast<int>(number);
    compare(data);
    size_t turn = 0;
    for (const uint64_t value : values) {
      std::fill(std::begin(data.args), std::end(data.args), value);
      compare(data);
      for (size_t i = 0; i < 6; i += 2) data.args[i] = *values.begin();
      compare(data);
      std::fill(std::begin(data.args), std::end(data.args), *values.rbegin());
      data.args[turn++ % 6] = value;
      compare(data);
    }
  }

 private:
  void compare(const seccomp_data& data) {
    AMPHORA_CHECK(run(program_, data) == read_plainly(abis_, data));
  }
  const std::vector<BpfAbi>& abis_;
  std::vector<sock_filter> program_;
};

/// The numbers at which an answer may change.
void ask_all(const std::vector<BpfAbi>& abis, Comparison& both) {
  for (const uint32_t arch :
       {uint32_t{AUDIT_ARCH_X86_64}, uint32_t{AUDIT_ARCH_I386}, uint32_t{AUDIT_ARCH_AARCH64}}) {
    for (const uint32_t number : {0U, kX32 - 1, kX32, 0x7fffffffU, UINT32_MAX}) {
      both.ask(arch, number, {});
    }
  }
  for (const BpfAbi& abi : abis) {
    for (const uint32_t number : {abi.first + 999, abi.first + 1000}) {
      both.ask(abi.audit_arch, number, {});
    }
    for (const BpfRule& rule : abi.rules) {
      both.ask(abi.audit_arch, rule.number, values_of(rule));
      for (const uint32_t beside : {rule.number - 1, rule.number + 1}) {
        both.ask(abi.audit_arch, beside, {0});
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  std::vector<BpfAbi> abis = {abi_of(in, AUDIT_ARCH_X86_64, 0, /*wide=*/true)};
  if (in.ConsumeBool()) abis.push_back(abi_of(in, AUDIT_ARCH_X86_64, kX32, /*wide=*/true));
  if (in.ConsumeBool()) abis.push_back(abi_of(in, AUDIT_ARCH_I386, 0, /*wide=*/false));
  for (BpfAbi& abi : abis) {
    // Two actions for one number are libseccomp's.
    if (!fold_rules(abi)) return amphora::fuzz::kUninteresting;
  }
  Comparison both(abis, make_bpf(abis, kDefault, kBadArch));
  ask_all(abis, both);
  return 0;
}
