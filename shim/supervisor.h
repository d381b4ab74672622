// SPDX-License-Identifier: Apache-2.0
// The supervisor owns all tasks of a shim and carries out what clients ask of them: it checks that
// the step is allowed, lets a worker do it, then updates the task, queues the event and answers.
// Everything here runs on the loop's thread. Not here: messages (task_service), blocking work
// itself (Runtime).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "shim/events.h"
#include "shim/options.h"
#include "shim/rootfs.h"
#include "shim/task.h"

namespace spdlog {
class logger;
}

namespace amphora::shim {

struct CreateRequest {
  std::string id, bundle, checkpoint;
  std::vector<RootfsMount> rootfs;
  StdioUris stdio;
  RuntimeOptions options;
  std::vector<oci::Mount> pod_mounts;
};

struct ExecRequest {
  std::string id, exec_id, spec_json;
  StdioUris stdio;
};

class Supervisor {
 public:
  struct Tools {
    Loop& loop;
    Workers& workers;
    Reaper& reaper;
    Children& children;
    Backends& backends;
    EventSink& events;
    std::shared_ptr<spdlog::logger> log;
    std::string name_space;
  };
  explicit Supervisor(Tools tools) : tools_(std::move(tools)) {}
  ~Supervisor();

  /// What every container made from now on gets, unless its spec mounts something else there.
  void set_pod_mounts(std::vector<oci::Mount> mounts) { pod_mounts_ = std::move(mounts); }
  void create(CreateRequest request, Done<uint32_t> done);
  void start(const std::string& id, const std::string& exec_id, Done<uint32_t> done);
  Result<void> add_exec(ExecRequest request);

  struct Report {
    std::shared_ptr<const Task> task;
    std::shared_ptr<const TaskProcess> process;  // shares the task's life
  };
  Result<Report> state(const std::string& id, const std::string& exec_id) const;
  void wait(const std::string& id, const std::string& exec_id, Waiter waiter);
  void kill(const std::string& id, const std::string& exec_id, int signal, All all,
            Done<void> done);

  struct Deleted {
    uint32_t pid = 0;
    Exit exit;
  };
  void remove(const std::string& id, const std::string& exec_id, Done<Deleted> done);

  void pause(const std::string& id, Done<void> done);
  void resume(const std::string& id, Done<void> done);
  void update(const std::string& id, oci::Resources resources, Done<void> done);
  void checkpoint(const std::string& id, CheckpointOptions options, Done<void> done);
  struct Pid {
    pid_t pid = 0;
    std::string exec_id;
  };
  void pids(const std::string& id, Done<std::vector<Pid>> done);
  void stats(const std::string& id, Done<cgroup::Stats> done);
  Result<void> resize(const std::string& id, const std::string& exec_id, uint32_t columns,
                      uint32_t rows);
  Result<void> close_stdin(const std::string& id, const std::string& exec_id);
  /// 0 when the task is unknown.
  uint32_t init_pid(const std::string& id) const;

  bool is_empty() const noexcept { return tasks_.empty(); }
  void on_empty(std::function<void()> callback) { on_empty_ = std::move(callback); }
  /// One line per task, for SIGUSR1.
  std::vector<std::string> describe() const;

 private:
  using TaskPtr = std::shared_ptr<Task>;
  using ProcessPtr = std::shared_ptr<TaskProcess>;
  struct Prepared;
  /// A container, and what tells of its out of memory.
  struct Watched {
    TaskBackend::Made made;
    UniqueFd oom_fd;
  };

  Result<TaskPtr> find(const std::string& id) const;
  Result<ProcessPtr> find_process(const TaskPtr& task, const std::string& exec_id) const;

  static Result<Prepared> prepare(const CreateRequest& request, const Tools& tools);
  void finish_create(const TaskPtr& task, const CreateRequest& request, Prepared&& prepared);
  void adopt_init(const TaskPtr& task, Watched&& watched);
  void abandon(const TaskPtr& task);
  void forget(const TaskPtr& task);
  static Watched watched(TaskBackend::Made&& made);
  static Restore restore_of(const CreateRequest& request, CreateOptions&& options);
  void start_init(const TaskPtr& task, Done<uint32_t> done);
  void start_restored(const TaskPtr& task, Done<uint32_t> done);
  void start_exec(const TaskPtr& task, const ProcessPtr& exec, Done<uint32_t> done);

  void fail_start(const TaskPtr& task, Error error, Done<uint32_t> done);
  void watch_init(const TaskPtr& task);
  void watch_exec(const TaskPtr& task, const ProcessPtr& exec);
  void end_init(const TaskPtr& task, const Exit& exit);
  void await_execs(const TaskPtr& task, const Exit& exit);
  void say_init_exit(const TaskPtr& task, const Exit& exit);
  void end_exec(const TaskPtr& task, const ProcessPtr& exec, const Exit& exit);

  void watch_oom(const TaskPtr& task);
  void check_oom(const TaskPtr& task, int attempts);
  void publish_oom(const TaskPtr& task, uint64_t kills);

  void remove_init(const TaskPtr& task, Done<Deleted> done);
  void remove_exec(const TaskPtr& task, const ProcessPtr& exec, Done<Deleted> done);
  void remove_stopped(const TaskPtr& task, Done<Deleted> done);
  void when_drained(std::shared_ptr<TaskProcess> process, Callback done);
  void thaw(const TaskPtr& task, Done<void> done);

  Tools tools_;
  std::map<std::string, TaskPtr> tasks_;
  std::vector<oci::Mount> pod_mounts_;
  std::function<void()> on_empty_;
};

}  // namespace amphora::shim
