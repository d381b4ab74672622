// SPDX-License-Identifier: Apache-2.0
// Capability names. See caps.h.
#include "executor/setup/caps.h"

#include <sys/capability.h>

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace amphora::setup {
namespace {

constexpr int kMaxCapability = 63;  // a mask has 64 bits

constexpr uint64_t bit(int capability) noexcept { return uint64_t{1} << capability; }

/// The spec's spelling ("CAP_CHOWN") of a capability; empty for one that libcap cannot name.
std::string name_of(int capability) {
  char* const name = cap_to_name(capability);
  if (name == nullptr) return {};
  std::string text(name);
  cap_free(name);
  // A number without a name is spelled as that number.
  if (!text.starts_with("cap_")) return {};
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

/// -1 for a name that is none. libcap takes "cap_chown" and "0" as well; the spec does not.
int number_of(const std::string& name) {
  if (!name.starts_with("CAP_")) return -1;
  if (std::any_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; })) return -1;
  cap_value_t value = -1;
  return cap_from_name(name.c_str(), &value) == 0 ? value : -1;
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
