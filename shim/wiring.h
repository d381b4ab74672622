// SPDX-License-Identifier: Apache-2.0
// The one place of the shim that names the executors: native and wasm, wired by hand.
#pragma once

#include <memory>

#include "executor/runtime/runtime.h"

namespace amphora::shim {

std::unique_ptr<Runtime> make_runtime(Store store, setup::Host host, Children& children);

}  // namespace amphora::shim
