// SPDX-License-Identifier: Apache-2.0
// The real backends: a Runtime per state root, with the executors this build has. One of the places
// that name native/ and wasm/, wired by hand.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "executor/base/process.h"
#include "shim/backend.h"

namespace amphora::shim {

/// Where a namespace's containers are kept; `option` replaces the default directory.
std::string state_root(const std::string& name_space, const std::string& option);

class RuntimeBackends final : public Backends {
 public:
  /// `engine`: the wasm engine of containers without an annotation; empty: the one that fits.
  /// `address`: containerd's gRPC socket, for modules that are layers of images.
  RuntimeBackends(std::string name_space, std::string engine, std::string address,
                  Children& children);
  ~RuntimeBackends() override;
  Result<TaskBackend*> for_root(const std::string& root) override;

 private:
  class Backend;
  std::string name_space_, engine_, address_;
  Children& children_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Backend>> backends_;
};

}  // namespace amphora::shim
