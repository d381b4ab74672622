// SPDX-License-Identifier: Apache-2.0
// TaskBackend: the part of Runtime that tasks need, as an interface so that the tests can replace
// containers by plain processes. Every call may block and runs on a worker.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "executor/cgroup/cgroup.h"
#include "executor/oci/spec.h"
#include "executor/runtime/runtime.h"

namespace amphora::shim {

/// In a bundle: the state root, where an option set another one. `delete` gets no options.
inline constexpr const char* kStateRootFile = "state-root";

class TaskBackend {
 public:
  virtual ~TaskBackend() = default;

  struct Made {
    Created created;
    bool own_pid_namespace = false;
    std::shared_ptr<cgroup::Cgroup> cgroup;  ///< null: none
  };
  virtual Result<Made> create(const std::string& id, const std::string& bundle, const Stdio& stdio,
                              const CreateOptions& options) = 0;
  virtual Result<void> start(const std::string& id) = 0;
  /// Makes a container of a checkpoint's processes; it runs when this returns.
  virtual Result<Made> restore(const std::string& id, const std::string& bundle, const Stdio& stdio,
                               const CreateOptions& options, const RestoreOptions& criu) = 0;
  virtual Result<void> checkpoint(const std::string& id, const CheckpointOptions& options) = 0;
  virtual Result<Process> exec(const std::string& id, const oci::Process& process,
                               const Stdio& stdio) = 0;
  virtual Result<void> kill_all(const std::string& id, int signal) = 0;
  virtual Result<std::vector<std::string>> remove(const std::string& id) = 0;
  virtual Result<void> pause(const std::string& id) = 0;
  virtual Result<void> resume(const std::string& id) = 0;
  virtual Result<void> update(const std::string& id, const oci::Resources& resources) = 0;
  virtual Result<void> record_exit(const std::string& id, int code) = 0;
};

/// Backends by state root: nearly always one, made on first use (on a worker).
class Backends {
 public:
  virtual ~Backends() = default;
  /// `root` empty: the default one. The backend lives as long as this object.
  virtual Result<TaskBackend*> for_root(const std::string& root) = 0;
};

}  // namespace amphora::shim
