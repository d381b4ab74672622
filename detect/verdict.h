// SPDX-License-Identifier: Apache-2.0
// Verdict: what detection found out about a container's entrypoint, a value that travels from
// detect/ to the executors. Nobody decides again after it.
#pragma once

#include <cstdint>
#include <string>

#include "executor/base/fd.h"

namespace amphora::detect {

enum class Kind : uint8_t { kNative, kWasmModule, kWasmComponent, kWasmText };

/// "native", "wasm-module", "wasm-component", "wasm-text".
const char* to_string(Kind kind) noexcept;

struct Verdict {
  Kind kind = Kind::kNative;
  std::string path;      ///< where the entrypoint was found, inside the container; may be empty for
                         ///< native programs that were not found (exec decides)
  std::string function;  ///< wasm: export named after '#', empty for the default
  std::string reason;    ///< in words, for state, log and `amphora detect`
  std::string why_not;  ///< native by default (binfmt_misc may know it): why not wasm, why not wat;
                        ///< added to the error when exec then fails. Empty for a sure verdict
  UniqueFd module;      ///< wasm kinds: the file, regular, opened read-only
};

}  // namespace amphora::detect
