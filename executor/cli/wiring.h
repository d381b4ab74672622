// SPDX-License-Identifier: Apache-2.0
// The one place of the command that names the executors: native and wasm, wired by hand.
#pragma once

#include <memory>

#include "executor/runtime/runtime.h"
#include "wasm/wasm_executor.h"

namespace amphora::cli {

std::unique_ptr<Runtime> make_runtime(Store store, setup::Host host, Children& children);

/// For verbs about guests that need no runtime.
std::unique_ptr<WasmExecutor> make_wasm(Children& children);

}  // namespace amphora::cli
