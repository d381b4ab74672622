// SPDX-License-Identifier: Apache-2.0
// amphora events: a container's statistics at intervals and its OOM kills, one JSON object a line,
// until the container has ended.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cli/command.h"
#include "executor/cli/context.h"
#include "executor/cli/options.h"
#include "executor/cli/output.h"
#include "executor/cli/stats_json.h"
#include "executor/cli/units.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct EventsOptions {
  std::string interval = "5s";
  bool stats = false;
};
constexpr Option kOptions[] = {
    option<&EventsOptions::interval>("interval", 0, "set the stats collection interval", "5s"),
    option<&EventsOptions::stats>("stats", 0, "display the container's stats then exit"),
};

Result<void> print_stats(Runtime& runtime, const std::string& id) {
  TRY_ASSIGN(const cgroup::Stats stats, runtime.stats(id));
  return print(stats_event(id, stats) + "\n");
}

int milliseconds_until(Clock::time_point when) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

/// Prints one event for each OOM kill. v1's watch is an eventfd that fires when the killer is called, before it
/// has killed and counted, and once more when the cgroup is removed; so a call is followed up for a moment,
/// and a cgroup that went with a call unanswered had a kill that its files can no longer tell.
class OomTeller {
 public:
  explicit OomTeller(const cgroup::Cgroup* cgroup) : cgroup_(cgroup) {
    if (cgroup_ == nullptr) return;
    if (auto opened = cgroup_->oom_watch()) watch_ = std::move(*opened);
    told_ = cgroup_->oom_kills().value_or(0);
  }

  /// -1 (which poll(2) passes over) without a memory controller.
  int fd() const { return watch_.get(); }
  /// When to ask again although nothing fired.
  Clock::time_point next() const {
    return calls_ > 0 ? Clock::now() + kPause : Clock::time_point::max();
  }

  Result<void> tell(const std::string& id, bool fired) {
    if (cgroup_ == nullptr) return {};
    if (fired) take_calls();
    const auto kills = cgroup_->oom_kills();
    if (!kills) {
      if (kills.error().sys_errno() != ENOENT && kills.error().sys_errno() != ENODEV) return {};
      removed();
      return calls_ > 0 ? print(oom_event(id) + "\n") : Result<void>();
    }
    if (*kills > told_ || Clock::now() > last_call_ + kFollow) calls_ = 0;
    for (; told_ < *kills; ++told_) TRY(print(oom_event(id) + "\n"));
    return {};
  }

 private:
  static constexpr auto kPause = std::chrono::milliseconds(2);
  static constexpr auto kRemoval = std::chrono::milliseconds(200);
  static constexpr auto kFollow = std::chrono::seconds(1);

  /// One read takes an eventfd's count, or a batch of inotify (v2), whose files are never behind.
  void take_calls() {
    alignas(uint64_t) char buffer[4096];
    ssize_t n = 0;
    do {
      n = read(watch_.get(), buffer, sizeof buffer);
    } while (n < 0 && errno == EINTR);
    uint64_t count = 0;
    if (n != sizeof count) return;
    memcpy(&count, buffer, sizeof count);
    calls_ += count;
    last_call_ = Clock::now();
  }

  /// Takes the removal's own call from the count; the kernel makes it from a work queue.
  void removed() {
    // A call that was counted a moment ago may be a kill's alone.
    const auto until = Clock::now() + kRemoval;
    pollfd last{watch_.get(), POLLIN, 0};
    while (calls_ < 2 && poll(&last, 1, milliseconds_until(until)) > 0) take_calls();
    calls_ -= std::min<uint64_t>(calls_, 1);
    cgroup_ = nullptr;
    watch_.reset();
  }

  const cgroup::Cgroup* cgroup_;  ///< borrowed; null: none, or gone
  UniqueFd watch_;
  uint64_t told_ = 0;   ///< kills, as the cgroup counts them
  uint64_t calls_ = 0;  ///< of the killer (v1), since the last kill that was counted
  Clock::time_point last_call_;
};

Result<int> follow(Runtime& runtime, const std::string& id, std::chrono::nanoseconds interval) {
  TRY_ASSIGN(const Runtime::Report report, runtime.state(id));
  auto init = find_process(report.state.pid, report.state.start_time);
  if (!init) return fail(Errc::kNotFound, "container with id " + id + " is not running");
  TRY_ASSIGN(const auto cgroup, runtime.cgroup(id));
  OomTeller ooms(cgroup.get());
  Clock::time_point next = Clock::now() + interval;
  for (;;) {
    pollfd polled[] = {{init->pidfd.get(), POLLIN, 0}, {ooms.fd(), POLLIN, 0}};
    if (poll(polled, 2, milliseconds_until(std::min(next, ooms.next()))) < 0 && errno != EINTR) {
      return fail_errno(errno, "poll");
    }
    TRY(ooms.tell(id, polled[1].revents != 0));
    if (polled[0].revents != 0) return 0;
    if (Clock::now() >= next) {
      TRY(print_stats(runtime, id));
      next = Clock::now() + interval;
    }
  }
}

Result<int> events(Context& context, const EventsOptions& line, Arguments arguments) {
  const auto interval = parse_duration(line.interval);
  if (!interval || interval->count() <= 0) {
    return fail(Errc::kInvalid, "duration interval must be greater than 0");
  }
  TRY_ASSIGN(Runtime * runtime, context.runtime());
  const std::string id = arguments[0];
  TRY_ASSIGN(const Runtime::Report report, runtime->state(id));
  if (report.status == oci::Status::kStopped) {
    return fail(Errc::kPrecondition, "container with id " + id + " is not running");
  }
  if (line.stats) {
    TRY(print_stats(*runtime, id));
    return 0;
  }
  return follow(*runtime, id, *interval);
}

}  // namespace

constinit const Command kEventsCommand = {
    .name = "events",
    .summary = "display container events such as OOM notifications, cpu, memory and IO statistics",
    .usage = "<container-id>",
    .description =
        "Prints one JSON object a line: statistics every interval, an event for every OOM\n"
        "kill. Ends with the container.",
    .options = kOptions,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = &verb<EventsOptions, &events>,
};

}  // namespace amphora::cli
