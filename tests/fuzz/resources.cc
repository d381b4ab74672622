// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: any bytes as LinuxResources, as `update` gets them, down to systemd's properties,
// v1's device lines and the device program of v2, which must decide as the rules read plainly do.
#include <linux/bpf.h>

#include "executor/cgroup/convert.h"
#include "executor/cgroup/device_rules.h"
#include "executor/cgroup/systemd_properties.h"
#include "executor/oci/spec.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;

struct Question {
  char type;
  uint32_t major, minor;
  uint8_t access;
};

/// Runs the device program; what the kernel's verifier would refuse ends the fuzzer.
bool run(const std::vector<bpf_insn>& program, const Question& asked) {
  const uint32_t kind = asked.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
  const uint32_t context[3] = {uint32_t{asked.access} << 16 | kind, asked.major, asked.minor};
  uint64_t reg[11] = {};
  for (size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& i = program[at];
    const auto imm = static_cast<uint32_t>(i.imm);
    switch (i.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        AMPHORA_CHECK(i.src_reg == 1 && i.off >= 0 && i.off <= 8);
        reg[i.dst_reg] = context[i.off / 4];
        break;
      case BPF_ALU | BPF_X | BPF_MOV:
        reg[i.dst_reg] = static_cast<uint32_t>(reg[i.src_reg]);
        break;
      case BPF_ALU64 | BPF_K | BPF_MOV:
        reg[i.dst_reg] = imm;
        break;
      case BPF_ALU | BPF_K | BPF_AND:
        reg[i.dst_reg] = static_cast<uint32_t>(reg[i.dst_reg]) & imm;
        break;
      case BPF_ALU | BPF_K | BPF_RSH:
        reg[i.dst_reg] = static_cast<uint32_t>(reg[i.dst_reg]) >> imm;
        break;
      case BPF_JMP | BPF_K | BPF_JNE:
      case BPF_JMP | BPF_K | BPF_JEQ:
      case BPF_JMP32 | BPF_K | BPF_JNE:
      case BPF_JMP32 | BPF_K | BPF_JEQ: {
        AMPHORA_CHECK(i.off > 0);
        // The 64 bit form extends the sign of its operand.
        const bool equal = BPF_CLASS(i.code) == BPF_JMP32
                               ? static_cast<uint32_t>(reg[i.dst_reg]) == imm
                               : reg[i.dst_reg] == static_cast<uint64_t>(int64_t{i.imm});
        if (equal == (BPF_OP(i.code) == BPF_JEQ)) at += static_cast<size_t>(i.off);
        break;
      }
      case BPF_JMP | BPF_EXIT:
        return reg[0] != 0;
      default:
        amphora::check_failed("an instruction that the generator does not use", __FILE__, __LINE__);
    }
  }
  amphora::check_failed("the program has no end", __FILE__, __LINE__);
}

/// For each bit asked for, the last rule that speaks about it decides.
bool read_plainly(const cgroup::DeviceFilter& filter, const Question& asked) {
  for (const uint8_t bit : {cgroup::kMknod, cgroup::kRead, cgroup::kWrite}) {
    if ((asked.access & bit) == 0) continue;
    bool allow = filter.default_allow;
    for (const cgroup::DeviceException& e : filter.exceptions) {
      const bool about = (e.type == 'a' || e.type == asked.type) &&
                         (!e.major || *e.major == asked.major) &&
                         (!e.minor || *e.minor == asked.minor) && (e.access & bit) != 0;
      if (about) allow = e.allow;
    }
    if (!allow) return false;
  }
  return true;
}

/// What the kernel makes of "c 1:3 rw" (devcgroup_update_access): all ones stand for any number.
cgroup::DeviceException v1_exception(std::string_view line) {
  cgroup::DeviceException e;
  e.type = fuzz::take(line, ' ').front();
  const auto number = [&](char end) -> std::optional<uint32_t> {
    const std::string word(fuzz::take(line, end));
    if (word == "*") return std::nullopt;
    const auto value = static_cast<uint32_t>(std::stoull(word));
    return value == UINT32_MAX ? std::nullopt : std::optional(value);
  };
  e.major = number(':');
  e.minor = number(' ');
  for (const char letter : line) {
    const unsigned bit = letter == 'r'   ? cgroup::kRead
                         : letter == 'w' ? cgroup::kWrite
                                         : cgroup::kMknod;
    e.access = static_cast<uint8_t>(e.access | bit);
  }
  return e;
}

