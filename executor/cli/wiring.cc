// SPDX-License-Identifier: Apache-2.0
// See wiring.h.
#include "executor/cli/wiring.h"

#include <utility>
#include <vector>

#include "native/native_executor.h"

namespace amphora::cli {

std::unique_ptr<Runtime> make_runtime(Store store, setup::Host host, Children& children) {
  std::vector<std::unique_ptr<Executor>> executors;
  executors.push_back(std::make_unique<native::NativeExecutor>());
  detect::WatCheck wat_check = [](int) -> Result<void> {
    return fail(Errc::kUnsupported, "this build has no WebAssembly text compiler");
  };
  return std::make_unique<Runtime>(std::move(store), std::move(host), std::move(executors),
                                   std::move(wat_check), children);
}

}  // namespace amphora::cli
