// SPDX-License-Identifier: Apache-2.0
// Programs for seccomp. See seccomp_bpf.h.
#include "executor/setup/seccomp_bpf.h"

#include <linux/seccomp.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace amphora::setup {
namespace {

using Code = std::vector<sock_filter>;

constexpr unsigned kMaxJump = 255;  // conditional jumps have 8 bits
// Targets not known yet while an alternative is written. Its code is far shorter than these.
constexpr uint8_t kNextCondition = 254;
constexpr uint8_t kNextAlternative = 255;

constexpr sock_filter statement(unsigned code, uint32_t value) noexcept {
  return {static_cast<uint16_t>(code), 0, 0, value};
}
constexpr sock_filter jump(unsigned compare, uint32_t value, unsigned on_true,
                           unsigned on_false) noexcept {
  return {static_cast<uint16_t>(BPF_JMP | BPF_K | compare), static_cast<uint8_t>(on_true),
          static_cast<uint8_t>(on_false), value};
}
constexpr sock_filter load(size_t offset) noexcept {
  return statement(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}

sock_filter load_half(uint32_t argument, bool upper) noexcept {
  const bool second = upper == (std::endian::native == std::endian::little);
  return load(offsetof(seccomp_data, args) + size_t{8} * argument + (second ? 4 : 0));
}

/// What a comparison of the upper half decides alone: below, at or above the value's upper half.
struct Verdicts {
  uint8_t above, below;  // targets; equal halves go on to the lower half
  unsigned lower;        // BPF_J* of the lower half
  uint8_t lower_true, lower_false;
};

Verdicts verdicts(BpfCompare compare) noexcept {
  const uint8_t yes = kNextCondition, no = kNextAlternative;
  switch (compare) {
    case BpfCompare::kNotEqual:
      return {yes, yes, BPF_JEQ, no, yes};
    case BpfCompare::kGreater:
      return {yes, no, BPF_JGT, yes, no};
    case BpfCompare::kGreaterEqual:
      return {yes, no, BPF_JGE, yes, no};
    case BpfCompare::kLess:
      return {no, yes, BPF_JGE, no, yes};
    case BpfCompare::kLessEqual:
      return {no, yes, BPF_JGT, no, yes};
    case BpfCompare::kEqual:
    case BpfCompare::kMasked:
      break;
  }
  return {no, no, BPF_JEQ, yes, no};
}

/// Falls through to what follows when the condition holds; jumps to kNextAlternative when not.
void append_condition(Code& code, const BpfCondition& condition, bool wide) {
  const size_t start = code.size();
  const Verdicts v = verdicts(condition.compare);
  const bool masked = condition.compare == BpfCompare::kMasked;
  const uint64_t value = masked ? condition.value & condition.mask : condition.value;
  if (wide) {
    const auto upper = static_cast<uint32_t>(value >> 32);
    code.push_back(load_half(condition.argument, true));
    if (masked) {
      code.push_back(
          statement(BPF_ALU | BPF_AND | BPF_K, static_cast<uint32_t>(condition.mask >> 32)));
    }
    if (v.above != v.below) code.push_back(jump(BPF_JGT, upper, v.above, 0));
    code.push_back(jump(BPF_JEQ, upper, 0, v.below));
  }
  code.push_back(load_half(condition.argument, false));
  if (masked) {
    code.push_back(statement(BPF_ALU | BPF_AND | BPF_K, static_cast<uint32_t>(condition.mask)));
  }
  code.push_back(jump(v.lower, static_cast<uint32_t>(value), v.lower_true, v.lower_false));
  for (size_t i = start; i < code.size(); ++i) {
    if (BPF_CLASS(code[i].code) != BPF_JMP) continue;
    const auto distance = static_cast<uint8_t>(code.size() - i - 1);
    if (code[i].jt == kNextCondition) code[i].jt = distance;
    if (code[i].jf == kNextCondition) code[i].jf = distance;
  }
}

Code make_rule(const BpfRule& rule, uint32_t default_action, bool wide) {
  Code code;
  for (const auto& alternative : rule.alternatives) {
    Code part;
    for (const BpfCondition& condition : alternative) append_condition(part, condition, wide);
    part.push_back(statement(BPF_RET | BPF_K, rule.action));
    for (size_t i = 0; i < part.size(); ++i) {
      if (BPF_CLASS(part[i].code) != BPF_JMP) continue;
      const auto distance = static_cast<uint8_t>(part.size() - i - 1);
      if (part[i].jt == kNextAlternative) part[i].jt = distance;
      if (part[i].jf == kNextAlternative) part[i].jf = distance;
    }
    code.insert(code.end(), part.begin(), part.end());
  }
  code.push_back(statement(BPF_RET | BPF_K, default_action));
  return code;
}

/// A range of syscall numbers, up to the next one's first: one action, or a rule with conditions.
struct Range {
  uint32_t first = 0;
  uint32_t action = 0;
  const BpfRule* rule = nullptr;
  bool wide = false;
};

void append_range(std::vector<Range>& ranges, const Range& range) {
  if (!ranges.empty()) {
    Range const& last = ranges.back();
    if (last.first == range.first) ranges.pop_back();  // an empty range
  }
  if (!ranges.empty()) {
    const Range& last = ranges.back();
    if (last.rule == nullptr && range.rule == nullptr && last.action == range.action) return;
  }
  ranges.push_back(range);
}

/// The whole of one architecture's numbers, in order.
std::vector<Range> make_ranges(std::span<const BpfAbi> abis, uint32_t default_action) {
  std::vector<Range> ranges;
  for (const BpfAbi& abi : abis) {
    append_range(ranges, {.first = abi.first, .action = default_action});
    for (const BpfRule& rule : abi.rules) {
      append_range(ranges, {.first = rule.number,
                            .action = rule.action,
                            .rule = rule.always ? nullptr : &rule,
                            .wide = abi.wide});
      if (rule.number == UINT32_MAX) break;
      append_range(ranges, {.first = rule.number + 1, .action = default_action});
    }
    if (abi.unknown_from <= UINT32_MAX) {
      append_range(ranges,
                   {.first = static_cast<uint32_t>(abi.unknown_from), .action = abi.unknown});
    }
  }
  return ranges;
}

/// Binary search with the syscall number loaded; the default range 0 needs no test, as it is first.
Code make_tree(std::span<const Range> ranges, uint32_t default_action) {
  if (ranges.size() == 1) {
    const Range& range = ranges.front();
    if (range.rule != nullptr) return make_rule(*range.rule, default_action, range.wide);
    return {statement(BPF_RET | BPF_K, range.action)};
  }
  const size_t middle = ranges.size() / 2;
  const Code lower = make_tree(ranges.first(middle), default_action);
  const Code upper = make_tree(ranges.subspan(middle), default_action);
  Code code;
  code.reserve(lower.size() + upper.size() + 2);
  const uint32_t split = ranges[middle].first;
  if (lower.size() <= kMaxJump) {
    code.push_back(jump(BPF_JGE, split, static_cast<unsigned>(lower.size()), 0));
  } else {
    code.push_back(jump(BPF_JGE, split, 0, 1));
    code.push_back(statement(BPF_JMP | BPF_JA, static_cast<uint32_t>(lower.size())));
  }
  code.insert(code.end(), lower.begin(), lower.end());
  code.insert(code.end(), upper.begin(), upper.end());
  return code;
}

}  // namespace

bool fold_rules(BpfAbi& abi) {
  std::stable_sort(abi.rules.begin(), abi.rules.end(),
                   [](const BpfRule& a, const BpfRule& b) { return a.number < b.number; });
  size_t kept = 0;
  for (size_t i = 0; i < abi.rules.size(); ++i) {
    BpfRule& rule = abi.rules[i];
    if (kept == 0 || abi.rules[kept - 1].number != rule.number) {
      if (kept != i) abi.rules[kept] = std::move(rule);
      ++kept;
      continue;
    }
    BpfRule& first = abi.rules[kept - 1];
    if (first.action != rule.action) return false;
    first.always = first.always || rule.always;
    first.alternatives.insert(first.alternatives.end(), rule.alternatives.begin(),
                              rule.alternatives.end());
  }
  abi.rules.resize(kept);
  return true;
}

std::vector<sock_filter> make_bpf(const std::vector<BpfAbi>& abis, uint32_t default_action,
                                  uint32_t bad_arch) {
  Code code = {load(offsetof(seccomp_data, arch))};
  for (size_t i = 0; i < abis.size();) {
    size_t end = i + 1;
    while (end < abis.size() && abis[end].audit_arch == abis[i].audit_arch) ++end;
    const std::span<const BpfAbi> same(abis.data() + i, end - i);
    Code body = {load(offsetof(seccomp_data, nr))};
    const Code tree = make_tree(make_ranges(same, default_action), default_action);
    body.insert(body.end(), tree.begin(), tree.end());
    if (body.size() <= kMaxJump) {
      code.push_back(jump(BPF_JEQ, abis[i].audit_arch, 0, static_cast<unsigned>(body.size())));
    } else {
      code.push_back(jump(BPF_JEQ, abis[i].audit_arch, 1, 0));
      code.push_back(statement(BPF_JMP | BPF_JA, static_cast<uint32_t>(body.size())));
    }
    code.insert(code.end(), body.begin(), body.end());
    i = end;
  }
  code.push_back(statement(BPF_RET | BPF_K, bad_arch));
  return code;
}

}  // namespace amphora::setup
