// SPDX-License-Identifier: Apache-2.0
// containerd.task.v2.Task and containerd.task.v3.Task: one method per RPC, which decodes, calls the
// supervisor and encodes. The two services have the same messages, so the same methods serve both.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "shim/supervisor.h"
#include "shim/ttrpc/server.h"

namespace amphora::shim {

class TaskService {
 public:
  /// `shut_down` is called for every Shutdown; whether to go is its decision.
  TaskService(Supervisor& supervisor, std::shared_ptr<spdlog::logger> log,
              std::function<void()> shut_down)
      : supervisor_(supervisor), log_(std::move(log)), shut_down_(std::move(shut_down)) {}

  /// The ttrpc server's handler.
  void handle(ttrpc::Request&& request, ttrpc::Responder responder);

  struct Call;
  void state(Call& call);
  void create(Call& call);
  void start(Call& call);
  void remove(Call& call);
  void pids(Call& call);
  void pause(Call& call);
  void resume(Call& call);
  void checkpoint(Call& call);
  void kill(Call& call);
  void exec(Call& call);
  void resize_pty(Call& call);
  void close_io(Call& call);
  void update(Call& call);
  void wait(Call& call);
  void stats(Call& call);
  void connect(Call& call);
  void shutdown(Call& call);

 private:
  Supervisor& supervisor_;
  std::shared_ptr<spdlog::logger> log_;
  std::function<void()> shut_down_;
};

}  // namespace amphora::shim
