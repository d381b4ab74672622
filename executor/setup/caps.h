// SPDX-License-Identifier: Apache-2.0
// Capability names to masks. libcap knows the names, and only caps.cc knows libcap. Here belong
// parsing and the rules between the five sets; the steps that apply them are planned in make_plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::setup {

/// Bit n is capability n.
struct CapMasks {
  uint64_t bounding = 0, effective = 0, inheritable = 0, permitted = 0, ambient = 0;
  std::vector<std::string> warnings;
};

/// Names that nobody knows, or that we do not hold ourselves (`own`) and so cannot grant, are left
/// out with one warning. An ambient capability that is not both permitted and inheritable is an
/// error, as the kernel would refuse it (capabilities(7)).
Result<CapMasks> make_cap_masks(const oci::Capabilities& capabilities, uint64_t own, int last_cap);

/// Every capability of this kernel that has a name, in the kernel's order: "CAP_CHOWN", ...
std::vector<std::string> known_capabilities(int last_cap);

}  // namespace amphora::setup
