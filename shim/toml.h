// SPDX-License-Identifier: Apache-2.0
// The top level of a TOML document, as much as runtime options need: keys with strings and booleans; of all
// else only that it is there. Reads TOML 1.0; laxer than that about numbers, dates and keys below tables.
// Not here: what an option means (options.cc).
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "executor/base/error.h"

namespace amphora::shim {

/// Neither a string nor a boolean: a number, a date, an array, a table.
struct OtherToml {};
using TomlValue = std::variant<OtherToml, bool, std::string>;

struct TomlEntry {
  std::string key;  ///< of a dotted one or of a table's name: the first part
  TomlValue value;
};

/// In their order, a table once. kInvalid names the line.
Result<std::vector<TomlEntry>> read_toml(std::string_view text);

}  // namespace amphora::shim