/// devcgroup_check_permission: with an open default no exception may match in part, else one must
/// match in full.
bool v1_allows(const std::vector<cgroup::DeviceLine>& lines, const Question& asked) {
  const bool open = lines.front().allow;
  for (size_t at = 1; at < lines.size(); ++at) {
    AMPHORA_CHECK(lines[at].allow != open);
    const auto e = v1_exception(lines[at].text);
    const bool same = e.type == asked.type && (!e.major || *e.major == asked.major) &&
                      (!e.minor || *e.minor == asked.minor);
    if (!same) continue;
    if (open && (e.access & asked.access) != 0) return false;
    if (!open && (asked.access & ~e.access) == 0) return true;
  }
  return open;
}

void check_devices(const std::vector<oci::DeviceRule>& rules, size_t size) {
  const auto filter = cgroup::fold_device_rules(rules);
  fuzz::check_error(filter, size);
  if (!filter) return;
  const auto program = cgroup::device_program(*filter);
  const auto lines = cgroup::v1_device_lines(*filter);
  fuzz::check_error(lines, size);
  if (lines) AMPHORA_CHECK(!lines->empty() && lines->front().text == "a");
  // Every device that some rule names, and its neighbours.
  for (const cgroup::DeviceException& e : filter->exceptions) {
    const uint32_t major = e.major.value_or(42), minor = e.minor.value_or(42);
    for (const char type : {'c', 'b'}) {
      for (uint8_t access = 1; access <= cgroup::kAllAccess; ++access) {
        for (const auto& [x, y] :
             {std::pair{major, minor}, std::pair{major, minor + 1}, std::pair{major + 1, minor}}) {
          const Question asked{type, x, y, access};
          const bool allowed = read_plainly(*filter, asked);
          AMPHORA_CHECK(run(program, asked) == allowed);
          // v1 may hold less than was asked for (the runtime's own list in a deny), never more.
          AMPHORA_CHECK(!lines || allowed || !v1_allows(*lines, asked));
        }
      }
    }
  }
}

void check_numbers(const oci::Resources& resources, size_t size) {
  if (resources.memory) {
    const auto swap = cgroup::swap_max(*resources.memory);
    fuzz::check_error(swap, size);
    // A number of bytes, or all of them.
    if (swap && *swap) AMPHORA_CHECK(*swap == "max" || !(*swap)->starts_with('-'));
  }
  if (resources.cpu) {
    const uint64_t weight = cgroup::weight_from_shares(resources.cpu->shares.value_or(0));
    AMPHORA_CHECK(weight <= 10000 && (weight > 0) == (resources.cpu->shares.value_or(0) > 0));
    AMPHORA_CHECK(!cgroup::cpu_max_text(resources.cpu->quota, resources.cpu->period).empty());
    static_cast<void>(cgroup::quota_per_second(resources.cpu->quota.value_or(0),
                                               resources.cpu->period.value_or(100000)));
  }
  if (resources.block_io && resources.block_io->weight) {
    AMPHORA_CHECK(cgroup::io_weight_from_blkio(*resources.block_io->weight) <= 1000000);
  }
  for (const auto& [device, limit] : resources.rdma) {
    fuzz::check_error(cgroup::rdma_text(device, limit), size);
  }
  static_cast<void>(cgroup::has_limits(resources));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto resources = oci::parse_resources(fuzz::text_of(data, size));
  fuzz::check_error(resources, size);
  if (!resources) return 0;
  check_devices(resources->devices, size);
  check_numbers(*resources, size);
  for (const bool v2 : {true, false}) {
    const cgroup::UnitTarget target{
        .v2 = v2,
        .version = 252,
        .proc_devices = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n"};
    fuzz::check_error(cgroup::limit_properties(*resources, target), size);
    fuzz::check_error(cgroup::device_properties(resources->devices, target), size);
  }
  return 0;
}
