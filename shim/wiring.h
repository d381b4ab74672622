// SPDX-License-Identifier: Apache-2.0
// The one place of the shim that names the executors: native and wasm, wired by hand.
#pragma once

#include <memory>
#include <string>

#include "executor/runtime/runtime.h"

namespace amphora::shim {

/// `engine`: of guests that no annotation gives another; empty: the one that fits the module.
std::unique_ptr<Runtime> make_runtime(Store store, setup::Host host, const std::string& engine,
                                      Children& children);

}  // namespace amphora::shim
