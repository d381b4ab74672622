// SPDX-License-Identifier: Apache-2.0
// How tasks end: exits, waiting for them, killing, deleting, out of memory. The order that clients
// rely on is made here: start before exit, exits of execs before init's, OOM before the exit, exit
// before delete.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <spdlog/logger.h>

#include "common.pb.h"
#include "events.pb.h"
#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/runtime/runtime.h"
#include "shim/loop.h"
#include "shim/rootfs.h"
#include "shim/supervisor.h"
#include "shim/task.h"

namespace amphora::shim {

namespace ev = containerd::events;

namespace {

// Execs of a container whose init is gone are dead or dying; one that cannot die must not hide
// init's exit for ever.
constexpr std::chrono::seconds kExecGrace{5};
// What Delete waits for a slow reader of a terminal; CRI's budget for the whole is 10 s.
constexpr std::chrono::seconds kDrainGrace{2};
constexpr std::chrono::milliseconds kDrainPoll{10};
// v1 announces an OOM before it has killed: the counter grows a little later.
constexpr std::chrono::milliseconds kOomRecheck{100};
constexpr int kOomAttempts = 5;
constexpr int kLastSignal = 64;
// The status of a container that was deleted before it had a process.
constexpr uint32_t kNeverRun = 137;

void set_time(proto::Timestamp& out, const Time& time) {
  out.set_seconds(time.seconds);
  out.set_nanos(time.nanos);
}

Exit exit_now(ExitStatus status) { return {static_cast<uint32_t>(status.code()), Time::now()}; }

ev::TaskExit exit_event(const Task& task, const std::string& process_id, uint32_t pid,
                        const Exit& exit) {
  ev::TaskExit event;
  event.set_container_id(task.id);
  event.set_id(process_id);
  event.set_pid(pid);
  event.set_exit_status(exit.status);
  set_time(*event.mutable_exited_at(), exit.at);
  return event;
}

}  // namespace

// ---- Exits

void Supervisor::watch_init(const TaskPtr& task) {
  // Weak: the watch lives in the task.
  task->init.watch = tools_.reaper.watch(task->init.process,
                                         [this, weak = std::weak_ptr(task)](ExitStatus status) {
                                           const TaskPtr alive = weak.lock();
                                           if (!alive) return;
                                           alive->init.watch.reset();
                                           alive->ending = true;
                                           if (alive->init.starting) {
                                             alive->init.early_exit = exit_now(status);
                                           } else {
                                             end_init(alive, exit_now(status));
                                           }
                                         });
}

void Supervisor::watch_exec(const TaskPtr& task, const ProcessPtr& exec) {
  exec->watch = tools_.reaper.watch(
      exec->process,
      [this, weak = std::weak_ptr(task), weak_exec = std::weak_ptr(exec)](ExitStatus status) {
        const TaskPtr alive = weak.lock();
        const ProcessPtr ended = weak_exec.lock();
        if (!alive || !ended) return;
        ended->watch.reset();
        end_exec(alive, ended, exit_now(status));
      });
}

void Supervisor::end_init(const TaskPtr& task, const Exit& exit) {
  task->oom_watch.reset();
  tools_.workers.run(
      task->questions,
      [cgroup = task->cgroup, shared_pids = !task->own_pid_namespace]() -> Result<uint64_t> {
        if (!cgroup) return 0U;
        // Nobody else ends what init leaves behind when it was not pid 1 of a namespace.
        if (shared_pids) (void)cgroup->kill_all(SIGKILL);
        return cgroup->oom_kills();
      },
      [this, task, exit](Result<uint64_t> kills) {
        if (kills) publish_oom(task, *kills);
        await_execs(task, exit);
      });
}

void Supervisor::await_execs(const TaskPtr& task, const Exit& exit) {
  if (!task->has_live_execs()) return say_init_exit(task, exit);
  task->init.early_exit = exit;  // end_exec looks at it
  auto timer = std::make_shared<asio::steady_timer>(tools_.loop, kExecGrace);
  timer->async_wait([this, timer, task](boost::system::error_code) {
    if (!task->init.early_exit) return;
    tools_.log->warn("container {} has ended, but not all its execs", task->id);
    say_init_exit(task, *std::exchange(task->init.early_exit, {}));
  });
}

void Supervisor::end_exec(const TaskPtr& task, const ProcessPtr& exec, const Exit& exit) {
  const auto look_at_init = [this, task] {
    if (task->ending && !task->init.starting && task->init.early_exit && !task->has_live_execs()) {
      say_init_exit(task, *std::exchange(task->init.early_exit, {}));
    }
  };
  if (!exec) return look_at_init();
  exec->io->finish([this, task, exec, exit, look_at_init] {
    exec->phase = Stopped{exit};
    tools_.events.publish("/tasks/exit", exit_event(*task, exec->exec_id, exec->pid(), exit));
    exec->answer_waiters();
    look_at_init();
  });
}

void Supervisor::say_init_exit(const TaskPtr& task, const Exit& exit) {
  if (std::exchange(task->exit_said, true)) return;
  task->init.io->finish([this, task, exit] {
    task->init.phase = Stopped{exit};
    tools_.events.publish("/tasks/exit", exit_event(*task, task->id, task->init.pid(), exit));
    task->init.answer_waiters();
    // For `delete` after a crash of ours. Behind it in the queue, Delete removes the record again.
    tools_.workers.run(
        task->verbs,
        [task, backend = task->backend, code = static_cast<int>(exit.status)] {
          return backend->record_exit(task->id, code);
        },
        [](const Result<void>&) {});
  });
}

void Supervisor::wait(const std::string& id, const std::string& exec_id, Waiter waiter) {
  auto task = find(id);
  if (!task) return waiter.done(std::unexpected(std::move(task).error()));
  auto process = find_process(*task, exec_id);
  if (!process) return waiter.done(std::unexpected(std::move(process).error()));
  if ((*process)->is<Stopped>()) return waiter.done((*process)->exit());
  (*process)->park(std::move(waiter));
}

// ---- Kill

void Supervisor::kill(const std::string& id, const std::string& exec_id, int signal, All all,
                      Done<void> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  const TaskPtr task = *found;
  auto process = find_process(task, exec_id);
  if (!process) return done(std::unexpected(std::move(process).error()));
  if (signal < 0 || signal > kLastSignal) {
    return done(fail(Errc::kInvalid, "there is no signal " + std::to_string(signal)));
  }
  const bool is_init = exec_id.empty();
  if ((*process)->is<Stopped>() || (is_init && task->ending)) {
    return done(fail(Errc::kNotFound, "process already finished"));
  }
  if (is_init && task->restore) {
    return done(fail(Errc::kNotFound, "container " + id + " has no process before its start"));
  }
  if ((*process)->process.pid == 0) {
    return done(fail(Errc::kPrecondition, "exec " + exec_id + " has not been started"));
  }
  if (is_init && all == All::kYes) {
    return tools_.workers.run(
        task->verbs,
        [task, backend = task->backend, signal] { return backend->kill_all(task->id, signal); },
        std::move(done));
  }
  // By pidfd and at once: a signal must get through while a worker is busy with this container.
  if (auto sent = send_signal((*process)->process, signal); !sent) return done(std::move(sent));
  if (signal == SIGKILL && task->init.is<Paused>()) {
    return thaw(task, std::move(done));  // a frozen process cannot die
  }
  done({});
}

// ---- Delete

void Supervisor::remove(const std::string& id, const std::string& exec_id, Done<Deleted> done) {
  const auto creating = tasks_.find(id);
  if (creating != tasks_.end() && creating->second->init.is<Creating>()) {
    // A client that gave up on Create cleans up: its Delete must find what Create makes.
    creating->second->on_created.emplace_back(
        [this, id, exec_id, done = std::move(done)]() mutable {
          remove(id, exec_id, std::move(done));
        });
    return;
  }
  auto task = find(id);
  if (!task) return done(std::unexpected(std::move(task).error()));
  auto process = find_process(*task, exec_id);
  if (!process) return done(std::unexpected(std::move(process).error()));
  if (exec_id.empty()) return remove_init(*task, std::move(done));
  remove_exec(*task, *process, std::move(done));
}

void Supervisor::remove_exec(const TaskPtr& task, const ProcessPtr& exec, Done<Deleted> done) {
  if (exec->starting || exec->is<Running>()) {
    return done(
        fail(Errc::kPrecondition, "cannot delete exec " + exec->exec_id + ": it is running"));
  }
  when_drained(exec, [task, exec, done = std::move(done)]() mutable {
    if (task->execs.erase(exec->exec_id) == 0) {
      return done(fail(Errc::kNotFound, "exec " + exec->exec_id + " was deleted"));
    }
    done(Deleted{exec->pid(), exec->exit()});
  });
}

void Supervisor::remove_init(const TaskPtr& task, Done<Deleted> done) {
  if (auto allowed = task->can_delete(); !allowed) {
    return done(std::unexpected(std::move(allowed).error()));
  }
  task->deleting = true;
  if (task->init.is<Stopped>()) return remove_stopped(task, std::move(done));
  if (task->restore) {  // a checkpoint that was never started: nobody has run
    task->init.phase = Stopped{Exit{kNeverRun, Time::now()}};
    task->init.answer_waiters();
    return remove_stopped(task, std::move(done));
  }
  // Created: ended like any other, so that its exit is told before its deletion.
  (void)send_signal(task->init.process, SIGKILL);
  task->init.park({[this, task, done = std::move(done)](Result<Exit>) mutable {
                     remove_stopped(task, std::move(done));
                   },
                   [] { return false; }});
}

void Supervisor::remove_stopped(const TaskPtr& task, Done<Deleted> done) {
  const ProcessPtr init(task, &task->init);
  when_drained(init, [this, task, done = std::move(done)]() mutable {
    tools_.workers.run(
        task->verbs,
        [task, backend = task->backend]() -> Result<std::vector<std::string>> {
          TRY_ASSIGN(auto warnings, backend->remove(task->id));
          if (task->has_rootfs_mounts) {
            TRY(unmount_rootfs(task->bundle + "/rootfs"));
          }
          return warnings;
        },
        [this, task, done = std::move(done)](Result<std::vector<std::string>> removed) mutable {
          if (!removed) {
            task->deleting = false;
            return done(std::unexpected(std::move(removed).error().context("delete " + task->id)));
          }
          for (const auto& warning : *removed) tools_.log->warn("{}: {}", task->id, warning);
          const Exit exit = task->init.exit();
          ev::TaskDelete event;
          event.set_container_id(task->id);
          event.set_pid(task->init.pid());
          event.set_exit_status(exit.status);
          set_time(*event.mutable_exited_at(), exit.at);
          tools_.events.publish("/tasks/delete", event);
          done(Deleted{task->init.pid(), exit});
          forget(task);
        });
  });
}

void Supervisor::when_drained(ProcessPtr process, Callback done) {
  if (!process->io || process->io->is_drained()) return done();
  // Only a terminal with a slow reader comes here: rare enough to look now and then.
  struct Poll : std::enable_shared_from_this<Poll> {
    Poll(Loop& loop, ProcessPtr watched, Callback then)
        : timer(loop), process(std::move(watched)), call(std::move(then)) {}
    void step() {
      if (process->io->is_drained() || std::chrono::steady_clock::now() > give_up) return call();
      timer.expires_after(kDrainPoll);
      timer.async_wait([self = shared_from_this()](boost::system::error_code) { self->step(); });
    }
    asio::steady_timer timer;
    ProcessPtr process;
    Callback call;
    std::chrono::steady_clock::time_point give_up = std::chrono::steady_clock::now() + kDrainGrace;
  };
  std::make_shared<Poll>(tools_.loop, std::move(process), std::move(done))->step();
}

// ---- Out of memory

void Supervisor::watch_oom(const TaskPtr& task) {
  task->oom_watch->readable([this, weak = std::weak_ptr(task)] {
    const TaskPtr alive = weak.lock();
    if (!alive || !alive->oom_watch) return;
    std::array<char, 4096> drained;  // a counter or inotify events: only that they came matters
    if (::read(alive->oom_fd.get(), drained.data(), drained.size()) <= 0 && errno != EAGAIN) return;
    check_oom(alive, kOomAttempts);
    watch_oom(alive);
  });
}

void Supervisor::check_oom(const TaskPtr& task, int attempts) {
  tools_.workers.run(
      task->questions, [cgroup = task->cgroup] { return cgroup->oom_kills(); },
      [this, task, attempts](Result<uint64_t> kills) {
        if (!kills) return;
        if (*kills > task->oom_kills) return publish_oom(task, *kills);
        if (attempts == 0 || task->ending) return;
        auto timer = std::make_shared<asio::steady_timer>(tools_.loop, kOomRecheck);
        timer->async_wait([this, timer, task, attempts](boost::system::error_code) {
          if (!task->ending) check_oom(task, attempts - 1);
        });
      });
}

void Supervisor::publish_oom(const TaskPtr& task, uint64_t kills) {
  if (kills <= task->oom_kills || task->exit_said) return;
  task->oom_kills = kills;
  ev::TaskOOM event;
  event.set_container_id(task->id);
  tools_.events.publish("/tasks/oom", event);
}

}  // namespace amphora::shim
