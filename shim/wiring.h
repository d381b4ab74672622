// SPDX-License-Identifier: Apache-2.0
// The one place of the shim that names the executors: native and wasm, wired by hand.
#pragma once

#include <memory>
#include <string>

#include "executor/runtime/runtime.h"
#include "wasm/content.h"

namespace amphora::shim {

/// `engine`: of guests that no annotation gives another; empty: the one that fits the module.
/// `containerd`: whose images may have the modules that no file of a container is; without an address nobody is asked.
std::unique_ptr<Runtime> make_runtime(Store store, setup::Host host, const std::string& engine,
                                      const wasm::Containerd& containerd, Children& children);

}  // namespace amphora::shim
