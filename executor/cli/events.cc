// SPDX-License-Identifier: Apache-2.0
// amphora events: a container's statistics at intervals and its OOM kills, one JSON object a line,
// until the container has ended.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "executor/cli/command.h"
#include "executor/cli/output.h"
#include "executor/cli/stats_json.h"
#include "executor/cli/units.h"
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

/// Prints one event for each OOM kill since `seen`.
Result<void> print_ooms(const cgroup::Cgroup& cgroup, const std::string& id, uint64_t& seen) {
  const auto now = cgroup.oom_kills();
  if (!now) return {};  // the cgroup is being removed: no kill of ours
  for (; seen < *now; ++seen) TRY(print(oom_event(id) + "\n"));
  return {};
}

void read_empty(int fd) {
  char buffer[4096];
  // Level triggered and possibly blocking: one read takes an eventfd's count or a batch of inotify.
  while (read(fd, buffer, sizeof buffer) < 0 && errno == EINTR) {
  }
}

int milliseconds_until(Clock::time_point when) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

Result<int> follow(Runtime& runtime, const std::string& id, std::chrono::nanoseconds interval) {
  TRY_ASSIGN(const Runtime::Report report, runtime.state(id));
  auto init = find_process(report.state.pid, report.state.start_time);
  if (!init) return fail(Errc::kNotFound, "container with id " + id + " is not running");
  TRY_ASSIGN(const auto cgroup, runtime.cgroup(id));
  UniqueFd watch;
  uint64_t seen = 0;
  if (cgroup) {
    if (auto opened = cgroup->oom_watch()) watch = std::move(*opened);
    seen = cgroup->oom_kills().value_or(0);
  }
  Clock::time_point next = Clock::now() + interval;
  for (;;) {
    pollfd polled[] = {{init->pidfd.get(), POLLIN, 0}, {watch.get(), POLLIN, 0}};
    if (poll(polled, 2, milliseconds_until(next)) < 0 && errno != EINTR) {
      return fail_errno(errno, "poll");
    }
    if (polled[1].revents != 0) read_empty(watch.get());
    if (cgroup) TRY(print_ooms(*cgroup, id, seen));
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
