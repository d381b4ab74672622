// SPDX-License-Identifier: Apache-2.0
// Seccomp profiles. See seccomp.h.
#include "executor/setup/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "executor/base/sys.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)  // 5.19
#endif

namespace amphora::setup {
namespace {

constexpr uint32_t kMaxArguments = 6;
constexpr uint32_t kMaxErrno = 4095;       // the kernel caps what SECCOMP_RET_ERRNO carries
constexpr uint32_t kX32Bit = 0x40000000U;  // __X32_SYSCALL_BIT
/// From this many syscalls on a binary tree beats the list; fewer, and libseccomp 2.5 makes
/// malformed trees of empty lists. The number is runc's.
constexpr size_t kTreeThreshold = 32;

struct ContextDeleter {
  void operator()(void* context) const noexcept { seccomp_release(context); }
};
using Context = std::unique_ptr<void, ContextDeleter>;

std::unexpected<Error> invalid(std::string text) { return fail(Errc::kInvalid, std::move(text)); }

struct Action {
  std::string_view name;
  uint32_t value;
  bool takes_errno;
};
constexpr std::array kActions = {
    Action{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW, false},
    Action{"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0), true},
    Action{"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD, false},
    Action{"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS, false},
    Action{"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD, false},
    Action{"SCMP_ACT_LOG", SCMP_ACT_LOG, false},
    Action{"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY, false},
    Action{"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0), true},
    Action{"SCMP_ACT_TRAP", SCMP_ACT_TRAP, false},
};

struct Operator {
  std::string_view name;
  scmp_compare value;
};
constexpr std::array kOperators = {
    Operator{"SCMP_CMP_EQ", SCMP_CMP_EQ}, Operator{"SCMP_CMP_GE", SCMP_CMP_GE},
    Operator{"SCMP_CMP_GT", SCMP_CMP_GT}, Operator{"SCMP_CMP_LE", SCMP_CMP_LE},
    Operator{"SCMP_CMP_LT", SCMP_CMP_LT}, Operator{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
    Operator{"SCMP_CMP_NE", SCMP_CMP_NE},
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
    return invalid(fmt::format("linux.seccomp.{}: \"{}\" is not a known action", member, name));
  }
  if (!action->takes_errno) {
    if (!errno_ret) return action->value;
    return invalid(fmt::format("linux.seccomp.{}: errnoRet {} with {}, which takes none", member,
                               *errno_ret, name));
  }
  const uint32_t value = errno_ret.value_or(EPERM);
  const uint32_t most = action->value == SCMP_ACT_ERRNO(0) ? kMaxErrno : UINT16_MAX;
  if (value > most) {
    return invalid(fmt::format("linux.seccomp.{}: errnoRet {} is above {}", member, value, most));
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
  std::vector<uint32_t> tokens = {seccomp_arch_native()};
  for (const std::string& name : profile.architectures) {
    const Arch* const arch = find(kArchs, name);
    if (arch == nullptr) {
      return invalid(fmt::format("linux.seccomp.architectures: \"{}\" is not known", name));
    }
    const uint32_t token = seccomp_arch_resolve_name(arch->library_name);
    if (token == 0) {
      return fail(Errc::kUnsupported,
                  fmt::format("linux.seccomp.architectures: {} is not known to libseccomp", name));
    }
    if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) tokens.push_back(token);
  }
  return tokens;
}

using Conditions = std::vector<scmp_arg_cmp>;

Result<Conditions> resolve_conditions(const oci::SyscallRule& rule) {
  Conditions conditions;
  for (const oci::SyscallArg& arg : rule.args) {
    if (arg.index >= kMaxArguments) {
      return invalid(fmt::format("argument index {} is above {}", arg.index, kMaxArguments - 1));
    }
    const Operator* const op = find(kOperators, arg.op);
    if (op == nullptr) return invalid(fmt::format("\"{}\" is not a known operator", arg.op));
    conditions.push_back({arg.index, op->value, arg.value, arg.value_two});
  }
  return conditions;
}

/// True when two conditions are about one argument. libseccomp takes no such rule; Docker's
/// profiles of old meant one rule for each condition (any of them matches), and so it stayed.
bool repeats_argument(const Conditions& conditions) noexcept {
  uint32_t seen = 0;
  for (const scmp_arg_cmp& condition : conditions) {
    const uint32_t bit = 1U << condition.arg;
    if ((seen & bit) != 0) return true;
    seen |= bit;
  }
  return false;
}

Result<void> add_rule(void* context, uint32_t action, int number, const scmp_arg_cmp* conditions,
                      size_t count) {
  const int error =
      seccomp_rule_add_array(context, action, number, static_cast<unsigned>(count), conditions);
  // The same rule a second time changes nothing.
  if (error == 0 || error == -EEXIST) return {};
  if (error == -EOPNOTSUPP) {
    return fail(Errc::kUnsupported, "this kernel does not support the action");
  }
  return std::unexpected(Error::from_errno(-error, "add the rule").as(Errc::kInvalid));
}

Result<void> add_syscall(void* context, const std::string& name, uint32_t action,
                         const Conditions& conditions) {
  if (name.empty()) return invalid("empty string is not a valid syscall");
  const int number = seccomp_syscall_resolve_name(name.c_str());
  // A syscall of another kernel's or library's time: profiles name those on purpose.
  if (number == __NR_SCMP_ERROR) return {};
  if (!repeats_argument(conditions)) {
    return add_rule(context, action, number, conditions.data(), conditions.size());
  }
  for (const scmp_arg_cmp& condition : conditions) {
    TRY(add_rule(context, action, number, &condition, 1));
  }
  return {};
}

Result<void> add_rules(void* context, const oci::Seccomp& profile, uint32_t default_action) {
  for (size_t i = 0; i < profile.syscalls.size(); ++i) {
    const oci::SyscallRule& rule = profile.syscalls[i];
    TRY_ASSIGN(const uint32_t action,
               resolve_action(rule.action, rule.errno_ret, fmt::format("syscalls[{}].action", i)));
    auto conditions = resolve_conditions(rule);
    if (!conditions) {
      return std::unexpected(
          std::move(conditions).error().context(fmt::format("linux.seccomp.syscalls[{}].args", i)));
    }
    if (action == default_action) continue;  // libseccomp refuses the redundant
    for (const std::string& name : rule.names) {
      if (auto added = add_syscall(context, name, action, *conditions); !added) {
        return std::unexpected(std::move(added).error().context(
            fmt::format("linux.seccomp.syscalls[{}]: {} for \"{}\"", i, rule.action, name)));
      }
    }
  }
  return {};
}

constexpr sock_filter statement(unsigned code, uint32_t value) noexcept {
  return {static_cast<uint16_t>(code), 0, 0, value};
}
constexpr sock_filter jump(unsigned condition, uint32_t value, unsigned on_true,
                           unsigned on_false) noexcept {
  return {static_cast<uint16_t>(BPF_JMP | BPF_K | condition), static_cast<uint8_t>(on_true),
          static_cast<uint8_t>(on_false), value};
}

/// The highest syscall numbers that the profile names, whatever it says of them; 0: none.
/// x86_64 and x32 share a value of seccomp_data.arch, hence two numbers in a section.
struct Section {
  uint32_t audit_arch = 0;
  uint32_t highest = 0, highest_x32 = 0;
};

uint32_t highest_number(const oci::Seccomp& profile, uint32_t arch) {
  int highest = 0;
  for (const oci::SyscallRule& rule : profile.syscalls) {
    for (const std::string& name : rule.names) {
      highest = std::max(highest, seccomp_syscall_resolve_name_arch(arch, name.c_str()));
    }
  }
  return static_cast<uint32_t>(highest);
}

std::vector<Section> find_sections(const oci::Seccomp& profile,
                                   const std::vector<uint32_t>& archs) {
  std::vector<Section> sections;
  for (const uint32_t arch : archs) {
    const bool x32 = arch == SCMP_ARCH_X32;
    const uint32_t audit_arch = x32 ? AUDIT_ARCH_X86_64 : arch;
    auto at = std::find_if(sections.begin(), sections.end(),
                           [&](const Section& s) { return s.audit_arch == audit_arch; });
    if (at == sections.end()) at = sections.insert(at, Section{.audit_arch = audit_arch});
    (x32 ? at->highest_x32 : at->highest) = highest_number(profile, arch);
  }
  std::erase_if(sections, [](const Section& s) { return s.highest == 0 && s.highest_x32 == 0; });
  return sections;
}

/// One architecture's part of the stub. Entered with seccomp_data.arch loaded; leaves to what
/// follows it with arch still loaded when it is another architecture's, else jumps over `rest`
/// instructions (the sections behind it) into the filter.
void append_section(std::vector<sock_filter>& code, const Section& section, uint32_t rest) {
  std::vector<sock_filter> body;
  body.push_back(statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  const sock_filter enosys = statement(BPF_RET | BPF_K, SCMP_ACT_ERRNO(ENOSYS));
  const bool s390 = section.audit_arch == AUDIT_ARCH_S390 || section.audit_arch == AUDIT_ARCH_S390X;
  if (s390) {
    // Number 0 (setup, long unused) stands for every number the kernel's own entry does not know.
    body.push_back(jump(BPF_JEQ, 0, 0, 1));
    body.push_back(enosys);
  }
  // Distances below count to: [check x32] [check] [ENOSYS] [into the filter].
  const bool both = section.highest != 0 && section.highest_x32 != 0;
  if (both) {
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
  code.push_back(jump(BPF_JEQ, section.audit_arch, 0, static_cast<unsigned>(body.size())));
  code.insert(code.end(), body.begin(), body.end());
}

/// Syscalls that are younger than the profile get ENOSYS instead of its default action, so that
/// libc falls back as on an old kernel: numbers above the highest that the profile names.
std::vector<sock_filter> make_enosys_stub(const std::vector<Section>& sections) {
  // From the last to the first, as each needs the length of all behind it.
  std::vector<sock_filter> code;
  for (auto at = sections.rbegin(); at != sections.rend(); ++at) {
    std::vector<sock_filter> front;
    append_section(front, *at, static_cast<uint32_t>(code.size()));
    code.insert(code.begin(), front.begin(), front.end());
  }
  if (!code.empty()) {
    code.insert(code.begin(), statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
  }
  return code;
}

/// Not wanted where the default lets the syscall through anyway, or says the same.
bool wants_stub(uint32_t default_action) noexcept {
  const uint32_t kind = default_action & SECCOMP_RET_ACTION_FULL;
  // A tracer is expected to handle what it does not know by itself.
  return kind != SCMP_ACT_ALLOW && kind != SCMP_ACT_LOG && kind != SCMP_ACT_TRACE(0) &&
         default_action != SCMP_ACT_ERRNO(ENOSYS);
}

/// libseccomp writes programs to descriptors only.
Result<std::string> export_program(void* context) {
  const UniqueFd fd(sys::memfd_create("seccomp", MFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "make a memfd for the seccomp program");
  if (const int error = seccomp_export_bpf(context, fd.get()); error != 0) {
    return fail_errno(-error, "generate the seccomp program");
  }
  const off_t size = ::lseek(fd.get(), 0, SEEK_END);
  std::string program(static_cast<size_t>(std::max<off_t>(size, 0)), '\0');
  const ssize_t n = ::pread(fd.get(), program.data(), program.size(), 0);
  if (n < 0 || static_cast<size_t>(n) != program.size() || n % sizeof(sock_filter) != 0) {
    return fail_errno(n < 0 ? errno : EIO, "read the seccomp program");
  }
  return program;
}

Result<Context> make_context(const oci::Seccomp& profile, uint32_t default_action,
                             const std::vector<uint32_t>& archs) {
  Context context(seccomp_init(default_action));
  if (!context) {
    return fail(Errc::kUnsupported, fmt::format("linux.seccomp.defaultAction: {} is not supported",
                                                profile.default_action));
  }
  for (const uint32_t arch : archs) {
    const int error = seccomp_arch_add(context.get(), arch);
    if (error != 0 && error != -EEXIST) {
      return fail_errno(-error, "linux.seccomp.architectures: add an architecture");
    }
  }
  size_t names = 0;
  for (const oci::SyscallRule& rule : profile.syscalls) names += rule.names.size();
  // A libseccomp without the optimiser makes a list, which decides the same.
  if (names > kTreeThreshold) seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  return context;
}

/// Appends a string so that no two lists of strings make the same key.
void append_text(std::string& key, std::string_view text) {
  const uint64_t size = text.size();
  key.append(reinterpret_cast<const char*>(&size), sizeof size).append(text);
}
void append_number(std::string& key, uint64_t value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof value);
}
/// nullopt and every value differ.
void append_optional(std::string& key, std::optional<uint32_t> value) {
  append_number(key, value ? uint64_t{*value} : UINT64_MAX);
}
void append_list(std::string& key, const std::vector<std::string>& list) {
  append_number(key, list.size());
  for (const std::string& text : list) append_text(key, text);
}

std::string make_key(const oci::Seccomp& profile) {
  std::string key;
  key.reserve(16384);
  append_text(key, profile.default_action);
  append_optional(key, profile.default_errno_ret);
  append_list(key, profile.architectures);
  append_number(key, profile.flags ? 1 : 0);
  append_list(key, profile.flags.value_or(std::vector<std::string>()));
  append_text(key, profile.listener_path);
  append_text(key, profile.listener_metadata);
  for (const oci::SyscallRule& rule : profile.syscalls) {
    append_list(key, rule.names);
    append_text(key, rule.action);
    append_optional(key, rule.errno_ret);
    append_number(key, rule.args.size());
    for (const oci::SyscallArg& arg : rule.args) {
      append_number(key, arg.index);
      append_number(key, arg.value);
      append_number(key, arg.value_two);
      append_text(key, arg.op);
    }
  }
  return key;
}

}  // namespace

Result<SeccompProgram> compile_seccomp(const oci::Seccomp& profile) {
  SeccompProgram program;
  if (profile.default_action.empty() && profile.syscalls.empty()) return program;
  TRY_ASSIGN(const uint32_t default_action,
             resolve_action(profile.default_action, profile.default_errno_ret, "defaultAction"));
  TRY_ASSIGN(program.notify, check_notify(profile));
  TRY_ASSIGN(program.flags, resolve_flags(profile));
  if (program.notify) {
    program.flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  } else if ((program.flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0) {
    return invalid(
        "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without a rule "
        "that has SCMP_ACT_NOTIFY");
  }
  TRY_ASSIGN(const std::vector<uint32_t> archs, resolve_archs(profile));
  TRY_ASSIGN(const Context context, make_context(profile, default_action, archs));
  TRY(add_rules(context.get(), profile, default_action));
  TRY_ASSIGN(const std::string filter, export_program(context.get()));
  std::vector<sock_filter> stub;
  if (wants_stub(default_action)) stub = make_enosys_stub(find_sections(profile, archs));
  program.filters.assign(reinterpret_cast<const char*>(stub.data()),
                         stub.size() * sizeof(sock_filter));
  program.filters += filter;
  if (program.count() > BPF_MAXINSNS) {
    return fail(Errc::kUnsupported,
                fmt::format("linux.seccomp: the profile makes {} instructions, the kernel takes {}",
                            program.count(), BPF_MAXINSNS));
  }
  return program;
}

Result<SeccompProgram> SeccompCache::compile(const oci::Seccomp& profile) {
  std::string key = make_key(profile);
  {
    const std::lock_guard lock(mutex_);
    if (key == key_) return program_;
  }
  TRY_ASSIGN(SeccompProgram program, compile_seccomp(profile));
  const std::lock_guard lock(mutex_);
  key_ = std::move(key);
  program_ = program;
  return program;
}

SeccompFeatures seccomp_features() {
  SeccompFeatures features;
  for (const Action& action : kActions) features.actions.emplace_back(action.name);
  for (const Operator& op : kOperators) features.operators.emplace_back(op.name);
  for (const Arch& arch : kArchs) {
    if (seccomp_arch_resolve_name(arch.library_name) != 0) features.archs.emplace_back(arch.name);
  }
  for (const Flag& flag : kFlags) {
    features.known_flags.emplace_back(flag.name);
    if (kernel_supports(flag)) features.supported_flags.emplace_back(flag.name);
  }
  if (const scmp_version* const version = seccomp_version(); version != nullptr) {
    features.libseccomp_version =
        fmt::format("{}.{}.{}", version->major, version->minor, version->micro);
  }
  return features;
}

}  // namespace amphora::setup
