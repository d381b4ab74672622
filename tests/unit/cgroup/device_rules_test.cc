// SPDX-License-Identifier: Apache-2.0
// Device rules: v1's lines, and v2's program run by an interpreter of the few instructions it uses,
// compared with the plain reading of the rules.
#include "executor/cgroup/device_rules.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace amphora::cgroup {
namespace {

struct Request {
  char type;
  uint32_t major, minor;
  uint8_t access;
};

/// Runs the program; -1 when it does something that the kernel's verifier would refuse.
int run(const std::vector<struct bpf_insn>& program, const Request& request) {
  const uint32_t kind = request.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
  const uint32_t context[3] = {uint32_t{request.access} << 16 | kind, request.major, request.minor};
  uint64_t reg[11] = {};
  bool known[11] = {};
  known[1] = true;
  for (size_t at = 0, steps = 0; at < program.size() && steps < 10000; ++at, ++steps) {
    const struct bpf_insn& insn = program[at];
    const auto imm = static_cast<uint32_t>(insn.imm);
    const bool from_reg = (insn.code & BPF_X) != 0 && BPF_CLASS(insn.code) != BPF_LDX;
    if (from_reg && !known[insn.src_reg]) return -1;
    switch (insn.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        if (insn.src_reg != 1 || insn.off < 0 || insn.off > 8) return -1;
        reg[insn.dst_reg] = context[insn.off / 4];
        break;
      case BPF_ALU | BPF_X | BPF_MOV:
        reg[insn.dst_reg] = uint32_t(reg[insn.src_reg]);
        break;
      case BPF_ALU64 | BPF_K | BPF_MOV:
        reg[insn.dst_reg] = imm;
        break;
      case BPF_ALU | BPF_K | BPF_AND:
        if (!known[insn.dst_reg]) return -1;
        reg[insn.dst_reg] = uint32_t(reg[insn.dst_reg]) & imm;
        break;
      case BPF_ALU | BPF_K | BPF_RSH:
        if (!known[insn.dst_reg]) return -1;
        reg[insn.dst_reg] = uint32_t(reg[insn.dst_reg]) >> imm;
        break;
      case BPF_JMP32 | BPF_K | BPF_JNE:
      case BPF_JMP32 | BPF_K | BPF_JEQ: {
        if (!known[insn.dst_reg] || insn.off <= 0) return -1;
        const bool equal = static_cast<uint32_t>(reg[insn.dst_reg]) == imm;
        if (equal == (BPF_OP(insn.code) == BPF_JEQ)) at += static_cast<size_t>(insn.off);
        continue;
      }
      case BPF_JMP | BPF_EXIT:
        return known[0] ? static_cast<int>(reg[0]) : -1;
      default:
        return -1;
    }
    known[insn.dst_reg] = true;
  }
  return -1;
}

/// The rules read plainly: for each bit asked for, the last rule that speaks about it decides.
int expected(const DeviceFilter& filter, const Request& request) {
  for (const uint8_t bit : {kMknod, kRead, kWrite}) {
    if ((request.access & bit) == 0) continue;
    bool allow = filter.default_allow;
    for (const DeviceException& e : filter.exceptions) {
      const bool match = (e.type == 'a' || e.type == request.type) &&
                         (!e.major || *e.major == request.major) &&
                         (!e.minor || *e.minor == request.minor) && (e.access & bit) != 0;
      if (match) allow = e.allow;
    }
    if (!allow) return 0;
  }
  return 1;
}

oci::DeviceRule rule(bool allow, char type, int64_t major, int64_t minor, const char* access) {
  oci::DeviceRule out{allow, type, {}, {}, access};
  if (major >= 0) out.major = major;
  if (minor >= 0) out.minor = minor;
  return out;
}
const oci::DeviceRule kDenyAll = rule(false, 'a', -1, -1, "rwm");
const oci::DeviceRule kAllowAll = rule(true, 'a', -1, -1, "rwm");

DeviceFilter folded(const std::vector<oci::DeviceRule>& rules) {
  auto filter = fold_device_rules(rules);
  EXPECT_TRUE(filter) << filter.error().what();
  return std::move(*filter);
}

std::string lines_of(const std::vector<oci::DeviceRule>& rules) {
  const auto lines = v1_device_lines(folded(rules));
  if (!lines) return "error: " + lines.error().what();
  std::string text;
  for (const DeviceLine& line : *lines) {
    text += (line.allow ? "allow " : "deny ") + line.text + "\n";
  }
  return text;
}

constexpr const char* kOwnLines =
    "allow c *:* m\nallow b *:* m\nallow c 1:3 rwm\nallow c 1:5 rwm\nallow c 1:7 rwm\n"
    "allow c 1:8 rwm\nallow c 1:9 rwm\nallow c 5:0 rwm\nallow c 5:2 rwm\nallow c 136:* rwm\n"
    "allow c 10:200 rwm\n";

TEST(DeviceLines, DefaultContainerGetsTheRuntimesList) {
  EXPECT_EQ(lines_of({kDenyAll}), std::string("deny a\n") + kOwnLines);
  EXPECT_EQ(lines_of({}), std::string("deny a\n") + kOwnLines);
}

TEST(DeviceLines, PrivilegedContainerIsOneLine) {
  EXPECT_EQ(lines_of({kAllowAll}), "allow a\n");
  EXPECT_EQ(lines_of({kDenyAll, rule(true, 'c', 9, 9, "r"), kAllowAll}), "allow a\n");
}

TEST(DeviceLines, SameDeviceIsMergedAndDeniedBitsLeave) {
  EXPECT_EQ(lines_of({kDenyAll, rule(true, 'c', 10, 229, "r"), rule(true, 'c', 10, 229, "w")}),
            std::string("deny a\nallow c 10:229 rw\n") + kOwnLines);
  EXPECT_EQ(lines_of({kDenyAll, rule(true, 'c', 10, 229, "rw"), rule(false, 'c', 10, -1, "w")}),
            std::string("deny a\nallow c 10:229 r\n") + kOwnLines);
  EXPECT_EQ(lines_of({kAllowAll, rule(false, 'b', 8, 0, "rwm")}), "allow a\ndeny b 8:0 rw\n");
}

TEST(DeviceLines, BothTypesAreTwoLinesOnV1) {
  EXPECT_EQ(lines_of({kAllowAll, rule(false, 'a', 8, 0, "w")}),
            "allow a\ndeny c 8:0 w\ndeny b 8:0 w\n");
}

TEST(DeviceLines, DenyInsideABroaderAllowIsRefused) {
  EXPECT_EQ(lines_of({kDenyAll, rule(true, 'b', 8, -1, "rwm"), rule(false, 'b', 8, 1, "w")}),
            "error: device rule deny \"b 8:1 w\" narrows \"b 8:* rwm\", which cgroup v1 cannot "
            "express");
}

/// What the lines say, written down the plain way: one rule after the other against all that is held.
std::string plain_lines(const DeviceFilter& filter) {
  const auto any_or = [](auto x, auto y) { return !x || !y || *x == *y; };
  std::vector<DeviceException> held;
  for (const DeviceException& rule : filter.exceptions) {
    for (const char type : {'c', 'b'}) {
      if (rule.type != 'a' && rule.type != type) continue;
      if (rule.allow != filter.default_allow) {
        const auto same = std::ranges::find_if(held, [&](const DeviceException& e) {
          return e.type == type && e.major == rule.major && e.minor == rule.minor;
        });
        if (same != held.end()) {
          same->access |= rule.access;
        } else {
          held.push_back(rule);
          held.back().type = type;
        }
        continue;
      }
      for (DeviceException& e : held) {
        if (e.type != type || !any_or(e.major, rule.major) || !any_or(e.minor, rule.minor) ||
            (e.access & rule.access) == 0) {
          continue;
        }
        const bool covered =
            (!rule.major || rule.major == e.major) && (!rule.minor || rule.minor == e.minor);
        if (covered) e.access = static_cast<uint8_t>(e.access & ~rule.access);
        if (!covered && !rule.own) return "error";
      }
      std::erase_if(held, [](const DeviceException& e) { return e.access == 0; });
    }
  }
  std::string text;
  for (const DeviceException& e : held) {
    const auto number = [](const auto& n) { return n ? std::to_string(*n) : std::string("*"); };
    text += std::string(1, e.type) + " " + number(e.major) + ":" + number(e.minor) + " ";
    if ((e.access & kRead) != 0) text += 'r';
    if ((e.access & kWrite) != 0) text += 'w';
    if ((e.access & kMknod) != 0) text += 'm';
    text += "\n";
  }
  return text;
}

TEST(DeviceLines, RandomRulesGiveWhatThePlainWayGives) {
  std::mt19937 random(7);
  const auto pick = [&](auto... values) {
    const int64_t all[] = {values...};
    return all[random() % sizeof...(values)];
  };
  int errors = 0;
  for (int round = 0; round < 4000; ++round) {
    DeviceFilter filter;
    filter.default_allow = pick(0, 1) != 0;
    for (int64_t n = pick(1, 3, 8, 20); n > 0; --n) {
      DeviceException e;
      // Mostly of the kind that is held: few lists survive many rules of both.
      e.allow = pick(0, 0, 0, 1) != 0 ? filter.default_allow : !filter.default_allow;
      e.type = static_cast<char>(pick('a', 'b', 'c', 'c'));
      if (pick(0, 1, 1) != 0) e.major = static_cast<uint32_t>(pick(1, 8));
      if (pick(0, 1, 1) != 0) e.minor = static_cast<uint32_t>(pick(0, 1, 3));
      e.access = static_cast<uint8_t>(pick(1, 2, 3, 4, 5, 6, 7));
      e.own = pick(0, 0, 1) != 0;
      filter.exceptions.push_back(e);
    }
    const auto lines = v1_device_lines(filter);
    std::string text;
    for (const DeviceLine& line : lines ? *lines : std::vector<DeviceLine>()) {
      if (line.text != "a") text += line.text + "\n";
    }
    errors += lines ? 0 : 1;
    ASSERT_EQ(lines ? text : "error", plain_lines(filter)) << "round " << round;
  }
  EXPECT_GT(errors, 100);
  EXPECT_LT(errors, 3000);
}

TEST(DeviceLines, AHundredThousandRulesTakeNoMinute) {
  DeviceFilter filter;
  for (uint32_t n = 0; n < 50000; ++n) {
    filter.exceptions.push_back({true, 'c', n % 300, n, kAllAccess, false});
    filter.exceptions.push_back({false, 'c', n % 7, n / 2, kWrite, false});
  }
  const auto lines = v1_device_lines(filter);
  ASSERT_TRUE(lines);
  EXPECT_EQ(lines->size(), 50001u);
}

TEST(DeviceRules, MalformedOnesAreRefused) {
  const auto text = [](oci::DeviceRule r) { return fold_device_rules({r}).error().what(); };
  EXPECT_EQ(text(rule(true, 'c', 1, 3, "")), "device rule: access is empty");
  EXPECT_EQ(text(rule(true, 'c', 1, 3, "rx")), "device access \"rx\": not of r, w, m");
  EXPECT_EQ(text(rule(true, 'p', 1, 3, "r")), "device type \"p\": not a, b or c");
  EXPECT_EQ(text(rule(true, 'c', int64_t{1} << 40, 3, "r")),
            "device number 1099511627776 is out of range");
  EXPECT_EQ(text(rule(true, 'c', 4294967295, 3, "r")), "device number 4294967295 is out of range")
      << "v1 would take it for any";
}

void compare(const DeviceFilter& filter) {
  const auto program = device_program(filter);
  for (const char type : {'c', 'b'}) {
    for (const uint32_t major : {1u, 5u, 8u, 10u, 136u, 250u}) {
      for (const uint32_t minor : {0u, 1u, 3u, 200u, 4095u}) {
        for (uint8_t access = 1; access <= 7; ++access) {
          const Request request{type, major, minor, access};
          ASSERT_EQ(run(program, request), expected(filter, request))
              << type << " " << major << ":" << minor << " access " << int{access};
        }
      }
    }
  }
}

TEST(DeviceProgram, DefaultAndPrivileged) {
  compare(folded({kDenyAll}));
  compare(folded({kAllowAll}));
  EXPECT_EQ(run(device_program(folded({kDenyAll})), {'c', 1, 3, kRead | kWrite}), 1);
  EXPECT_EQ(run(device_program(folded({kDenyAll})), {'c', 1, 1, kRead}), 0);
  EXPECT_EQ(run(device_program(folded({kDenyAll})), {'b', 8, 0, kMknod}), 1);
  EXPECT_EQ(run(device_program(folded({kDenyAll})), {'b', 8, 0, kMknod | kRead}), 0);
}

TEST(DeviceProgram, TwoRulesServeOneRequestAndDenyWins) {
  const auto split = folded({kDenyAll, rule(true, 'b', 8, 1, "r"), rule(true, 'b', 8, 1, "w")});
  EXPECT_EQ(run(device_program(split), {'b', 8, 1, kRead | kWrite}), 1);
  const auto deny = folded({kDenyAll, rule(true, 'b', 8, -1, "rwm"), rule(false, 'b', 8, 1, "w")});
  EXPECT_EQ(run(device_program(deny), {'b', 8, 1, kRead | kWrite}), 0);
  EXPECT_EQ(run(device_program(deny), {'b', 8, 1, kRead}), 1);
  EXPECT_EQ(run(device_program(deny), {'b', 8, 3, kRead | kWrite}), 1);
}

TEST(DeviceProgram, HighNumbersAreNoNegativeOnes) {
  const auto high = folded({kDenyAll, rule(true, 'b', 4294967294, 2147483648, "r")});
  EXPECT_EQ(run(device_program(high), {'b', 4294967294, 2147483648, kRead}), 1);
  EXPECT_EQ(run(device_program(high), {'b', 4294967294, 2147483647, kRead}), 0);
}

TEST(DeviceProgram, RandomRulesBehaveAsTheyRead) {
  std::mt19937 random(20);
  const auto pick = [&](auto... values) {
    const int64_t all[] = {values...};
    return all[random() % sizeof...(values)];
  };
  for (int round = 0; round < 200; ++round) {
    DeviceFilter filter;
    filter.default_allow = pick(0, 1) != 0;
    for (int64_t n = pick(0, 1, 3, 8); n > 0; --n) {
      DeviceException e;
      e.allow = pick(0, 1) != 0;
      e.type = static_cast<char>(pick('a', 'b', 'c'));
      if (pick(0, 1) != 0) e.major = static_cast<uint32_t>(pick(1, 5, 8, 136));
      if (pick(0, 1) != 0) e.minor = static_cast<uint32_t>(pick(0, 1, 3, 200));
      e.access = static_cast<uint8_t>(pick(1, 2, 3, 4, 5, 6, 7));
      filter.exceptions.push_back(e);
    }
    compare(filter);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace amphora::cgroup
