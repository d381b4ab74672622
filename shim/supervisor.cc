// SPDX-License-Identifier: Apache-2.0
// Making, starting and asking tasks. How they end is in supervisor_exit.cc.
#include "shim/supervisor.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <spdlog/logger.h>

#include "common.pb.h"
#include "events.pb.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"
#include "shim/backend.h"
#include "shim/io.h"
#include "shim/loop.h"
#include "shim/rootfs.h"
#include "shim/task.h"

namespace amphora::shim {

namespace ev = containerd::events;

namespace {
/// How long the answer of a failed Start waits for the end of init.
constexpr std::chrono::seconds kFailedStartGrace{1};
}  // namespace

/// What a worker made for Create.
struct Supervisor::Prepared {
  TaskBackend* backend = nullptr;
  std::unique_ptr<ProcessIo> io;
  Watched init;
  std::optional<Restore> restore;  // in the place of init
};

Supervisor::~Supervisor() = default;

Result<Supervisor::TaskPtr> Supervisor::find(const std::string& id) const {
  const auto found = tasks_.find(id);
  if (found == tasks_.end() || found->second->init.is<Creating>()) {
    return fail(Errc::kNotFound, "container " + id + " does not exist");
  }
  return found->second;
}

Result<Supervisor::ProcessPtr> Supervisor::find_process(const TaskPtr& task,
                                                        const std::string& exec_id) const {
  if (exec_id.empty()) return ProcessPtr(task, &task->init);
  const auto found = task->execs.find(exec_id);
  if (found == task->execs.end()) {
    return fail(Errc::kNotFound, "exec " + exec_id + " does not exist in container " + task->id);
  }
  return found->second;
}

// ---- Create

void Supervisor::create(CreateRequest request, Done<uint32_t> done) {
  if (auto valid = oci::check_id(request.id); !valid) {
    return done(std::unexpected(std::move(valid).error()));
  }
  if (tasks_.contains(request.id)) {
    return done(fail(Errc::kExists, "container " + request.id + " exists already"));
  }
  auto task = std::make_shared<Task>();
  task->id = request.id;
  task->bundle = request.bundle;
  task->init.stdio = request.stdio;
  task->io_owner = request.options.io_owner;
  task->has_rootfs_mounts = !request.rootfs.empty();
  tasks_.emplace(task->id, task);
  for (const auto& note : request.options.notes) tools_.log->info("{}: {}", task->id, note);
  request.pod_mounts = pod_mounts_;
  auto shared = std::make_shared<const CreateRequest>(std::move(request));
  tools_.workers.run(
      task->verbs, [shared, &tools = tools_] { return prepare(*shared, tools); },
      [this, task, shared, done = std::move(done)](Result<Prepared> prepared) mutable {
        if (!prepared) {
          abandon(task);
          return done(std::unexpected(std::move(prepared).error()));
        }
        finish_create(task, *shared, std::move(*prepared));
        done(task->init.pid());
        for (auto& call : std::exchange(task->on_created, {})) call();
      });
}

/// On a worker.
Result<Supervisor::Prepared> Supervisor::prepare(const CreateRequest& request, const Tools& tools) {
  Prepared out;
  TRY_ASSIGN(out.backend, tools.backends.for_root(request.options.root));
  CreateOptions options;
  options.systemd_cgroup = request.options.systemd_cgroup;
  options.no_pivot = request.options.no_pivot_root;
  options.no_new_keyring = request.options.no_new_keyring;
  options.pod_mounts = request.pod_mounts;
  if (!request.options.root.empty()) {
    TRY_ASSIGN(const UniqueFd bundle, open_at(AT_FDCWD, request.bundle, O_RDONLY | O_DIRECTORY));
    TRY(replace_file_at(bundle.get(), kStateRootFile, request.options.root));
  }
  TRY_ASSIGN(out.io, ProcessIo::open(request.stdio, request.id, tools.name_space, tools.children,
                                     output_mode(Output::kPassed)));
  TRY(out.io->give_to(request.options.io_owner));
  const std::string rootfs = request.bundle + "/rootfs";
  if (!request.rootfs.empty()) {
    TRY(mount_rootfs(request.rootfs, rootfs));
    options.rootfs = rootfs;
  }
  if (!request.checkpoint.empty()) {
    out.restore = restore_of(request, std::move(options));
    return out;
  }
  auto made = out.backend->create(request.id, request.bundle, out.io->payload(), options);
  if (!made) {
    if (!request.rootfs.empty()) (void)unmount_rootfs(rootfs);
    return std::unexpected(std::move(made).error());
  }
  out.init = watched(std::move(*made));
  return out;
}

/// On a worker.
Supervisor::Watched Supervisor::watched(TaskBackend::Made&& made) {
  Watched out{std::move(made), {}};
  if (!out.made.cgroup) return out;
  // Without the controller there is no watch; the exit status then tells all there is.
  if (auto watch = out.made.cgroup->oom_watch()) {
    out.oom_fd = std::move(*watch);
    ::fcntl(out.oom_fd.get(), F_SETFL, ::fcntl(out.oom_fd.get(), F_GETFL) | O_NONBLOCK);
  }
  return out;
}

void Supervisor::abandon(const TaskPtr& task) {
  tasks_.erase(task->id);
  for (auto& call : std::exchange(task->on_created, {})) call();
  if (tasks_.empty() && on_empty_) on_empty_();
}

void Supervisor::forget(const TaskPtr& task) {
  task->oom_watch.reset();
  tasks_.erase(task->id);
  if (tasks_.empty() && on_empty_) on_empty_();
}

void Supervisor::finish_create(const TaskPtr& task, const CreateRequest& request,
                               Prepared&& prepared) {
  task->backend = prepared.backend;
  task->init.io = std::move(prepared.io);
  task->init.phase = CreatedPhase{};
  task->restore = std::move(prepared.restore);
  if (!task->restore) adopt_init(task, std::move(prepared.init));

  ev::TaskCreate event;
  event.set_container_id(task->id);
  event.set_bundle(task->bundle);
  for (const auto& mount : request.rootfs) {
    auto& message = *event.add_rootfs();
    message.set_type(mount.type);
    message.set_source(mount.source);
    message.set_target(mount.target);
    for (const auto& option : mount.options) message.add_options(option);
  }
  event.mutable_io()->set_stdin(request.stdio.in);
  event.mutable_io()->set_stdout(request.stdio.out);
  event.mutable_io()->set_stderr(request.stdio.err);
  event.mutable_io()->set_terminal(request.stdio.terminal);
  event.set_checkpoint(request.checkpoint);
  event.set_pid(task->init.pid());
  tools_.events.publish("/tasks/create", event);
  if (!task->restore) watch_init(task);
}

/// The container exists: what the task keeps of it.
void Supervisor::adopt_init(const TaskPtr& task, Watched&& watched) {
  auto& created = watched.made.created;
  task->own_pid_namespace = watched.made.own_pid_namespace;
  task->cgroup = std::move(watched.made.cgroup);
  task->init.process = std::move(created.init);
  task->init.io->begin(tools_.loop);
  if (task->init.stdin_closed) task->init.io->close_stdin();
  task->oom_fd = std::move(watched.oom_fd);
  if (task->oom_fd) {
    task->oom_watch = std::make_unique<FdWatch>(tools_.loop, task->oom_fd.get());
    watch_oom(task);
  }
  tools_.log->info("container {} is {}: {}", task->id, created.kind, created.reason);
  for (const auto& warning : created.warnings) tools_.log->warn("{}: {}", task->id, warning);
}

// ---- Start and Exec

void Supervisor::start(const std::string& id, const std::string& exec_id, Done<uint32_t> done) {
  auto task = find(id);
  if (!task) return done(std::unexpected(std::move(task).error()));
  auto process = find_process(*task, exec_id);
  if (!process) return done(std::unexpected(std::move(process).error()));
  const auto allowed = exec_id.empty() ? (*task)->can_start() : (*task)->can_start_exec(**process);
  if (!allowed) return done(std::unexpected(allowed.error()));
  (*process)->starting = true;
  if (exec_id.empty()) return start_init(*task, std::move(done));
  start_exec(*task, *process, std::move(done));
}

void Supervisor::start_init(const TaskPtr& task, Done<uint32_t> done) {
  if (task->restore) return start_restored(task, std::move(done));
  tools_.workers.run(
      task->verbs, [task, backend = task->backend] { return backend->start(task->id); },
      [this, task, done = std::move(done)](Result<void> started) mutable {
        auto& init = task->init;
        init.starting = false;
        if (started) {
          init.phase = Running{};
          ev::TaskStart event;
          event.set_container_id(task->id);
          event.set_pid(init.pid());
          tools_.events.publish("/tasks/start", event);
          done(init.pid());
        } else {
          fail_start(task, std::move(started).error(), std::move(done));
        }
        if (init.early_exit) end_init(task, *std::exchange(init.early_exit, {}));
      });
}

/// Clients delete at once what failed to start, which is refused while init lives: the answer waits
/// for init's end, which follows unless the failure was another.
void Supervisor::fail_start(const TaskPtr& task, Error error, Done<uint32_t> done) {
  struct Pending {
    Done<uint32_t> done;
    Error error;
    asio::steady_timer timer;
  };
  auto pending = std::make_shared<Pending>(Pending{
      std::move(done), std::move(error), asio::steady_timer(tools_.loop, kFailedStartGrace)});
  const auto answer = [pending] {
    pending->timer.cancel();
    if (auto answer_once = std::exchange(pending->done, {})) {
      answer_once(std::unexpected(std::move(pending->error)));
    }
  };
  task->init.park(Waiter{[answer](const Result<Exit>&) { answer(); }, [] { return false; }});
  pending->timer.async_wait([answer](boost::system::error_code) { answer(); });
}

Result<void> Supervisor::add_exec(ExecRequest request) {
  TRY_ASSIGN(const TaskPtr task, find(request.id));
  TRY(oci::check_id(request.exec_id));
  if (task->execs.contains(request.exec_id)) {
    return fail(Errc::kExists,
                "exec " + request.exec_id + " exists already in container " + task->id);
  }
  TRY(task->can_add_exec());
  TRY_ASSIGN(oci::Process spec, oci::parse_process(request.spec_json));
  spec.terminal = request.stdio.terminal;
  auto exec = std::make_shared<TaskProcess>();
  exec->exec_id = request.exec_id;
  exec->stdio = std::move(request.stdio);
  exec->spec = std::move(spec);
  exec->phase = CreatedPhase{};
  task->execs.emplace(exec->exec_id, exec);
  ev::TaskExecAdded event;
  event.set_container_id(task->id);
  event.set_exec_id(exec->exec_id);
  tools_.events.publish("/tasks/exec-added", event);
  return {};
}

void Supervisor::start_exec(const TaskPtr& task, const ProcessPtr& exec, Done<uint32_t> done) {
  struct Made {
    Process process;
    std::unique_ptr<ProcessIo> io;
  };
  // A line of its own: execs of one container may start side by side.
  tools_.workers.run(
      Workers::make_queue(),
      [task, &tools = tools_, backend = task->backend, uris = exec->stdio,
       spec = *exec->spec]() -> Result<Made> {
        Made made;
        TRY_ASSIGN(made.io, ProcessIo::open(uris, task->id, tools.name_space, tools.children,
                                            output_mode(Output::kCopied)));
        TRY(made.io->give_to(task->io_owner));
        TRY_ASSIGN(made.process, backend->exec(task->id, spec, made.io->payload()));
        return made;
      },
      [this, task, exec, done = std::move(done)](Result<Made> made) mutable {
        exec->starting = false;
        if (!made) {
          done(std::unexpected(std::move(made).error()));
          return end_exec(task, nullptr, {});
        }
        exec->process = std::move(made->process);
        exec->io = std::move(made->io);
        exec->io->begin(tools_.loop);
        if (exec->stdin_closed) exec->io->close_stdin();
        exec->phase = Running{};
        ev::TaskExecStarted event;
        event.set_container_id(task->id);
        event.set_exec_id(exec->exec_id);
        event.set_pid(exec->pid());
        tools_.events.publish("/tasks/exec-started", event);
        done(exec->pid());
        watch_exec(task, exec);
        // Init ended meanwhile: what shares the host's pid namespace would survive it.
        if (task->ending) (void)send_signal(exec->process, SIGKILL);
      });
}

// ---- Questions

Result<Supervisor::Report> Supervisor::state(const std::string& id,
                                             const std::string& exec_id) const {
  TRY_ASSIGN(const TaskPtr task, find(id));
  TRY_ASSIGN(const ProcessPtr process, find_process(task, exec_id));
  return Report{task, process};
}

uint32_t Supervisor::init_pid(const std::string& id) const {
  const auto task = find(id);
  return task ? (*task)->init.pid() : 0;
}

void Supervisor::pids(const std::string& id, Done<std::vector<Pid>> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  const TaskPtr task = *found;
  tools_.workers.run(
      task->questions,
      [cgroup = task->cgroup]() -> Result<std::vector<pid_t>> {
        if (!cgroup) return std::vector<pid_t>();
        return cgroup->pids();
      },
      [task, done = std::move(done)](Result<std::vector<pid_t>> listed) mutable {
        if (!listed && task->init.is_alive()) {
          return done(std::unexpected(std::move(listed).error().context("list processes")));
        }
        std::vector<Pid> out;
        for (const pid_t pid : listed.value_or(std::vector<pid_t>())) {
          Pid entry{pid, {}};
          for (const auto& [exec_id, exec] : task->execs) {
            if (exec->is<Running>() && exec->process.pid == pid) entry.exec_id = exec_id;
          }
          out.push_back(std::move(entry));
        }
        // An empty answer after containerd's restart reads as "leaked, delete it": a task that ended
        // while containerd was away would lose its exit status.
        if (out.empty()) out.push_back({task->init.process.pid, {}});
        done(std::move(out));
      });
}

void Supervisor::stats(const std::string& id, Done<cgroup::Stats> done) {
  auto task = find(id);
  if (!task) return done(std::unexpected(std::move(task).error()));
  tools_.workers.run((*task)->questions,
                     [id, cgroup = (*task)->cgroup]() -> Result<cgroup::Stats> {
                       if (!cgroup)
                         return fail(Errc::kNotFound, "container " + id + " has no cgroup");
                       return cgroup->stats();
                     },
                     std::move(done));
}

Result<void> Supervisor::resize(const std::string& id, const std::string& exec_id, uint32_t columns,
                                uint32_t rows) {
  TRY_ASSIGN(const TaskPtr task, find(id));
  TRY_ASSIGN(const ProcessPtr process, find_process(task, exec_id));
  if (columns > UINT16_MAX || rows > UINT16_MAX) {
    return fail(Errc::kInvalid, "terminal size is out of range");
  }
  if (!exec_id.empty() && process->is<Stopped>()) {
    return fail(Errc::kNotFound, "exec " + exec_id + " has ended");
  }
  if (!process->io) return {};
  return process->io->resize(static_cast<uint16_t>(columns), static_cast<uint16_t>(rows));
}

Result<void> Supervisor::close_stdin(const std::string& id, const std::string& exec_id) {
  TRY_ASSIGN(const TaskPtr task, find(id));
  TRY_ASSIGN(const ProcessPtr process, find_process(task, exec_id));
  process->stdin_closed = true;
  if (process->io) process->io->close_stdin();
  return {};
}

// ---- Pause, resume, update

void Supervisor::pause(const std::string& id, Done<void> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  const TaskPtr task = *found;
  if (auto allowed = task->can_pause(); !allowed) return done(std::move(allowed));
  tools_.workers.run(
      task->verbs, [task, backend = task->backend] { return backend->pause(task->id); },
      [this, task, done = std::move(done)](Result<void> paused) mutable {
        if (paused && task->init.is<Running>()) {
          task->init.phase = Paused{};
          ev::TaskPaused event;
          event.set_container_id(task->id);
          tools_.events.publish("/tasks/paused", event);
        }
        done(std::move(paused));
      });
}

void Supervisor::resume(const std::string& id, Done<void> done) {
  auto task = find(id);
  if (!task) return done(std::unexpected(std::move(task).error()));
  if (auto allowed = (*task)->can_resume(); !allowed) return done(std::move(allowed));
  thaw(*task, std::move(done));
}

void Supervisor::thaw(const TaskPtr& task, Done<void> done) {
  tools_.workers.run(
      task->verbs, [task, backend = task->backend] { return backend->resume(task->id); },
      [this, task, done = std::move(done)](Result<void> resumed) mutable {
        if (resumed && task->init.is<Paused>()) {
          task->init.phase = Running{};
          ev::TaskResumed event;
          event.set_container_id(task->id);
          tools_.events.publish("/tasks/resumed", event);
        }
        done(std::move(resumed));
      });
}

void Supervisor::update(const std::string& id, oci::Resources resources, Done<void> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  const TaskPtr task = *found;
  if (auto allowed = task->can_update(); !allowed) return done(std::move(allowed));
  tools_.workers.run(
      task->verbs,
      [task, backend = task->backend, resources = std::move(resources)] {
        return backend->update(task->id, resources);
      },
      std::move(done));
}

std::vector<std::string> Supervisor::describe() const {
  std::vector<std::string> lines;
  for (const auto& [id, task] : tasks_) {
    lines.push_back(fmt::format("container {} pid {} {}{}, {} execs, {} waiters", id,
                                task->init.pid(), to_string(task->init.phase),
                                task->ending ? " (ending)" : "", task->execs.size(),
                                task->init.waiters.size()));
  }
  return lines;
}

}  // namespace amphora::shim
