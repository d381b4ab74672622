// SPDX-License-Identifier: Apache-2.0
// What a module's or component's first sections say of it, for the configs of artifacts: module or
// component, and a component's imports and exports. The file is its builder's own; still no length in
// it is trusted.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amphora::image {

enum class Binary : uint8_t { kOther, kModule, kComponent };
Binary binary_of(std::string_view bytes);

struct ComponentNames {
  std::vector<std::string> imports, exports;
};
/// Nothing for bytes that are no component, or one of a form that is not known here.
std::optional<ComponentNames> component_names(std::string_view bytes);

}  // namespace amphora::image
