// SPDX-License-Identifier: Apache-2.0
// The verbs on an existing container: kill, delete, pause, update, state and the like. None keeps
// anything in memory: each finds the container by its record.
#include <signal.h>

#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/intel_rdt.h"
#include "executor/hooks/hooks.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/parts.h"
#include "executor/runtime/runtime.h"
#include "executor/store/store.h"

namespace amphora {
namespace {

/// Signals that are asked for to end a program. Before start, init is still ours, without handlers, and as
/// pid 1 of its namespace the kernel tells it of SIGKILL only: there is no program yet that could decide.
bool ends_by_default(int signal) {
  return signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGQUIT;
}

}  // namespace

Result<void> Runtime::kill(const std::string& id, int signal, All all) {
  TRY_ASSIGN(const Entry entry, store_.peek(id));
  TRY_ASSIGN(const oci::State state, entry.load());
  auto init = find_process(state.pid, state.start_time);
  // In a pid namespace of its own the kernel ends everybody with init; without one, the others would
  // survive it, and are there to be killed even when init has gone (runc #4047).
  if (all == All::kYes || (signal == SIGKILL && !state.own_pid_namespace)) {
    TRY_ASSIGN(const auto cgroup, cgroup::open(state, host_));
    if (cgroup && (init || !cgroup->pids().value_or(std::vector<pid_t>()).empty())) {
      return cgroup->kill_all(signal);
    }
  }
  if (!init) return fail(Errc::kNotFound, "container not running");
  if (runtime::status_of(entry, state) == oci::Status::kCreated && ends_by_default(signal)) {
    signal = SIGKILL;
  }
  TRY(send_signal(*init, signal));
  if (signal == SIGKILL) {
    // v1: a frozen process does not die before it is thawed.
    const auto cgroup = cgroup::open(state, host_);
    if (cgroup && *cgroup && (*cgroup)->is_frozen().value_or(false)) {
      return (*cgroup)->freeze(cgroup::Frozen::kNo);
    }
  }
  return {};
}

Result<void> Runtime::end_processes(const oci::State& state, cgroup::Cgroup* cgroup) {
  if (auto init = find_process(state.pid, state.start_time)) {
    if (cgroup != nullptr && cgroup->is_frozen().value_or(false)) {
      TRY(cgroup->freeze(cgroup::Frozen::kNo));
    }
    static_cast<void>(send_signal(*init, SIGKILL));
    if (!runtime::wait_for_end(*init)) {
      return fail(Errc::kSystem,
                  "process " + std::to_string(init->pid) + " did not end within 10 s of SIGKILL");
    }
  }
  // With a pid namespace of its own, the kernel has ended the rest with init; but a creator that died
  // early has recorded none.
  if (cgroup != nullptr && (!state.own_pid_namespace || state.pid == 0)) {
    return cgroup->kill_all(SIGKILL);
  }
  return {};
}

Result<std::vector<std::string>> Runtime::remove(const std::string& id, Force force) {
  auto found = store_.find(id);
  if (!found) {
    if (force == Force::kYes && found.error().code() == Errc::kNotFound) {
      return std::vector<std::string>();
    }
    return std::unexpected(std::move(found).error());
  }
  Entry entry = std::move(*found);
  auto loaded = entry.load();
  if (!loaded) {
    // Its creator died between making the directory and the first record.
    if (force == Force::kNo) return std::unexpected(std::move(loaded).error());
    TRY(store_.remove(std::move(entry)));
    return std::vector<std::string>();
  }
  const oci::State state = std::move(*loaded);
  const oci::Status status = runtime::status_of(entry, state);
  if (force == Force::kNo && (status == oci::Status::kRunning || status == oci::Status::kPaused)) {
    return fail(Errc::kPrecondition, "cannot delete container " + id +
                                         " that is not stopped: " + oci::to_string(status));
  }
  TRY_ASSIGN(const auto cgroup, cgroup::open(state, host_));
  TRY(end_processes(state, cgroup.get()));
  if (cgroup) TRY(cgroup->remove());
  TRY(cgroup::remove_rdt(state));
  TRY(store_.remove(std::move(entry)));
  return run_poststop(state);
}

Result<std::vector<std::string>> Runtime::remove_ended(const std::string& id, Created& ended) {
  auto entry = store_.find(id);
  if (!entry && entry.error().code() == Errc::kNotFound) return std::vector<std::string>();
  if (!entry) return std::unexpected(std::move(entry).error());
  if (ended.cgroup) {
    // With a pid namespace of its own, the kernel has ended the rest with init.
    if (!ended.state.own_pid_namespace) TRY(ended.cgroup->kill_all(SIGKILL));
    TRY(ended.cgroup->remove());
  }
  TRY(cgroup::remove_rdt(ended.state));
  TRY(store_.remove(std::move(*entry)));
  return run_poststop(ended.state);
}

std::vector<std::string> Runtime::run_poststop(const oci::State& state) {
  std::vector<std::string> warnings;
  if (state.poststop.empty()) return warnings;
  // runtime-spec: failing poststop hooks are warnings, the others still run.
  const std::string json = oci::hook_state_json(state, oci::Status::kStopped, 0);
  for (const oci::Hook& hook : state.poststop) {
    if (auto ran = hooks::run("poststop", {hook}, json, children_); !ran) {
      warnings.push_back(ran.error().what());
    }
  }
  return warnings;
}

Result<Runtime::Live> Runtime::find_live(const std::string& id) {
  TRY_ASSIGN(const Entry entry, store_.peek(id));
  TRY_ASSIGN(oci::State state, entry.load());
  const oci::Status status = runtime::status_of(entry, state);
  if (status == oci::Status::kStopped || status == oci::Status::kCreating) {
    return fail(Errc::kPrecondition, "container not running");
  }
  TRY_ASSIGN(auto cgroup, cgroup::open(state, host_));
  if (!cgroup) return fail(Errc::kUnsupported, "container " + id + " has no cgroup");
  return Live{std::move(state), status, std::move(cgroup)};
}

Result<void> Runtime::pause(const std::string& id) {
  TRY_ASSIGN(const Live live, find_live(id));
  return live.cgroup->freeze(cgroup::Frozen::kYes);
}

Result<void> Runtime::resume(const std::string& id) {
  TRY_ASSIGN(const Live live, find_live(id));
  TRY_ASSIGN(const bool frozen, live.cgroup->is_frozen());
  if (!frozen) return fail(Errc::kPrecondition, "container not paused");
  return live.cgroup->freeze(cgroup::Frozen::kNo);
}

Result<std::vector<std::string>> Runtime::update(const std::string& id,
                                                 const oci::Resources& resources,
                                                 const cgroup::RdtChange& rdt) {
  TRY_ASSIGN(const Live live, find_live(id));
  std::string before;
  if (!rdt.empty()) {
    TRY_ASSIGN(before, cgroup::change_rdt(live.state, rdt));
  }
  auto done = live.cgroup->update(resources);
  if (done) return live.cgroup->warnings();
  if (!rdt.empty()) static_cast<void>(cgroup::restore_rdt(live.state, before));
  return std::unexpected(std::move(done).error());
}

Result<std::unique_ptr<cgroup::Cgroup>> Runtime::cgroup(const std::string& id) {
  TRY_ASSIGN(const Entry entry, store_.peek(id));
  TRY_ASSIGN(const oci::State state, entry.load());
  return cgroup::open(state, host_);
}

Result<cgroup::Stats> Runtime::stats(const std::string& id) {
  TRY_ASSIGN(const Entry entry, store_.peek(id));
  TRY_ASSIGN(const oci::State state, entry.load());
  TRY_ASSIGN(const auto found, cgroup::open(state, host_));
  if (!found) return fail(Errc::kNotFound, "container " + id + " has no cgroup");
  TRY_ASSIGN(cgroup::Stats stats, found->stats());
  if (!state.rdt_class.empty()) {
    // Like a controller that is absent: what cannot be read is left out.
    if (auto rdt = cgroup::rdt_stats(state)) stats.rdt = std::move(*rdt);
  }
  return stats;
}

Result<std::vector<pid_t>> Runtime::pids(const std::string& id) {
  TRY_ASSIGN(const auto found, cgroup(id));
  if (!found) return fail(Errc::kNotFound, "container " + id + " has no cgroup");
  return found->pids();
}

Result<Runtime::Report> Runtime::state(const std::string& id) {
  TRY_ASSIGN(const Entry entry, store_.peek(id));
  Report report;
  TRY_ASSIGN(report.state, entry.load());
  report.status = runtime::status_of(entry, report.state);
  if (report.status == oci::Status::kRunning || report.status == oci::Status::kCreated) {
    const auto cgroup = cgroup::open(report.state, host_);
    if (cgroup && *cgroup && (*cgroup)->is_frozen().value_or(false)) {
      report.status = oci::Status::kPaused;
    }
  }
  return report;
}

Result<std::vector<Runtime::Report>> Runtime::list() {
  TRY_ASSIGN(const std::vector<std::string> ids, store_.list());
  std::vector<Report> reports;
  for (const std::string& id : ids) {
    // One that is deleted meanwhile is simply not listed.
    if (auto report = state(id)) reports.push_back(std::move(*report));
  }
  return reports;
}

Result<void> Runtime::record_exit(const std::string& id, int exit_code) {
  TRY_ASSIGN(Entry entry, store_.find(id));
  TRY_ASSIGN(oci::State state, entry.load());
  state.exit_code = exit_code;
  state.exited_at = runtime::now_rfc3339();
  return entry.save(state);
}

}  // namespace amphora
