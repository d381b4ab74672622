// SPDX-License-Identifier: Apache-2.0
// Worker threads. See workers.h.
#include "shim/workers.h"

#include <pthread.h>
#include <signal.h>

#include <memory>
#include <mutex>
#include <utility>

#include "executor/base/error.h"
#include "shim/loop.h"

namespace amphora::shim {

Workers::~Workers() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return threads_ == 0; });
}

void Workers::enqueue(const std::shared_ptr<Queue>& queue, Callback job) {
  const std::lock_guard lock(mutex_);
  queue->jobs.push_back(std::move(job));
  if (queue->busy) return;
  queue->busy = true;
  ready_.push_back(queue);
  // Every running thread may be blocked for long: only a thread of its own lets this queue start now.
  if (threads_ < kMaxThreads && start_thread()) ++threads_;
  AMPHORA_CHECK(threads_ > 0);
}

bool Workers::start_thread() {
  // Signals are the loop's: a worker inherits a full mask.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int err = ::pthread_create(
      &thread, &attributes,
      [](void* self) -> void* {
        static_cast<Workers*>(self)->work();
        return nullptr;
      },
      this);
  ::pthread_attr_destroy(&attributes);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return err == 0;
}

void Workers::work() {
  std::unique_lock lock(mutex_);
  while (!ready_.empty()) {
    const std::shared_ptr<Queue> queue = std::move(ready_.front());
    ready_.pop_front();
    Callback job = std::move(queue->jobs.front());
    queue->jobs.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
    queue->busy = !queue->jobs.empty();
    if (queue->busy) ready_.push_back(queue);
  }
  --threads_;
  idle_.notify_all();
}

}  // namespace amphora::shim
