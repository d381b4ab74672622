// SPDX-License-Identifier: Apache-2.0
// Folding device rules. See device_rules.h.
#include "executor/cgroup/device_rules.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {
namespace {

struct OwnRule {
  char type;
  int major, minor;  // -1: any
  uint8_t access;
};
// Devices every container may use. tun is here because VPNs in containers broke when a runtime
// took it out once (runc #4555).
constexpr OwnRule kOwnRules[] = {
    {'c', -1, -1, kMknod},      {'b', -1, -1, kMknod},      {'c', 1, 3, kAllAccess},
    {'c', 1, 5, kAllAccess},    {'c', 1, 7, kAllAccess},    {'c', 1, 8, kAllAccess},
    {'c', 1, 9, kAllAccess},    {'c', 5, 0, kAllAccess},    {'c', 5, 2, kAllAccess},
    {'c', 136, -1, kAllAccess}, {'c', 10, 200, kAllAccess},
};

Result<uint8_t> parse_access(const std::string& text) {
  uint8_t access = 0;
  for (const char letter : text) {
    switch (letter) {
      case 'r':
        access |= kRead;
        break;
      case 'w':
        access |= kWrite;
        break;
      case 'm':
        access |= kMknod;
        break;
      default:
        return fail(Errc::kInvalid, fmt::format("device access \"{}\": not of r, w, m", text));
    }
  }
  if (access == 0) return fail(Errc::kInvalid, "device rule: access is empty");
  return access;
}

/// runc and the engines above it write -1 for "any".
Result<std::optional<uint32_t>> parse_number(std::optional<int64_t> number) {
  if (!number || *number == -1) return std::nullopt;
  // The highest one means "any" to v1.
  if (*number < 0 || *number >= UINT32_MAX) {
    return fail(Errc::kInvalid, fmt::format("device number {} is out of range", *number));
  }
  return static_cast<uint32_t>(*number);
}

std::string number_text(std::optional<uint32_t> number) {
  return number ? fmt::format_int(*number).str() : "*";
}

std::string access_text(uint8_t access) {
  std::string text;
  if ((access & kRead) != 0) text += 'r';
  if ((access & kWrite) != 0) text += 'w';
  if ((access & kMknod) != 0) text += 'm';
  return text;
}

std::string line_text(const DeviceException& rule) {
  return fmt::format("{} {}:{} {}", rule.type, number_text(rule.major), number_text(rule.minor),
                     access_text(rule.access));
}

constexpr uint32_t kAny = UINT32_MAX;  // parse_number lets nobody have it

/// The exceptions that a list is left with, in the order of their first mention. One access bit of one
/// device leaves it once for each time it came, so rules cost what a search costs, not one another.
class Exceptions {
 public:
  void add(const DeviceException& rule) {
    const Key key = key_of(rule);
    const auto [at, fresh] = places_.try_emplace(key, items_.size());
    if (fresh) {
      items_.push_back(rule);
    } else {
      items_[at->second].access |= rule.access;
    }
    for (Bit& bit : bits_) {
      if ((rule.access & bit.access) == 0) continue;
      bit.by_major.insert({key.type, key.major, key.minor});
      bit.by_minor.insert({key.type, key.minor, key.major});
    }
  }

  /// Takes `rule`, of the default's own kind, out. An exception that it covers loses the access; one that
  /// is broader would need a hole, which only our own rules do without.
  Result<void> subtract(const DeviceException& rule) {
    const Key key = key_of(rule);
    for (const Bit& bit : bits_) {
      if ((rule.access & bit.access) != 0 && !rule.own && is_narrower(key, bit)) {
        return narrows(rule);
      }
    }
    for (Bit& bit : bits_) {
      if ((rule.access & bit.access) != 0) take_out(key, bit);
    }
    return {};
  }

  std::vector<DeviceException> left() && {
    std::erase_if(items_, [](const DeviceException& e) { return e.access == 0; });
    return std::move(items_);
  }

 private:
  struct Key {
    char type;
    uint32_t major, minor;
    auto operator<=>(const Key&) const = default;
  };
  /// Those that have one access bit, by major number, and by minor (whose keys hold the two exchanged).
  struct Bit {
    uint8_t access;
    std::set<Key> by_major, by_minor;
  };

  static Key key_of(const DeviceException& rule) {
    return {rule.type, rule.major.value_or(kAny), rule.minor.value_or(kAny)};
  }
  static bool has_any(const std::set<Key>& set, char type, uint32_t first) {
    const auto at = set.lower_bound({type, first, 0});
    return at != set.end() && at->type == type && at->major == first;
  }

