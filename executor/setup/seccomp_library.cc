// SPDX-License-Identifier: Apache-2.0
// libseccomp. See seccomp_library.h.
#include "executor/setup/seccomp_library.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "executor/setup/seccomp_bpf.h"

namespace amphora::setup {
namespace {

constexpr uint32_t kX32Bit = 0x40000000U;  // __X32_SYSCALL_BIT
/// From this many syscalls on a binary tree beats the list; fewer, and libseccomp 2.5 makes
/// malformed trees of empty lists. The number is runc's.
constexpr size_t kTreeThreshold = 32;

struct ContextDeleter {
  void operator()(void* context) const noexcept { seccomp_release(context); }
};
using Context = std::unique_ptr<void, ContextDeleter>;

scmp_arg_cmp to_library(const BpfCondition& condition) noexcept {
  scmp_arg_cmp result{condition.argument, SCMP_CMP_EQ, condition.value, 0};
  switch (condition.compare) {
    case BpfCompare::kEqual:
      break;
    case BpfCompare::kNotEqual:
      result.op = SCMP_CMP_NE;
      break;
    case BpfCompare::kGreater:
      result.op = SCMP_CMP_GT;
      break;
    case BpfCompare::kGreaterEqual:
      result.op = SCMP_CMP_GE;
      break;
    case BpfCompare::kLess:
      result.op = SCMP_CMP_LT;
      break;
    case BpfCompare::kLessEqual:
      result.op = SCMP_CMP_LE;
      break;
    case BpfCompare::kMasked:
      result = {condition.argument, SCMP_CMP_MASKED_EQ, condition.mask, condition.value};
      break;
  }
  return result;
}

Result<void> add_alternative(void* context, uint32_t action, int number,
                             const std::vector<BpfCondition>& alternative) {
  std::vector<scmp_arg_cmp> conditions;
  for (const BpfCondition& condition : alternative) conditions.push_back(to_library(condition));
  const int error = seccomp_rule_add_array(
      context, action, number, static_cast<unsigned>(conditions.size()), conditions.data());
  // The same rule a second time changes nothing.
  if (error == 0 || error == -EEXIST) return {};
  return fail_errno(-error, "add a rule");
}

Result<void> add_syscall(void* context, const std::string& name, const SeccompRule& rule) {
  const int number = seccomp_syscall_resolve_name(name.c_str());
  if (number == __NR_SCMP_ERROR) return {};
  if (rule.always) return add_alternative(context, rule.action, number, {});
  for (const auto& alternative : rule.alternatives) {
    TRY(add_alternative(context, rule.action, number, alternative));
  }
  return {};
}

Result<void> add_rules(void* context, const SeccompRules& rules) {
  for (const SeccompRule& rule : rules.rules) {
    if (rule.action == rules.default_action) continue;  // libseccomp refuses the redundant
    for (const std::string& name : *rule.names) {
      if (auto added = add_syscall(context, name, rule); !added) {
        return std::unexpected(
            std::move(added).error().context(fmt::format("linux.seccomp.syscalls: \"{}\"", name)));
      }
    }
  }
  return {};
}

Result<Context> make_context(const SeccompRules& rules) {
  Context context(seccomp_init(rules.default_action));
  if (!context) return fail(Errc::kUnsupported, "linux.seccomp.defaultAction: not supported");
  for (const uint32_t arch : rules.archs) {
    const int error = seccomp_arch_add(context.get(), arch);
    if (error != 0 && error != -EEXIST) {
      return fail_errno(-error, "linux.seccomp.architectures: add an architecture");
    }
  }
  size_t names = 0;
  for (const SeccompRule& rule : rules.rules) names += rule.names->size();
  // A libseccomp without the optimiser makes a list, which decides the same.
  if (names > kTreeThreshold) seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  return context;
}

/// libseccomp writes programs to descriptors only.
Result<std::vector<sock_filter>> export_program(void* context) {
  const UniqueFd fd(sys::memfd_create("seccomp", MFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "make a memfd for the seccomp program");
  if (const int error = seccomp_export_bpf(context, fd.get()); error != 0) {
    return fail_errno(-error, "generate the seccomp program");
  }
  const off_t size = ::lseek(fd.get(), 0, SEEK_END);
  if (size < 0) return fail_errno(errno, "read the seccomp program");
  std::vector<sock_filter> program(static_cast<size_t>(size) / sizeof(sock_filter));
  const size_t bytes = program.size() * sizeof(sock_filter);
  const ssize_t n = ::pread(fd.get(), program.data(), bytes, 0);
  if (n != size) return fail_errno(n < 0 ? errno : EIO, "read the seccomp program");
  return program;
}

constexpr sock_filter statement(unsigned code, uint32_t value) noexcept {
  return {static_cast<uint16_t>(code), 0, 0, value};
}
constexpr sock_filter jump(unsigned condition, uint32_t value, unsigned on_true,
                           unsigned on_false) noexcept {
  return {static_cast<uint16_t>(BPF_JMP | BPF_K | condition), static_cast<uint8_t>(on_true),
          static_cast<uint8_t>(on_false), value};
}

int syscall_number(uint32_t arch, const std::string& name) noexcept {
  return seccomp_syscall_resolve_name_arch(arch, name.c_str());
}

/// The highest number of the rules' names in an architecture, whatever their action; 0: none.
uint32_t highest_number(const SeccompRules& rules, uint32_t arch) noexcept {
  int highest = 0;
  for (const SeccompRule& rule : rules.rules) {
    for (const std::string& name : *rule.names) {
      highest = std::max(highest, syscall_number(arch, name));
    }
  }
  return static_cast<uint32_t>(highest);
}

/// The highest known numbers; 0: none. x86_64 and x32 share a value of seccomp_data.arch, hence two
/// numbers in a section.
struct Section {
  uint32_t audit_arch = 0;
  uint32_t highest = 0, highest_x32 = 0;
};

std::vector<Section> find_sections(const SeccompRules& rules) {
  std::vector<Section> sections;
  for (const uint32_t arch : rules.archs) {
    const bool x32 = arch == SCMP_ARCH_X32;
    const uint32_t audit_arch = x32 ? AUDIT_ARCH_X86_64 : arch;
    auto at = std::find_if(sections.begin(), sections.end(),
                           [&](const Section& s) { return s.audit_arch == audit_arch; });
    if (at == sections.end()) at = sections.insert(at, Section{.audit_arch = audit_arch});
    (x32 ? at->highest_x32 : at->highest) = highest_number(rules, arch);
  }
  std::erase_if(sections, [](const Section& s) { return s.highest == 0 && s.highest_x32 == 0; });
  return sections;
}

/// One architecture's part of the stub. Entered with seccomp_data.arch loaded; leaves to what follows
/// it with arch still loaded when it is another architecture's, else jumps over `rest` instructions
/// (the sections behind it) into the filter.
std::vector<sock_filter> make_section(const Section& section, uint32_t rest) {
  const sock_filter enosys = statement(BPF_RET | BPF_K, SCMP_ACT_ERRNO(ENOSYS));
  std::vector<sock_filter> body = {statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  const bool s390 = section.audit_arch == AUDIT_ARCH_S390 || section.audit_arch == AUDIT_ARCH_S390X;
  if (s390) {
    // Number 0 (setup, long unused) stands for every number the kernel's own entry does not know.
    body.push_back(jump(BPF_JEQ, 0, 0, 1));
    body.push_back(enosys);
  }
  // Distances below count to: [check x32] [check] [ENOSYS] [into the filter].
  if (section.highest != 0 && section.highest_x32 != 0) {
    body.push_back(jump(BPF_JSET, kX32Bit, 0, 1));
    body.push_back(jump(BPF_JGT, section.highest_x32, 1, 2));
    body.push_back(jump(BPF_JGT, section.highest, 0, 1));
  } else if (section.highest_x32 != 0) {
    body.push_back(jump(BPF_JGT, section.highest_x32, 0, 1));
  } else {
    // The numbers of an x32 that the profile does not have are left to the filter.
    if (section.audit_arch == AUDIT_ARCH_X86_64) body.push_back(jump(BPF_JSET, kX32Bit, 2, 0));
    body.push_back(jump(BPF_JGT, section.highest, 0, 1));
  }
  body.push_back(enosys);
  body.push_back(statement(BPF_JMP | BPF_JA, rest));
  body.insert(body.begin(),
              jump(BPF_JEQ, section.audit_arch, 0, static_cast<unsigned>(body.size())));
  return body;
}

std::vector<sock_filter> make_enosys_stub(const std::vector<Section>& sections) {
  // From the last to the first, as each needs the length of all behind it.
  std::vector<sock_filter> code;
  for (auto at = sections.rbegin(); at != sections.rend(); ++at) {
    const auto front = make_section(*at, static_cast<uint32_t>(code.size()));
    code.insert(code.begin(), front.begin(), front.end());
  }
  if (!code.empty()) {
    code.insert(code.begin(), statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
  }
  return code;
}

/// x86's socketcall and ipc: libseccomp numbers the calls within them -101 to -120, -201 to -224.
struct Multiplexer {
  uint32_t number = 0;  ///< 0: not a call within another one
  uint32_t call = 0;    ///< the first argument that means it
};
Multiplexer x86_multiplexer(int number) noexcept {
  if (number <= -101 && number >= -120) return {102, static_cast<uint32_t>(-number - 100)};
  if (number <= -201 && number >= -224) return {117, static_cast<uint32_t>(-number - 200)};
  return {};
}

constexpr std::pair<int, int> kX86Direct[] = {{337, 337}, {345, 345}, {359, 373}, {393, 402}};

/// A call within socketcall or ipc that a rule names.
struct Multiplexed {
  std::string_view name;
  uint32_t action;
};

/// Adds the numbers of their own that x86 gave such calls later, which libseccomp tells only from
/// number to name: recvmmsg, sendmmsg, socket to shutdown (4.3), semget to msgctl (5.1).
void append_direct(BpfAbi& abi, const std::vector<Multiplexed>& calls) {
  if (calls.empty()) return;
  for (const auto& [first, last] : kX86Direct) {
    for (int number = first; number <= last; ++number) {
      const std::unique_ptr<char, decltype(&std::free)> name(
          seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86, number), &std::free);
      if (!name) continue;
      for (const Multiplexed& call : calls) {
        if (call.name != name.get()) continue;
        abi.rules.push_back({static_cast<uint32_t>(number), call.action, true});
      }
    }
  }
}

struct Width {
  uint32_t arch;
  bool wide;
};
/// The architectures that need nothing special beyond what is above.
constexpr Width kWidths[] = {{SCMP_ARCH_X86_64, true}, {SCMP_ARCH_X32, false},
                             {SCMP_ARCH_X86, false},   {SCMP_ARCH_AARCH64, true},
                             {SCMP_ARCH_ARM, false},   {SCMP_ARCH_RISCV64, true}};

/// False when the rules are not for the range generator.
bool append_abi(std::vector<BpfAbi>& abis, const SeccompRules& rules, uint32_t arch) {
  const auto* const width = std::find_if(std::begin(kWidths), std::end(kWidths),
                                         [&](const Width& w) { return w.arch == arch; });
  if (width == std::end(kWidths)) return false;
  const bool x32 = arch == SCMP_ARCH_X32;
  BpfAbi& abi = abis.emplace_back(BpfAbi{.audit_arch = x32 ? AUDIT_ARCH_X86_64 : arch,
                                         .first = x32 ? kX32Bit : 0,
                                         .wide = width->wide});
  std::vector<Multiplexed> multiplexed;
  int highest = 0;
  for (const SeccompRule& rule : rules.rules) {
    for (const std::string& name : *rule.names) {
      const int number = syscall_number(arch, name);
      highest = std::max(highest, number);
      if (rule.action == rules.default_action) continue;
      if (number >= 0) {
        abi.rules.push_back(
            {static_cast<uint32_t>(number), rule.action, rule.always, rule.alternatives});
        continue;
      }
      const Multiplexer in = arch == SCMP_ARCH_X86 ? x86_multiplexer(number) : Multiplexer{};
      if (in.number == 0) continue;
      // The call's own arguments lie in memory there, out of a filter's sight.
      if (!rule.always) return false;
      abi.rules.push_back({in.number, rule.action, false, {{BpfCondition{.value = in.call}}}});
      multiplexed.push_back({name, rule.action});
    }
  }
  append_direct(abi, multiplexed);
  if (rules.enosys && highest != 0) {
    abi.unknown = SCMP_ACT_ERRNO(ENOSYS);
    abi.unknown_from = static_cast<uint64_t>(highest) + 1;
  }
  return fold_rules(abi);
}

/// x86_64 without x32: that is another architecture then, but for -1, by which a tracer skips a
/// syscall. Numbers that have the upper bit and not x32's are x86_64's unknown ones in runc's stub.
void append_foreign_x32(std::vector<BpfAbi>& abis) {
  const auto x86_64 = std::find_if(abis.begin(), abis.end(), [](const BpfAbi& abi) {
    return abi.audit_arch == AUDIT_ARCH_X86_64;
  });
  const uint32_t unknown = x86_64->unknown != 0 ? x86_64->unknown : SCMP_ACT_KILL_THREAD;
  const auto append = [&](uint32_t first, uint32_t action) {
    abis.push_back({.audit_arch = AUDIT_ARCH_X86_64,
                    .first = first,
                    .unknown = action,
                    .unknown_from = first});
  };
  append(kX32Bit, SCMP_ACT_KILL_THREAD);
  append(2 * kX32Bit, unknown);
  append(3 * kX32Bit, SCMP_ACT_KILL_THREAD);
  abis.push_back({.audit_arch = AUDIT_ARCH_X86_64, .first = UINT32_MAX});
}

}  // namespace

uint32_t native_arch() noexcept { return seccomp_arch_native(); }
uint32_t find_arch(const char* name) noexcept { return seccomp_arch_resolve_name(name); }

bool fits_native(uint32_t arch) noexcept {
  const Context context(seccomp_init(SCMP_ACT_ALLOW));
  if (!context) return false;
  const int error = seccomp_arch_add(context.get(), arch);
  return error == 0 || error == -EEXIST;
}

std::string libseccomp_version() {
  const scmp_version* const version = seccomp_version();
  if (version == nullptr) return {};
  return fmt::format("{}.{}.{}", version->major, version->minor, version->micro);
}

Result<std::vector<sock_filter>> make_library_program(const SeccompRules& rules) {
  TRY_ASSIGN(const Context context, make_context(rules));
  TRY(add_rules(context.get(), rules));
  TRY_ASSIGN(const std::vector<sock_filter> filter, export_program(context.get()));
  std::vector<sock_filter> program;
  if (rules.enosys) program = make_enosys_stub(find_sections(rules));
  program.insert(program.end(), filter.begin(), filter.end());
  return program;
}

std::vector<sock_filter> make_range_program(const SeccompRules& rules) {
  std::vector<BpfAbi> abis;
  for (const uint32_t arch : rules.archs) {
    if (!append_abi(abis, rules, arch)) return {};
  }
  const auto has = [&](uint32_t arch) {
    return std::find(rules.archs.begin(), rules.archs.end(), arch) != rules.archs.end();
  };
  if (has(SCMP_ARCH_X86_64) && !has(SCMP_ARCH_X32)) append_foreign_x32(abis);
  // The native architecture stays first: it is the one that is tested first.
  const uint32_t native = rules.archs.front();
  std::stable_sort(abis.begin(), abis.end(), [&](const BpfAbi& a, const BpfAbi& b) {
    const auto rank = [&](const BpfAbi& abi) {
      return abi.audit_arch == native ? 0U : abi.audit_arch;
    };
    return std::pair(rank(a), a.first) < std::pair(rank(b), b.first);
  });
  return make_bpf(abis, rules.default_action, SCMP_ACT_KILL_THREAD);
}

}  // namespace amphora::setup
