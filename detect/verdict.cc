// SPDX-License-Identifier: Apache-2.0
// The names of the kinds, as state files and `amphora detect` show them.
#include "detect/verdict.h"

namespace amphora::detect {

const char* to_string(Kind kind) noexcept {
  switch (kind) {
    case Kind::kNative:
      return "native";
    case Kind::kWasmModule:
      return "wasm-module";
    case Kind::kWasmComponent:
      return "wasm-component";
    case Kind::kWasmText:
      return "wasm-text";
  }
  return "unknown";
}

}  // namespace amphora::detect
