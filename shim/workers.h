// SPDX-License-Identifier: Apache-2.0
// Threads for calls that block: made on demand, bounded, gone when nothing is to be done (an idle
// shim has one thread). Jobs of one queue run in order and never at the same time; a container has a
// queue for its verbs and another for its questions, so that nobody waits for somebody else's
// container. Results come back on the loop's thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include <boost/asio/post.hpp>

#include "shim/loop.h"

namespace amphora::shim {

class Workers {
 public:
  static constexpr unsigned kMaxThreads = 64;

  /// An ordered line of jobs.
  class Queue {
    friend class Workers;
    std::deque<Callback> jobs;
    bool busy = false;  // a thread runs its front, or it waits in ready_
  };

  explicit Workers(Loop& loop) : loop_(loop) {}
  /// Waits for the running jobs.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  static std::shared_ptr<Queue> make_queue() { return std::make_shared<Queue>(); }

  /// Runs `job`, which returns a Result, on a thread, then `then` with that Result on the loop.
  template <class Job, class Then>
  void run(const std::shared_ptr<Queue>& queue, Job job, Then then) {
    enqueue(queue, [this, job = std::move(job), then = std::move(then)]() mutable {
      asio::post(loop_, [then = std::move(then), result = guarded(job)]() mutable {
        then(std::move(result));
      });
    });
  }

  unsigned threads() const {
    const std::lock_guard lock(mutex_);
    return threads_;
  }

 private:
  /// Libraries below may throw (no memory); a thread may not.
  template <class Job>
  static std::invoke_result_t<Job&> guarded(Job& job) {
    try {
      return job();
    } catch (const std::exception& exception) {
      return fail(Errc::kInternal, exception.what());
    }
  }
  void enqueue(const std::shared_ptr<Queue>& queue, Callback job);
  bool start_thread();
  void work();

  Loop& loop_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<std::shared_ptr<Queue>> ready_;  // queues with a job and no thread
  unsigned threads_ = 0;
};

}  // namespace amphora::shim
