// SPDX-License-Identifier: Apache-2.0
// See wiring.h.
#include "executor/cli/wiring.h"

#include <memory>
#include <utility>
#include <vector>

#include "detect/detect.h"
#include "executor/base/process.h"
#include "executor/executor.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/host.h"
#include "executor/store/store.h"
#include "native/native_executor.h"
#include "wasm/wasm_executor.h"

namespace amphora::cli {

std::unique_ptr<WasmExecutor> make_wasm(Children& children) {
  return std::make_unique<WasmExecutor>(WasmExecutor::Options(), children);
}

std::unique_ptr<Runtime> make_runtime(Store store, setup::Host host, Children& children) {
  std::vector<std::unique_ptr<Executor>> executors;
  executors.push_back(std::make_unique<native::NativeExecutor>());
  auto wasm = make_wasm(children);
  // It refers to the executor, which the runtime keeps as long as the check.
  detect::WatCheck wat_check = wasm->wat_check();
  executors.push_back(std::move(wasm));
  return std::make_unique<Runtime>(std::move(store), std::move(host), std::move(executors),
                                   std::move(wat_check), children);
}

}  // namespace amphora::cli