  /// Whether an exception covers `key`'s devices and more.
  static bool is_narrower(const Key& key, const Bit& bit) {
    if (key.major == kAny && key.minor == kAny) return false;
    if (key.minor == kAny) return has_any(bit.by_major, key.type, kAny);
    if (key.major == kAny) return has_any(bit.by_minor, key.type, kAny);
    return bit.by_major.contains({key.type, key.major, kAny}) ||
           bit.by_major.contains({key.type, kAny, key.minor}) ||
           bit.by_major.contains({key.type, kAny, kAny});
  }

  void take_out(const Key& key, Bit& bit) {
    // A minor number alone is looked for where minors come first.
    const bool by_minor = key.major == kAny && key.minor != kAny;
    const std::set<Key>& set = by_minor ? bit.by_minor : bit.by_major;
    Key first{key.type, by_minor ? key.minor : key.major, by_minor ? 0 : key.minor};
    if (!by_minor && key.minor == kAny) first.minor = 0;
    if (key.major == kAny && key.minor == kAny) first.major = 0;
    std::vector<Key> covered;
    for (auto at = set.lower_bound(first); at != set.end() && at->type == key.type; ++at) {
      const Key found = by_minor ? Key{at->type, at->minor, at->major} : *at;
      if ((key.major != kAny && found.major != key.major) ||
          (key.minor != kAny && found.minor != key.minor)) {
        break;
      }
      covered.push_back(found);
    }
    for (const Key& found : covered) lose(found, bit);
  }

  void lose(const Key& key, Bit& bit) {
    bit.by_major.erase(key);
    bit.by_minor.erase({key.type, key.minor, key.major});
    const auto place = places_.find(key);
    DeviceException& item = items_[place->second];
    item.access = static_cast<uint8_t>(item.access & ~bit.access);
    if (item.access == 0) places_.erase(place);
  }

  /// The error, which names the first that is in the way.
  Result<void> narrows(const DeviceException& rule) const {
    const auto meet = [](auto x, auto y) { return !x || !y || *x == *y; };
    const auto broader = std::ranges::find_if(items_, [&](const DeviceException& e) {
      const bool covered =
          (!rule.major || rule.major == e.major) && (!rule.minor || rule.minor == e.minor);
      return e.type == rule.type && !covered && meet(e.major, rule.major) &&
             meet(e.minor, rule.minor) && (e.access & rule.access) != 0;
    });
    return fail(Errc::kUnsupported,
                fmt::format("device rule {} \"{}\" narrows \"{}\", which cgroup v1 cannot express",
                            rule.allow ? "allow" : "deny", line_text(rule), line_text(*broader)));
  }

  std::vector<DeviceException> items_;
  std::map<Key, size_t> places_;
  Bit bits_[3] = {{kMknod, {}, {}}, {kRead, {}, {}}, {kWrite, {}, {}}};
};

}  // namespace

Result<DeviceFilter> fold_device_rules(const std::vector<oci::DeviceRule>& rules) {
  DeviceFilter filter;
  for (const oci::DeviceRule& rule : rules) {
    DeviceException exception;
    exception.allow = rule.allow;
    exception.type = rule.type == '\0' ? 'a' : rule.type;
    if (exception.type == 'u') exception.type = 'c';
    TRY_ASSIGN(exception.access, parse_access(rule.access));
    TRY_ASSIGN(exception.major, parse_number(rule.major));
    TRY_ASSIGN(exception.minor, parse_number(rule.minor));
    const bool everything = exception.type == 'a' && !exception.major && !exception.minor &&
                            exception.access == kAllAccess;
    if (everything) {
      filter.default_allow = rule.allow;
      filter.exceptions.clear();
    } else if (exception.type == 'a' || exception.type == 'c' || exception.type == 'b') {
      filter.exceptions.push_back(exception);
    } else {
      return fail(Errc::kInvalid, fmt::format("device type \"{}\": not a, b or c", exception.type));
    }
  }
  for (const OwnRule& own : kOwnRules) {
    DeviceException exception{true, own.type, std::nullopt, std::nullopt, own.access, true};
    if (own.major >= 0) exception.major = static_cast<uint32_t>(own.major);
    if (own.minor >= 0) exception.minor = static_cast<uint32_t>(own.minor);
    filter.exceptions.push_back(exception);
  }
  return filter;
}

