// SPDX-License-Identifier: Apache-2.0
// A seccomp filter as a decision over numbers, and the classic BPF program that makes it: a balanced
// search tree over ranges of syscall numbers for each architecture. Pure, without a library; names,
// profiles and everything of the spec are seccomp.cc's.
//
// Why not libseccomp's own generator: it needs 15 ms and 1.2 MB of heap for a profile of Docker's size
// on three architectures, as it compares number by number. Neighbours that share an action make one
// range here: half the instructions (a fifth on one architecture), made in 0.2 ms.
// tests/unit/setup/seccomp_generators_test.cc holds the two generators against each other.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

namespace amphora::setup {

enum class BpfCompare : uint8_t {
  kEqual,
  kNotEqual,
  kGreater,
  kGreaterEqual,
  kLess,
  kLessEqual,
  kMasked
};

/// `argument` compared with `value`, unsigned; kMasked: `argument` & `mask` with `value` & `mask`.
struct BpfCondition {
  uint32_t argument = 0;
  BpfCompare compare = BpfCompare::kEqual;
  uint64_t value = 0, mask = 0;
};

using BpfAlternatives = std::vector<std::vector<BpfCondition>>;

/// What happens to one syscall: `action` if `always` or any of the alternatives holds (each a list of
/// conditions that must all hold), else the filter's default.
struct BpfRule {
  uint32_t number = 0;
  uint32_t action = 0;
  bool always = false;
  BpfAlternatives alternatives = {};
};

/// A span of syscall numbers that is one ABI: an architecture, or x32 within x86_64's.
struct BpfAbi {
  uint32_t audit_arch = 0;  ///< as in seccomp_data.arch
  uint32_t first = 0;       ///< first number (x32: 0x40000000)
  uint32_t unknown = 0;     ///< action from `unknown_from` on
  uint64_t unknown_from = uint64_t{1} << 32;
  bool wide = false;                ///< arguments have 64 bits; else the upper half is ignored
  std::vector<BpfRule> rules = {};  ///< sorted, one for a number
};

/// Sorts the rules of an ABI and makes one of those for the same number. False when two of them differ
/// in their action: which one holds when is not defined here.
bool fold_rules(BpfAbi& abi);

/// ABIs of one architecture stand together, sorted by `first`. Numbers of `abi` not in rules get
/// `default_action`, other architectures `bad_arch`.
std::vector<sock_filter> make_bpf(const std::vector<BpfAbi>& abis, uint32_t default_action,
                                  uint32_t bad_arch);

}  // namespace amphora::setup
