// SPDX-License-Identifier: Apache-2.0
// The sandbox of a pod, where containerd leaves it to the shim (sandboxer = "shim"): one process that
// holds the namespaces the pod's containers join. It is a container to Runtime and none to clients: no
// task, no events. Everything here runs on the loop's thread. Not here: messages (sandbox_service).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "shim/sandbox_config.h"
#include "shim/task.h"

namespace spdlog {
class logger;
}

namespace amphora::shim {

class Sandbox {
 public:
  struct Tools {
    Loop& loop;
    Workers& workers;
    Reaper& reaper;
    Backends& backends;
    std::shared_ptr<spdlog::logger> log;
  };
  explicit Sandbox(Tools tools) : tools_(std::move(tools)) {}

  /// A shim has one; kExists for another. `done` gets the mounts for the pod's containers.
  void create(SandboxConfig config, Done<std::vector<oci::Mount>> done);
  void start(const std::string& id, Done<uint32_t> done);
  /// Ends it and answers when it has ended; stopped already is no error. A program of the client's own is
  /// asked by SIGTERM, and killed when `patience` is over; ours, which has nothing to finish, is killed.
  void stop(const std::string& id, std::chrono::seconds patience, Done<void> done);
  void wait(const std::string& id, Waiter waiter);
  /// Stops it and forgets it. An unknown one is no error.
  void remove(const std::string& id, Done<void> done);
  void stats(const std::string& id, Done<cgroup::Stats> done);

  struct Status {
    uint32_t pid = 0;
    bool is_ready = false;
    Time created;
    Exit exit;           ///< default: not ended
    std::string config;  ///< config.json
  };
  Result<Status> status(const std::string& id) const;
  Result<void> check(const std::string& id) const;

  bool is_empty() const noexcept { return pod_ == nullptr; }

 private:
  struct Pod {
    SandboxConfig config;
    TaskBackend* backend = nullptr;
    TaskProcess holder;
    Time created;
    std::string spec;
    std::shared_ptr<cgroup::Cgroup> cgroup;
    std::shared_ptr<Workers::Queue> verbs = Workers::make_queue();
    bool own_program = false;  ///< a spec of the client's, not ours
    bool removing = false;
    /// SIGKILL when it fires; none when it was not asked to end, or has ended.
    std::unique_ptr<asio::steady_timer> deadline;
    Callback on_created;  ///< a ShutdownSandbox that came before CreateSandbox was done
  };
  using PodPtr = std::shared_ptr<Pod>;
  struct Prepared;

  static Result<Prepared> prepare(const SandboxConfig& config, const Tools& tools);
  Result<PodPtr> find(const std::string& id) const;
  void watch(const PodPtr& pod);
  void end(const PodPtr& pod);
  void kill_after(std::chrono::seconds patience, const PodPtr& pod);
  void clear(const PodPtr& pod, Done<void> done);

  Tools tools_;
  PodPtr pod_;
};

}  // namespace amphora::shim
