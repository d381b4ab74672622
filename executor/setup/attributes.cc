// SPDX-License-Identifier: Apache-2.0
// Process attributes. See attributes.h.
#include "executor/setup/attributes.h"

#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::setup {
namespace {

/// More CPUs or nodes than any kernel has; bounds what a list can make us allocate. As runc's.
constexpr unsigned kMaxMember = 65536;
constexpr size_t kBitsPerWord = 8 * sizeof(unsigned long);

struct Word {
  std::string_view name;
  uint64_t value;
};

std::optional<uint64_t> find(std::span<const Word> words, std::string_view name) noexcept {
  for (const Word& word : words) {
    if (word.name == name) return word.value;
  }
  return std::nullopt;
}

std::vector<std::string> names(std::span<const Word> words) {
  std::vector<std::string> result;
  for (const Word& word : words) result.emplace_back(word.name);
  std::sort(result.begin(), result.end());
  return result;
}

std::unexpected<Error> invalid(std::string text) { return fail(Errc::kInvalid, std::move(text)); }

constexpr std::array kRlimits = {
    Word{"RLIMIT_AS", RLIMIT_AS},
    Word{"RLIMIT_CORE", RLIMIT_CORE},
    Word{"RLIMIT_CPU", RLIMIT_CPU},
    Word{"RLIMIT_DATA", RLIMIT_DATA},
    Word{"RLIMIT_FSIZE", RLIMIT_FSIZE},
    Word{"RLIMIT_LOCKS", RLIMIT_LOCKS},
    Word{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    Word{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    Word{"RLIMIT_NICE", RLIMIT_NICE},
    Word{"RLIMIT_NOFILE", RLIMIT_NOFILE},
    Word{"RLIMIT_NPROC", RLIMIT_NPROC},
    Word{"RLIMIT_RSS", RLIMIT_RSS},
    Word{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    Word{"RLIMIT_RTTIME", RLIMIT_RTTIME},
    Word{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    Word{"RLIMIT_STACK", RLIMIT_STACK},
};

constexpr std::array kPolicies = {
    Word{"SCHED_OTHER", SCHED_NORMAL},
    Word{"SCHED_FIFO", SCHED_FIFO},
    Word{"SCHED_RR", SCHED_RR},
    Word{"SCHED_BATCH", SCHED_BATCH},
    Word{"SCHED_ISO", 4},  // reserved by the kernel, which will refuse it
    Word{"SCHED_IDLE", SCHED_IDLE},
    Word{"SCHED_DEADLINE", SCHED_DEADLINE},
};
constexpr std::array kSchedFlags = {
    Word{"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
    Word{"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
    Word{"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
    Word{"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
    Word{"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
    Word{"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
    Word{"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
};

/// struct sched_attr in its first, 48 byte version, which every kernel takes; the utilisation
/// clamps of the second have no values in the spec. (<linux/sched/types.h> clashes with libc's
/// <sched.h>.)
struct SchedAttr {
  uint32_t size = 48;
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
};
static_assert(sizeof(SchedAttr) == 48);

// linux/ioprio.h, which is no C++ since Debian's 6.1.192 (a parameter called class).
constexpr int kIoprioClassShift = 13;
constexpr int kIoprioClassRealtime = 1;
constexpr int kIoprioClassBestEffort = 2;
constexpr int kIoprioClassIdle = 3;

constexpr std::array kIoClasses = {
    Word{"IOPRIO_CLASS_RT", kIoprioClassRealtime},
    Word{"IOPRIO_CLASS_BE", kIoprioClassBestEffort},
    Word{"IOPRIO_CLASS_IDLE", kIoprioClassIdle},
};

constexpr uint64_t kWeightedInterleave = 6;  // MPOL_WEIGHTED_INTERLEAVE, 6.9
constexpr std::array kMemoryModes = {
    Word{"MPOL_DEFAULT", MPOL_DEFAULT},
    Word{"MPOL_PREFERRED", MPOL_PREFERRED},
    Word{"MPOL_BIND", MPOL_BIND},
    Word{"MPOL_INTERLEAVE", MPOL_INTERLEAVE},
    Word{"MPOL_LOCAL", MPOL_LOCAL},
    Word{"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY},
    Word{"MPOL_WEIGHTED_INTERLEAVE", kWeightedInterleave},
};
constexpr std::array kMemoryFlags = {
    Word{"MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES},
    Word{"MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES},
    Word{"MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING},
};

constexpr std::string_view kNodes = "linux.memoryPolicy.nodes: invalid memory policy node";

Result<void> check_scheduler(const oci::Scheduler& s) {
  if (s.policy.empty()) return invalid("process.scheduler.policy: missing");
  const bool nice_counts = s.policy == "SCHED_OTHER" || s.policy == "SCHED_BATCH";
  if (nice_counts && (s.nice < -20 || s.nice > 19)) {
    return invalid(fmt::format("process.scheduler.nice: {} is not within -20 to 19", s.nice));
  }
  const bool realtime = s.policy == "SCHED_FIFO" || s.policy == "SCHED_RR";
  if (s.priority != 0 && !realtime) {
    return invalid(
        fmt::format("process.scheduler.priority: {} with {}, but only SCHED_FIFO and "
                    "SCHED_RR take one",
                    s.priority, s.policy));
  }
  if (s.priority < 0) {
    return invalid(fmt::format("process.scheduler.priority: {} is negative", s.priority));
  }
  if (s.policy != "SCHED_DEADLINE" && (s.runtime | s.deadline | s.period) != 0) {
    return invalid(
        fmt::format("process.scheduler: runtime, deadline and period with {}, but only "
                    "SCHED_DEADLINE takes them",
                    s.policy));
  }
  return {};
}

struct Range {
  unsigned first = 0, last = 0;
};

std::optional<unsigned> parse_number(std::string_view text) noexcept {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "5" or "0-3".
std::optional<Range> parse_range(std::string_view text) noexcept {
  const size_t dash = text.find('-');
  const std::optional<unsigned> first = parse_number(text.substr(0, dash));
  const std::optional<unsigned> last =
      dash == std::string_view::npos ? first : parse_number(text.substr(dash + 1));
  if (!first || !last || *first > *last || *last > kMaxMember) return std::nullopt;
  return Range{*first, *last};
}

std::string_view trim(std::string_view text) noexcept {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

Result<std::vector<Range>> parse_ranges(std::string_view list, std::string_view noun) {
  std::vector<Range> ranges;
  for (std::string_view rest = list; !rest.empty();) {
    const size_t comma = rest.find(',');
    const std::string_view part = trim(rest.substr(0, comma));
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
    if (part.empty()) continue;  // as runc: ",0,1,"
    const std::optional<Range> range = parse_range(part);
    if (!range) {
      return invalid(fmt::format("{}: \"{}\": \"{}\" is no number or range up to {}", noun, list,
                                 part, kMaxMember));
    }
    ranges.push_back(*range);
  }
  if (ranges.empty()) return invalid(fmt::format("{}: \"{}\" has no members", noun, list));
  return ranges;
}

}  // namespace

Result<int> rlimit_number(std::string_view type) {
  const std::optional<uint64_t> number = find(kRlimits, type);
  if (!number) return invalid(fmt::format("invalid rlimit type: \"{}\"", type));
  return static_cast<int>(*number);
}

Result<std::string> make_scheduler(const oci::Scheduler& scheduler) {
  TRY(check_scheduler(scheduler));
  const std::optional<uint64_t> policy = find(kPolicies, scheduler.policy);
  if (!policy) {
    return invalid(fmt::format("process.scheduler.policy: \"{}\" is not known", scheduler.policy));
  }
  SchedAttr attr;
  attr.policy = static_cast<uint32_t>(*policy);
  for (const std::string& name : scheduler.flags) {
    const std::optional<uint64_t> flag = find(kSchedFlags, name);
    if (!flag) return invalid(fmt::format("process.scheduler.flags: \"{}\" is not known", name));
    attr.flags |= *flag;
  }
  attr.nice = scheduler.nice;
  attr.priority = static_cast<uint32_t>(scheduler.priority);
  attr.runtime = scheduler.runtime;
  attr.deadline = scheduler.deadline;
  attr.period = scheduler.period;
  return std::string(reinterpret_cast<const char*>(&attr), sizeof attr);
}

Result<uint64_t> make_io_priority(const oci::IoPriority& priority) {
  if (priority.priority < 0 || priority.priority > 7) {
    return invalid(
        fmt::format("process.ioPriority.priority: {} is not within 0 to 7", priority.priority));
  }
  const std::optional<uint64_t> kind = find(kIoClasses, priority.priority_class);
  if (!kind) {
    return invalid(
        fmt::format("process.ioPriority.class: \"{}\" is not known", priority.priority_class));
  }
  return (*kind << kIoprioClassShift) | static_cast<uint64_t>(priority.priority);
}

Result<PersonalityValue> make_personality(const oci::Personality& personality) {
  PersonalityValue result;
  if (personality.domain == "LINUX32") {
    result.value = PER_LINUX32;
  } else if (personality.domain != "LINUX") {
    return invalid(
        fmt::format("linux.personality.domain: \"{}\" is not known", personality.domain));
  }
  if (!personality.flags.empty()) {
    result.warnings.push_back(fmt::format("ignoring unsupported personality flags: [{}]",
                                          fmt::join(personality.flags, " ")));
  }
  return result;
}

Result<MemoryPolicyValue> make_memory_policy(const oci::MemoryPolicy& policy) {
  const std::optional<uint64_t> mode = find(kMemoryModes, policy.mode);
  if (!mode)
    return invalid(
        fmt::format("linux.memoryPolicy: invalid memory policy mode \"{}\"", policy.mode));
  MemoryPolicyValue result;
  result.mode = *mode;
  for (const std::string& name : policy.flags) {
    const std::optional<uint64_t> flag = find(kMemoryFlags, name);
    if (!flag)
      return invalid(fmt::format("linux.memoryPolicy: invalid memory policy flag \"{}\"", name));
    result.mode |= *flag;
  }
  const bool takes_none = *mode == MPOL_DEFAULT || *mode == MPOL_LOCAL;
  if (policy.nodes.empty()) {
    if (takes_none || *mode == MPOL_PREFERRED) return result;
    return invalid(fmt::format("linux.memoryPolicy.nodes: {} needs at least one", policy.mode));
  }
  if (takes_none) {
    TRY_ASSIGN(const std::vector<Range> ranges, parse_ranges(policy.nodes, kNodes));
    unsigned count = 0;
    for (const Range& range : ranges) count += range.last - range.first + 1;
    return invalid(
        fmt::format("linux.memoryPolicy: {} mode requires 0 nodes but got {}", policy.mode, count));
  }
  TRY_ASSIGN(result.mask, make_mask(policy.nodes, kNodes));
  // The kernel reads one bit less than `maxnode` says (get_nodes decrements it first).
  result.bits = result.mask.size() * 8 + 1;
  return result;
}

Result<std::string> make_mask(std::string_view list, std::string_view noun, size_t least_bytes) {
  TRY_ASSIGN(const std::vector<Range> ranges, parse_ranges(list, noun));
  unsigned last = 0;
  for (const Range& range : ranges) last = std::max(last, range.last);
  const size_t words = std::max(last / kBitsPerWord + 1,
                                (least_bytes + sizeof(unsigned long) - 1) / sizeof(unsigned long));
  std::vector<unsigned long> mask(words);
  for (const Range& range : ranges) {
    for (unsigned n = range.first; n <= range.last; ++n) {
      mask[n / kBitsPerWord] |= 1UL << (n % kBitsPerWord);
    }
  }
  return std::string(reinterpret_cast<const char*>(mask.data()), words * sizeof(unsigned long));
}

Result<std::string> make_cpu_mask(std::string_view list, std::string_view noun) {
  return make_mask(list, noun);
}

std::string all_cpus_mask() {
  // 8192 is the most that a kernel can be built for; it clamps the mask itself.
  return std::string(8192 / 8, '\xff');
}

std::vector<std::string> known_memory_policy_modes() { return names(kMemoryModes); }
std::vector<std::string> known_memory_policy_flags() { return names(kMemoryFlags); }

}  // namespace amphora::setup
