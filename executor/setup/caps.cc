// SPDX-License-Identifier: Apache-2.0
// Capability names. See caps.h.
#include "executor/setup/caps.h"

#include <linux/capability.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::setup {
namespace {

constexpr int kMaxCapability = 63;  // a mask has 64 bits

constexpr uint64_t bit(int capability) noexcept { return uint64_t{1} << capability; }

// The kernel's order (linux/capability.h). Not asked of libcap: linked in, its constructor makes six
// system calls in every start of the program; the unit tests compare with it.
constexpr std::string_view kNames[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};
static_assert(std::size(kNames) == CAP_CHECKPOINT_RESTORE + 1);

/// Empty for a number without a name.
std::string name_of(int capability) {
  const auto at = static_cast<size_t>(capability);
  return at < std::size(kNames) ? std::string(kNames[at]) : std::string();
}

/// -1 for a name that is none.
int number_of(const std::string& name) {
  const auto found = std::ranges::find(kNames, std::string_view(name));
  return found == std::end(kNames) ? -1 : static_cast<int>(found - std::begin(kNames));
}

class Masks {
 public:
  Masks(uint64_t own, int last_cap) : own_(own), last_cap_(std::min(last_cap, kMaxCapability)) {}

  uint64_t parse(const std::vector<std::string>& names) {
    uint64_t mask = 0;
    for (const std::string& name : names) {
      const int number = number_of(name);
      if (number < 0 || number > last_cap_ || (own_ & bit(number)) == 0) {
        unavailable_.insert(name);
      } else {
        mask |= bit(number);
      }
    }
    return mask;
  }
  const std::set<std::string>& unavailable() const noexcept { return unavailable_; }

 private:
  uint64_t own_;
  int last_cap_;
  std::set<std::string> unavailable_;
};

std::vector<std::string> names_of(uint64_t mask) {
  std::vector<std::string> names;
  for (int n = 0; n <= kMaxCapability; ++n) {
    if ((mask & bit(n)) != 0) names.push_back(name_of(n));
  }
  return names;
}

}  // namespace

Result<CapMasks> make_cap_masks(const oci::Capabilities& capabilities, uint64_t own, int last_cap) {
  Masks masks(own, last_cap);
  CapMasks result;
  result.bounding = masks.parse(capabilities.bounding);
  result.effective = masks.parse(capabilities.effective);
  result.inheritable = masks.parse(capabilities.inheritable);
  result.permitted = masks.parse(capabilities.permitted);
  result.ambient = masks.parse(capabilities.ambient);
  if (!masks.unavailable().empty()) {
    result.warnings.push_back(fmt::format("ignoring unknown or unavailable capabilities: [{}]",
                                          fmt::join(masks.unavailable(), " ")));
  }
  if (const uint64_t extra = result.effective & ~result.permitted; extra != 0) {
    return fail(Errc::kInvalid, fmt::format("process.capabilities.effective: {} not in permitted",
                                            fmt::join(names_of(extra), ", ")));
  }
  const uint64_t raisable = result.permitted & result.inheritable;
  for (const std::string& name : names_of(result.ambient & ~raisable)) {
    result.warnings.push_back(fmt::format(
        "can't raise ambient capability {}: it is not both permitted and inheritable", name));
  }
  result.ambient &= raisable;
  return result;
}

std::vector<std::string> known_capabilities(int last_cap) {
  std::vector<std::string> names;
  for (int n = 0; n <= std::min(last_cap, kMaxCapability); ++n) {
    if (std::string name = name_of(n); !name.empty()) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace amphora::setup
