// SPDX-License-Identifier: Apache-2.0
// containerd.runtime.sandbox.v1.Sandbox: one method per RPC, which decodes, calls the sandbox and encodes.
#pragma once

#include <functional>
#include <memory>

#include "shim/sandbox.h"
#include "shim/ttrpc/server.h"

namespace amphora::shim {

class SandboxService {
 public:
  static constexpr const char* kName = "containerd.runtime.sandbox.v1.Sandbox";
  struct Hooks {
    std::function<void(std::vector<oci::Mount>)> on_mounts;  ///< for the pod's containers
    std::function<void()> shut_down;  ///< after ShutdownSandbox; whether to go is its decision
  };
  SandboxService(Sandbox& sandbox, std::shared_ptr<spdlog::logger> log, Hooks hooks)
      : sandbox_(sandbox), log_(std::move(log)), hooks_(std::move(hooks)) {}

  void handle(ttrpc::Request&& request, ttrpc::Responder responder);

  struct Call;
  void create(Call& call);
  void start(Call& call);
  void platform(Call& call);
  void stop(Call& call);
  void wait(Call& call);
  void status(Call& call);
  void ping(Call& call);
  void shutdown(Call& call);
  void metrics(Call& call);

 private:
  Sandbox& sandbox_;
  std::shared_ptr<spdlog::logger> log_;
  Hooks hooks_;
};

}  // namespace amphora::shim
