// SPDX-License-Identifier: Apache-2.0
// Checkpoints of tasks, and tasks of checkpoints. What CRIU is told is the runtime's (executor/runtime).
#include <cstdint>
#include <expected>
#include <memory>
#include <utility>

#include <spdlog/logger.h>

#include "events.pb.h"
#include "executor/base/error.h"
#include "executor/runtime/checkpoint.h"
#include "executor/runtime/runtime.h"
#include "shim/loop.h"
#include "shim/supervisor.h"
#include "shim/task.h"

namespace amphora::shim {

namespace ev = containerd::events;

/// What becomes of a create from a checkpoint, which its Start carries out.
Restore Supervisor::restore_of(const CreateRequest& request, CreateOptions&& options) {
  Restore out{std::move(options), {}};
  out.criu.image_path = request.checkpoint;
  out.criu.work_path = request.options.criu_work_path.empty() ? request.bundle + "/criu-work"
                                                              : request.options.criu_work_path;
  out.criu.file_locks = true;  // they are the images' to have
  return out;
}

/// The processes go on at Start, as clients know it of runc: until then there is neither container nor pid.
void Supervisor::start_restored(const TaskPtr& task, Done<uint32_t> done) {
  tools_.workers.run(
      task->verbs,
      [task]() -> Result<Watched> {
        TRY_ASSIGN(auto made,
                   task->backend->restore(task->id, task->bundle, task->init.io->payload(),
                                          task->restore->create, task->restore->criu));
        return watched(std::move(made));
      },
      [this, task, done = std::move(done)](Result<Watched> restored) mutable {
        task->init.starting = false;
        // It can be tried again, or deleted.
        if (!restored) return done(std::unexpected(std::move(restored).error()));
        task->restore.reset();
        adopt_init(task, std::move(*restored));
        task->init.phase = Running{};
        ev::TaskStart event;
        event.set_container_id(task->id);
        event.set_pid(task->init.pid());
        tools_.events.publish("/tasks/start", event);
        watch_init(task);
        done(task->init.pid());
      });
}

void Supervisor::checkpoint(const std::string& id, CheckpointOptions options, Done<void> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  const TaskPtr task = *found;
  if (auto allowed = task->can_checkpoint(); !allowed) return done(std::move(allowed));
  // Not beside the images: those are what a client keeps.
  if (options.work_path.empty()) options.work_path = task->bundle + "/criu-work";
  auto shared = std::make_shared<const CheckpointOptions>(std::move(options));
  tools_.workers.run(
      task->verbs, [task, shared] { return task->backend->checkpoint(task->id, *shared); },
      [this, task, shared, done = std::move(done)](Result<void> written) mutable {
        if (written) {
          ev::TaskCheckpointed event;
          event.set_container_id(task->id);
          event.set_checkpoint(shared->image_path);
          tools_.events.publish("/tasks/checkpointed", event);
        }
        done(std::move(written));
      });
}

}  // namespace amphora::shim
