// SPDX-License-Identifier: Apache-2.0
// The rules of a task's life. See task.h.
#include "shim/task.h"

#include <time.h>

#include <cstdint>
#include <expected>
#include <iterator>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "executor/base/error.h"

namespace amphora::shim {

Time Time::now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return {now.tv_sec, static_cast<int32_t>(now.tv_nsec)};
}

const char* to_string(const Phase& phase) noexcept {
  static constexpr const char* kNames[] = {"being created", "created", "running", "paused",
                                           "stopped"};
  static_assert(std::size(kNames) == std::variant_size_v<Phase>);
  return kNames[phase.index()];
}

void TaskProcess::park(Waiter waiter) {
  std::erase_if(waiters, [](const Waiter& parked) { return parked.is_gone(); });
  waiters.push_back(std::move(waiter));
}

void TaskProcess::answer_waiters() {
  for (auto& waiter : std::exchange(waiters, {})) waiter.done(exit());
}

namespace {

std::unexpected<Error> refuse(const Task& task, const char* verb) {
  return fail(Errc::kPrecondition, std::string("cannot ") + verb + " container " + task.id +
                                       ": it is " + to_string(task.init.phase));
}

}  // namespace

Result<void> Task::can_start() const {
  if (init.is<CreatedPhase>() && !init.starting && !ending && !deleting) return {};
  if (init.starting) return fail(Errc::kPrecondition, "container " + id + " is being started");
  return refuse(*this, "start");
}

Result<void> Task::can_add_exec() const {
  if (restore) {
    return fail(Errc::kPrecondition,
                "container " + id + " is a checkpoint that has not been started");
  }
  if ((init.is<CreatedPhase>() || init.is<Running>()) && !ending && !deleting) return {};
  if (ending) return fail(Errc::kPrecondition, "container " + id + " has ended");
  return refuse(*this, "exec in");
}

Result<void> Task::can_start_exec(const TaskProcess& exec) const {
  TRY(can_add_exec());
  if (exec.is<CreatedPhase>() && !exec.starting) return {};
  return fail(Errc::kPrecondition, "exec " + exec.exec_id + " in container " + id + " is " +
                                       (exec.starting ? "being started" : to_string(exec.phase)));
}

Result<void> Task::can_pause() const {
  if (init.is<Running>() && !ending) return {};
  return refuse(*this, "pause");
}

Result<void> Task::can_resume() const {
  if (init.is<Paused>() && !ending) return {};
  return refuse(*this, "resume");
}

Result<void> Task::can_update() const {
  if (init.is_alive() && !ending && !restore) return {};
  return refuse(*this, "update");
}

Result<void> Task::can_checkpoint() const {
  if ((init.is<Running>() || init.is<Paused>()) && !ending) return {};
  return refuse(*this, "checkpoint");
}

Result<void> Task::can_delete() const {
  if (deleting) return fail(Errc::kNotFound, "container " + id + " is being deleted");
  if (init.starting) return fail(Errc::kPrecondition, "container " + id + " is being started");
  if (init.is<CreatedPhase>() || init.is<Stopped>()) return {};
  return refuse(*this, "delete");
}

bool Task::has_live_execs() const {
  for (const auto& [exec_id, exec] : execs) {
    if (exec->is<Running>() || exec->starting) return true;
  }
  return false;
}

}  // namespace amphora::shim
