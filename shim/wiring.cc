// SPDX-License-Identifier: Apache-2.0
// See wiring.h.
#include "shim/wiring.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detect/detect.h"
#include "executor/base/process.h"
#include "executor/executor.h"
#include "executor/oci/spec.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/host.h"
#include "executor/store/store.h"
#include "native/native_executor.h"
#include "wasm/wasm_executor.h"

namespace amphora::shim {

std::unique_ptr<Runtime> make_runtime(Store store, setup::Host host, const std::string& engine,
                                      const wasm::Containerd& containerd, Children& children) {
  std::vector<std::unique_ptr<Executor>> executors;
  executors.push_back(std::make_unique<native::NativeExecutor>());
  WasmExecutor::Options options;
  options.engine = engine;
  auto wasm = std::make_unique<WasmExecutor>(std::move(options), children);
  // It refers to the executor, which the runtime keeps as long as the check.
  detect::WatCheck wat_check = wasm->wat_check();
  FromImage from_image;
  if (!containerd.address.empty()) {
    from_image = [wasm = wasm.get(), containerd](const std::string& id, const oci::Spec& spec,
                                                 const std::string& name) {
      const auto word = [&](std::string_view key) {
        const auto found = spec.annotations.find(std::string(key));
        return found == spec.annotations.end() ? std::string() : found->second;
      };
      wasm::ImageQuery query;
      query.container = id;
      query.image = word(wasm::kImageAnnotation);
      query.entrypoint = name;
      query.engine = word(detect::kEngineAnnotation);
      return wasm->from_image(containerd, query);
    };
  }
  executors.push_back(std::move(wasm));
  return std::make_unique<Runtime>(std::move(store), std::move(host), std::move(executors),
                                   std::move(wat_check), children, std::move(from_image));
}

}  // namespace amphora::shim
