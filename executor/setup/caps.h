// SPDX-License-Identifier: Apache-2.0
// Capability names to masks. Here belong the names, parsing and the rules between the five sets; the
// steps that apply them are planned in make_plan.
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

/// Names that nobody knows, or that are not in `own` (what init starts with: our own set, or all of
/// them in a new user namespace) and so cannot be granted, are left out with one warning: the spec
/// wants no failure. So are, as in runc, ambient ones that the kernel would not raise because they
/// are not both permitted and inheritable (capabilities(7)). An effective capability that is not
/// permitted is kInvalid: capset would refuse the whole set.
Result<CapMasks> make_cap_masks(const oci::Capabilities& capabilities, uint64_t own, int last_cap);

/// Every capability of this kernel that has a name, in the kernel's order: "CAP_CHOWN", ...
std::vector<std::string> known_capabilities(int last_cap);

}  // namespace amphora::setup