Result<std::vector<DeviceLine>> v1_device_lines(const DeviceFilter& filter) {
  Exceptions held;
  for (const DeviceException& rule : filter.exceptions) {
    // v1 knows no type for "both": a line "a" always means everything, whatever follows it.
    std::vector<DeviceException> parts{rule};
    if (rule.type == 'a') {
      parts = {rule, rule};
      parts[0].type = 'c';
      parts[1].type = 'b';
    }
    for (const DeviceException& part : parts) {
      if (part.allow != filter.default_allow) {
        held.add(part);
      } else {
        TRY(held.subtract(part));
      }
    }
  }
  std::vector<DeviceLine> lines{{filter.default_allow, "a"}};
  for (const DeviceException& exception : std::move(held).left()) {
    lines.push_back({!filter.default_allow, line_text(exception)});
  }
  return lines;
}

namespace {

constexpr uint8_t kR0 = 0, kCtx = 1, kType = 2, kAccess = 3, kMajor = 4, kMinor = 5;

/// Makes the program, block by block; a jump with offset kNext is patched to the end of its block.
class Assembler {
 public:
  void load(uint8_t to, int16_t offset) { emit(BPF_LDX | BPF_MEM | BPF_W, to, kCtx, offset, 0); }
  void op(uint8_t code, uint8_t reg, int32_t imm) { emit(BPF_ALU | BPF_K | code, reg, 0, 0, imm); }
  void copy(uint8_t to, uint8_t from) { emit(BPF_ALU | BPF_X | BPF_MOV, to, from, 0, 0); }
  /// 32 bits wide: the 64 bit form extends the sign of the value, and the highest would never match.
  void skip_if(uint8_t code, uint8_t reg, uint32_t value) {
    emit(BPF_JMP32 | BPF_K | code, reg, 0, kNext, static_cast<int32_t>(value));
  }
  void finish(bool allow) {
    emit(BPF_ALU64 | BPF_K | BPF_MOV, kR0, 0, 0, allow ? 1 : 0);
    emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  }
  void end_block() {
    for (size_t at = block_; at < program.size(); ++at) {
      if (program[at].off == kNext) {
        program[at].off = static_cast<int16_t>(program.size() - at - 1);
      }
    }
    block_ = program.size();
  }
  std::vector<struct bpf_insn> program;

 private:
  static constexpr int16_t kNext = INT16_MAX;
  void emit(int code, uint8_t dst, uint8_t src, int16_t off, int32_t imm) {
    struct bpf_insn insn{};
    insn.code = static_cast<uint8_t>(code);
    insn.dst_reg = dst & 0xf;
    insn.src_reg = src & 0xf;
    insn.off = off;
    insn.imm = imm;
    program.push_back(insn);
  }
  size_t block_ = 0;
};

/// Bits of the asked access that an allow rule grants leave kAccess; none left means allowed. A deny
/// rule ends it when it speaks about a bit that is left. So a request for "rw" is served by two rules.
void emit_rule(Assembler& out, const DeviceException& rule) {
  if (rule.type != 'a') {
    out.skip_if(BPF_JNE, kType, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
  }
  if (rule.major) out.skip_if(BPF_JNE, kMajor, *rule.major);
  if (rule.minor) out.skip_if(BPF_JNE, kMinor, *rule.minor);
  if (rule.access != kAllAccess) {
    if (rule.allow) {
      out.op(BPF_AND, kAccess, kAllAccess & ~rule.access);
      out.skip_if(BPF_JNE, kAccess, 0);
    } else {
      out.copy(kR0, kAccess);
      out.op(BPF_AND, kR0, rule.access);
      out.skip_if(BPF_JEQ, kR0, 0);
    }
  }
  out.finish(rule.allow);
  out.end_block();
}

}  // namespace

std::vector<struct bpf_insn> device_program(const DeviceFilter& filter) {
  Assembler out;
  // struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
  out.load(kType, 0);
  out.copy(kAccess, kType);
  out.op(BPF_AND, kType, 0xffff);
  out.op(BPF_RSH, kAccess, 16);
  out.load(kMajor, 4);
  out.load(kMinor, 8);
  out.end_block();
  const auto& rules = filter.exceptions;
  for (size_t at = rules.size(); at-- > 0;) {
    const bool everything = rules[at].type == 'a' && !rules[at].major && !rules[at].minor &&
                            rules[at].access == kAllAccess;
    emit_rule(out, rules[at]);
    // The verifier refuses code that nothing reaches.
    if (everything) return std::move(out.program);
  }
  out.finish(filter.default_allow);
  return std::move(out.program);
}

}  // namespace amphora::cgroup
