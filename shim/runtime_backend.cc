// SPDX-License-Identifier: Apache-2.0
// TaskBackend on Runtime. See runtime_backend.h.
#include "shim/runtime_backend.h"

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/oci/spec.h"
#include "executor/runtime/checkpoint.h"
#include "executor/runtime/runtime.h"
#include "executor/setup/host.h"
#include "executor/store/store.h"
#include "shim/backend.h"
#include "shim/wiring.h"

namespace amphora::shim {

std::string state_root(const std::string& name_space, const std::string& option) {
  return (option.empty() ? "/run/containerd/amphora" : option) + "/" + name_space;
}

class RuntimeBackends::Backend final : public TaskBackend {
 public:
  explicit Backend(std::unique_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {}

  Result<Made> create(const std::string& id, const std::string& bundle, const Stdio& stdio,
                      const CreateOptions& options) override {
    return described(id, runtime_->create(id, bundle, stdio, options));
  }
  Result<Made> restore(const std::string& id, const std::string& bundle, const Stdio& stdio,
                       const CreateOptions& options, const RestoreOptions& criu) override {
    return described(id, runtime_->restore(id, bundle, stdio, options, criu));
  }
  Result<void> checkpoint(const std::string& id, const CheckpointOptions& options) override {
    return runtime_->checkpoint(id, options);
  }
  Result<void> start(const std::string& id) override { return runtime_->start(id); }
  Result<Process> exec(const std::string& id, const oci::Process& process,
                       const Stdio& stdio) override {
    return runtime_->exec(id, process, stdio, {});
  }
  Result<void> kill_all(const std::string& id, int signal) override {
    return runtime_->kill(id, signal, All::kYes);
  }
  Result<std::vector<std::string>> remove(const std::string& id) override {
    return runtime_->remove(id, Force::kYes);
  }
  Result<void> pause(const std::string& id) override { return runtime_->pause(id); }
  Result<void> resume(const std::string& id) override { return runtime_->resume(id); }
  Result<void> update(const std::string& id, const oci::Resources& resources) override {
    TRY(runtime_->update(id, resources));  // containerd has no place for what is ignored
    return {};
  }
  Result<void> record_exit(const std::string& id, int code) override {
    return runtime_->record_exit(id, code);
  }

 private:
  Result<Made> described(const std::string& id, Result<Created> created) {
    Made made;
    TRY_ASSIGN(made.created, std::move(created));
    if (auto report = runtime_->state(id)) made.own_pid_namespace = report->state.own_pid_namespace;
    if (auto cgroup = runtime_->cgroup(id)) made.cgroup = std::move(*cgroup);
    return made;
  }

  std::unique_ptr<Runtime> runtime_;
};

RuntimeBackends::RuntimeBackends(std::string name_space, std::string engine, std::string address,
                                 Children& children)
    : name_space_(std::move(name_space)),
      engine_(std::move(engine)),
      address_(std::move(address)),
      children_(children) {}

RuntimeBackends::~RuntimeBackends() = default;

Result<TaskBackend*> RuntimeBackends::for_root(const std::string& root) {
  const std::lock_guard lock(mutex_);
  auto& backend = backends_[root];
  if (!backend) {
    TRY_ASSIGN(Store store, Store::open(state_root(name_space_, root), /*create=*/true));
    TRY_ASSIGN(setup::Host host, setup::probe_host());
    backend = std::make_unique<Backend>(make_runtime(std::move(store), std::move(host), engine_,
                                                     {address_, name_space_}, children_));
  }
  return backend.get();
}

}  // namespace amphora::shim
