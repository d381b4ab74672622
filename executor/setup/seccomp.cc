// SPDX-License-Identifier: Apache-2.0
// Seccomp profiles. See seccomp.h.
#include "executor/setup/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/oci/spec.h"
#include "executor/setup/seccomp_bpf.h"
#include "executor/setup/seccomp_library.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)  // 5.19
#endif

namespace amphora::setup {
namespace {

constexpr uint32_t kMaxArguments = 6;
constexpr uint32_t kMaxErrno = 4095;  // the kernel caps what SECCOMP_RET_ERRNO carries

std::unexpected<Error> invalid(std::string text) { return fail(Errc::kInvalid, std::move(text)); }

struct Action {
  std::string_view name;
  uint32_t value;
  bool takes_errno;
};
constexpr std::array kActions = {
    Action{"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW, false},
    Action{"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO, true},
    Action{"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD, false},
    Action{"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS, false},
    Action{"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD, false},
    Action{"SCMP_ACT_LOG", SECCOMP_RET_LOG, false},
    Action{"SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF, false},
    Action{"SCMP_ACT_TRACE", SECCOMP_RET_TRACE, true},
    Action{"SCMP_ACT_TRAP", SECCOMP_RET_TRAP, false},
};

struct Operator {
  std::string_view name;
  BpfCompare value;
};
constexpr std::array kOperators = {
    Operator{"SCMP_CMP_EQ", BpfCompare::kEqual},
    Operator{"SCMP_CMP_GE", BpfCompare::kGreaterEqual},
    Operator{"SCMP_CMP_GT", BpfCompare::kGreater},
    Operator{"SCMP_CMP_LE", BpfCompare::kLessEqual},
    Operator{"SCMP_CMP_LT", BpfCompare::kLess},
    Operator{"SCMP_CMP_MASKED_EQ", BpfCompare::kMasked},
    Operator{"SCMP_CMP_NE", BpfCompare::kNotEqual},
};

/// The spec's name and libseccomp's, which a given libseccomp may not know.
struct Arch {
  std::string_view name;
  const char* library_name;
};
constexpr std::array kArchs = {
    Arch{"SCMP_ARCH_AARCH64", "aarch64"},
    Arch{"SCMP_ARCH_ARM", "arm"},
    Arch{"SCMP_ARCH_LOONGARCH64", "loongarch64"},
    Arch{"SCMP_ARCH_M68K", "m68k"},
    Arch{"SCMP_ARCH_MIPS", "mips"},
    Arch{"SCMP_ARCH_MIPS64", "mips64"},
    Arch{"SCMP_ARCH_MIPS64N32", "mips64n32"},
    Arch{"SCMP_ARCH_MIPSEL", "mipsel"},
    Arch{"SCMP_ARCH_MIPSEL64", "mipsel64"},
    Arch{"SCMP_ARCH_MIPSEL64N32", "mipsel64n32"},
    Arch{"SCMP_ARCH_PARISC", "parisc"},
    Arch{"SCMP_ARCH_PARISC64", "parisc64"},
    Arch{"SCMP_ARCH_PPC", "ppc"},
    Arch{"SCMP_ARCH_PPC64", "ppc64"},
    Arch{"SCMP_ARCH_PPC64LE", "ppc64le"},
    Arch{"SCMP_ARCH_RISCV64", "riscv64"},
    Arch{"SCMP_ARCH_S390", "s390"},
    Arch{"SCMP_ARCH_S390X", "s390x"},
    Arch{"SCMP_ARCH_SH", "sh"},
    Arch{"SCMP_ARCH_SHEB", "sheb"},
    Arch{"SCMP_ARCH_X32", "x32"},
    Arch{"SCMP_ARCH_X86", "x86"},
    Arch{"SCMP_ARCH_X86_64", "x86_64"},
};

struct Flag {
  std::string_view name;
  uint32_t value;  ///< what is passed to the kernel
  uint32_t probe;  ///< what the kernel is asked about
};
constexpr std::array kFlags = {
    // One thread installs the filter and the others end at exec: nothing to synchronise.
    Flag{"SECCOMP_FILTER_FLAG_TSYNC", 0, SECCOMP_FILTER_FLAG_TSYNC},
    Flag{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW,
         SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    Flag{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_LOG},
    Flag{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
         SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | SECCOMP_FILTER_FLAG_NEW_LISTENER},
};

template <class Table>
auto find(const Table& table, std::string_view name) noexcept -> decltype(table.data()) {
  for (const auto& entry : table) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

/// A kernel that knows the flags complains about the missing program, another about the flags.
bool kernel_supports(const Flag& flag) noexcept {
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flag.probe, nullptr) != 0 &&
         errno == EFAULT;
}

Result<uint32_t> resolve_action(const std::string& name, std::optional<uint32_t> errno_ret,
                                std::string_view member) {
  const Action* const action = find(kActions, name);
  if (action == nullptr) {
    return invalid(fmt::format("{}: \"{}\" is not a known action", member, name));
  }
  if (!action->takes_errno) {
    if (!errno_ret) return action->value;
    return invalid(
        fmt::format("{}: errnoRet {} with {}, which takes none", member, *errno_ret, name));
  }
  const uint32_t value = errno_ret.value_or(EPERM);
  const uint32_t most = action->value == SECCOMP_RET_ERRNO ? kMaxErrno : UINT16_MAX;
  if (value > most) {
    return invalid(fmt::format("{}: errnoRet {} is above {}", member, value, most));
  }
  return action->value | value;
}

Result<uint32_t> resolve_flags(const oci::Seccomp& profile) {
  if (!profile.flags) {
    const Flag& fallback = *find(kFlags, "SECCOMP_FILTER_FLAG_SPEC_ALLOW");
    return kernel_supports(fallback) ? fallback.value : 0;
  }
  uint32_t flags = 0;
  for (const std::string& name : *profile.flags) {
    const Flag* const flag = find(kFlags, name);
    if (flag == nullptr) {
      return invalid(fmt::format("linux.seccomp.flags: \"{}\" is not a known flag", name));
    }
    if (flag->value != 0 && !kernel_supports(*flag)) {
      return fail(Errc::kUnsupported,
                  fmt::format("linux.seccomp.flags: this kernel has no {}", name));
    }
    flags |= flag->value;
  }
  return flags;
}

/// Everything that can be told without libseccomp: the rules around SCMP_ACT_NOTIFY.
Result<bool> check_notify(const oci::Seccomp& profile) {
  if (profile.default_action == "SCMP_ACT_NOTIFY") {
    return invalid("linux.seccomp: SCMP_ACT_NOTIFY cannot be used as default action");
  }
  bool notify = false;
  for (const oci::SyscallRule& rule : profile.syscalls) {
    if (rule.action != "SCMP_ACT_NOTIFY") continue;
    notify = true;
    // Init itself writes the listener's number to its parent under this filter.
    if (std::find(rule.names.begin(), rule.names.end(), "write") != rule.names.end()) {
      return invalid("linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall");
    }
  }
  if (notify && profile.listener_path.empty()) {
    return invalid("linux.seccomp.listenerPath: not set, but a rule has SCMP_ACT_NOTIFY");
  }
  if (!profile.listener_metadata.empty() && profile.listener_path.empty()) {
    return invalid("linux.seccomp.listenerMetadata: set without a listenerPath");
  }
  return notify;
}

/// The architectures of a profile as libseccomp's tokens, the native one first and always there:
/// libseccomp adds it to every filter.
Result<std::vector<uint32_t>> resolve_archs(const oci::Seccomp& profile) {
  std::vector<uint32_t> tokens = {native_arch()};
  for (const std::string& name : profile.architectures) {
    const Arch* const arch = find(kArchs, name);
    if (arch == nullptr) {
      return invalid(fmt::format("linux.seccomp.architectures: \"{}\" is not known", name));
    }
    const uint32_t token = find_arch(arch->library_name);
    if (token == 0) {
      return fail(Errc::kUnsupported,
                  fmt::format("linux.seccomp.architectures: {} is not known to libseccomp", name));
    }
    if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
  }
  return tokens;
}

Result<std::vector<BpfCondition>> resolve_conditions(const oci::SyscallRule& rule) {
  std::vector<BpfCondition> conditions;
  for (const oci::SyscallArg& arg : rule.args) {
    if (arg.index >= kMaxArguments) {
      return invalid(fmt::format("argument index {} is above {}", arg.index, kMaxArguments - 1));
    }
    const Operator* const op = find(kOperators, arg.op);
    if (op == nullptr) return invalid(fmt::format("\"{}\" is not a known operator", arg.op));
    if (op->value == BpfCompare::kMasked) {
      conditions.push_back({arg.index, op->value, arg.value_two, arg.value});
    } else {
      conditions.push_back({arg.index, op->value, arg.value, 0});
    }
  }
  return conditions;
}

/// Conditions on different arguments must all hold. Two on one argument were one rule each in Docker's
/// profiles of old (any of them matches), and so it stayed.
BpfAlternatives make_alternatives(std::vector<BpfCondition> conditions) {
  uint32_t seen = 0;
  bool repeats = false;
  for (const BpfCondition& condition : conditions) {
    const uint32_t bit = 1U << condition.argument;
    repeats = repeats || (seen & bit) != 0;
    seen |= bit;
  }
  if (!repeats) return {std::move(conditions)};
  BpfAlternatives alternatives;
  for (const BpfCondition& condition : conditions) alternatives.push_back({condition});
  return alternatives;
}

Result<SeccompRule> resolve_rule(const oci::SyscallRule& source) {
  SeccompRule rule;
  TRY_ASSIGN(rule.action, resolve_action(source.action, source.errno_ret, "action"));
  for (const std::string& name : source.names) {
    if (name.empty()) return invalid("names: empty string is not a valid syscall");
  }
  rule.names = &source.names;
  auto conditions = resolve_conditions(source);
  if (!conditions) return std::unexpected(std::move(conditions).error().context("args"));
  rule.always = conditions->empty();
  if (!rule.always) rule.alternatives = make_alternatives(std::move(*conditions));
  return rule;
}

Result<std::vector<SeccompRule>> resolve_rules(const oci::Seccomp& profile) {
  std::vector<SeccompRule> rules;
  rules.reserve(profile.syscalls.size());
  for (size_t i = 0; i < profile.syscalls.size(); ++i) {
    auto rule = resolve_rule(profile.syscalls[i]);
    if (!rule) {
      return std::unexpected(
          std::move(rule).error().context(fmt::format("linux.seccomp.syscalls[{}]", i)));
    }
    rules.push_back(std::move(*rule));
  }
  return rules;
}

/// An action that the kernel does not know kills instead.
Result<void> check_actions(const SeccompRules& rules) {
  std::vector<uint32_t> actions = {rules.default_action};
  for (const SeccompRule& rule : rules.rules) actions.push_back(rule.action);
  for (uint32_t& action : actions) action &= SECCOMP_RET_ACTION_FULL;
  std::sort(actions.begin(), actions.end());
  actions.erase(std::unique(actions.begin(), actions.end()), actions.end());
  for (const uint32_t action : actions) {
    if (action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_ERRNO) continue;  // as old as filters
    if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) continue;
    const auto* const known = std::find_if(kActions.begin(), kActions.end(),
                                           [&](const Action& a) { return a.value == action; });
    return fail(Errc::kUnsupported,
                fmt::format("linux.seccomp: this kernel has no {}", known->name));
  }
  return {};
}

/// Syscalls that are younger than the profile get ENOSYS instead of its default action, so that libc
/// falls back as on an old kernel (runc's rule: numbers above the highest that the profile names). Not
/// wanted where the default lets the syscall through anyway, or says the same.
bool wants_enosys(uint32_t default_action) noexcept {
  const uint32_t kind = default_action & SECCOMP_RET_ACTION_FULL;
  // A tracer is expected to handle what it does not know by itself.
  return kind != SECCOMP_RET_ALLOW && kind != SECCOMP_RET_LOG && kind != SECCOMP_RET_TRACE &&
         default_action != (SECCOMP_RET_ERRNO | ENOSYS);
}

}  // namespace

Result<SeccompProgram> compile_seccomp(const oci::Seccomp& profile) {
  SeccompProgram program;
  if (profile.default_action.empty() && profile.syscalls.empty()) return program;
  SeccompRules rules;
  TRY_ASSIGN(rules.default_action, resolve_action(profile.default_action, profile.default_errno_ret,
                                                  "linux.seccomp.defaultAction"));
  rules.enosys = wants_enosys(rules.default_action);
  TRY_ASSIGN(program.notify, check_notify(profile));
  TRY_ASSIGN(program.flags, resolve_flags(profile));
  if (program.notify) {
    program.flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  } else if ((program.flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0) {
    return invalid(
        "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without a rule "
        "that has SCMP_ACT_NOTIFY");
  }
  TRY_ASSIGN(rules.archs, resolve_archs(profile));
  TRY_ASSIGN(rules.rules, resolve_rules(profile));
  TRY(check_actions(rules));
  std::vector<sock_filter> filters = make_range_program(rules);
  if (filters.empty()) {
    TRY_ASSIGN(filters, make_library_program(rules));
  }
  if (filters.size() > BPF_MAXINSNS) {
    return fail(Errc::kUnsupported,
                fmt::format("linux.seccomp: the profile makes {} instructions, the kernel takes {}",
                            filters.size(), BPF_MAXINSNS));
  }
  program.filters.assign(reinterpret_cast<const char*>(filters.data()),
                         filters.size() * sizeof(sock_filter));
  return program;
}

SeccompFeatures seccomp_features() {
  SeccompFeatures features;
  for (const Action& action : kActions) features.actions.emplace_back(action.name);
  for (const Operator& op : kOperators) features.operators.emplace_back(op.name);
  for (const Arch& arch : kArchs) {
    const uint32_t token = find_arch(arch.library_name);
    if (token != 0 && fits_native(token)) features.archs.emplace_back(arch.name);
  }
  for (const Flag& flag : kFlags) {
    features.known_flags.emplace_back(flag.name);
    if (kernel_supports(flag)) features.supported_flags.emplace_back(flag.name);
  }
  features.libseccomp_version = libseccomp_version();
  return features;
}

}  // namespace amphora::setup
