// SPDX-License-Identifier: Apache-2.0
// The sandbox's life. See sandbox.h.
#include "shim/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <spdlog/logger.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/runtime.h"
#include "shim/backend.h"
#include "shim/loop.h"
#include "shim/rootfs.h"
#include "shim/sandbox_files.h"
#include "shim/task.h"

namespace amphora::shim {

/// What a worker made for CreateSandbox.
struct Sandbox::Prepared {
  TaskBackend* backend = nullptr;
  TaskBackend::Made made;
  std::vector<oci::Mount> mounts;
  std::string spec;
  bool own_program = false;
};

Result<Sandbox::PodPtr> Sandbox::find(const std::string& id) const {
  if (!pod_ || pod_->config.id != id || pod_->holder.is<Creating>()) {
    return fail(Errc::kNotFound, "sandbox " + id + " does not exist");
  }
  return pod_;
}

Result<void> Sandbox::check(const std::string& id) const {
  TRY(find(id));
  return {};
}

void Sandbox::create(SandboxConfig config, Done<std::vector<oci::Mount>> done) {
  if (auto valid = oci::check_id(config.id); !valid) {
    return done(std::unexpected(std::move(valid).error()));
  }
  if (pod_) {
    return done(fail(Errc::kExists, "this shim has sandbox " + pod_->config.id + " already"));
  }
  pod_ = std::make_shared<Pod>();
  pod_->config = std::move(config);
  tools_.workers.run(
      pod_->verbs, [pod = pod_, &tools = tools_] { return prepare(pod->config, tools); },
      [this, pod = pod_, done = std::move(done)](Result<Prepared> prepared) mutable {
        if (!prepared) {
          pod_.reset();
          done(std::unexpected(std::move(prepared).error()));
          if (pod->on_created) pod->on_created();
          return;
        }
        pod->backend = prepared->backend;
        pod->cgroup = std::move(prepared->made.cgroup);
        pod->holder.process = std::move(prepared->made.created.init);
        pod->holder.phase = CreatedPhase{};
        pod->spec = std::move(prepared->spec);
        pod->own_program = prepared->own_program;
        pod->created = Time::now();
        for (const auto& warning : prepared->made.created.warnings) {
          tools_.log->warn("sandbox {}: {}", pod->config.id, warning);
        }
        watch(pod);
        done(std::move(prepared->mounts));
        if (pod->on_created) pod->on_created();
      });
}

/// On a worker.
Result<Sandbox::Prepared> Sandbox::prepare(const SandboxConfig& config, const Tools& tools) {
  const std::string rootfs = config.bundle + "/rootfs";
  const auto make = [&]() -> Result<Prepared> {
    Prepared out;
    TRY_ASSIGN(out.backend, tools.backends.for_root(""));
    TRY_ASSIGN(out.mounts, make_pod_files(config));
    CreateOptions options;
    options.systemd_cgroup = config.systemd_cgroup;
    UniqueFd users;
    // A client of containerd's own may give a sandbox a spec and an image; CRI gives neither.
    if (::access((config.bundle + "/config.json").c_str(), F_OK) == 0) {
      out.own_program = true;
      if (!config.rootfs.empty()) {
        TRY(mount_rootfs(config.rootfs, rootfs));
        options.rootfs = rootfs;
      }
    } else {
      std::string joined;
      if (config.own_users && !config.netns_path.empty()) {
        TRY_ASSIGN(users, users_of_network(config.netns_path));
        joined = "/proc/self/fd/" + std::to_string(users.get());
      }
      TRY(make_pause_bundle(config, joined));
    }
    TRY_ASSIGN(out.spec, read_file_at(AT_FDCWD, config.bundle + "/config.json"));
    TRY_ASSIGN(out.made, out.backend->create(config.id, config.bundle, {}, options));
    return out;
  };
  auto out = make();
  if (out) return out;
  if (!config.rootfs.empty()) (void)unmount_rootfs(rootfs);
  (void)remove_pod_files(config.bundle);
  return std::unexpected(std::move(out).error());
}

void Sandbox::watch(const PodPtr& pod) {
  pod->holder.watch = tools_.reaper.watch(
      pod->holder.process, [this, weak = std::weak_ptr(pod)](ExitStatus status) {
        const PodPtr alive = weak.lock();
        if (!alive) return;
        alive->holder.watch.reset();
        alive->holder.early_exit = Exit{static_cast<uint32_t>(status.code()), Time::now()};
        if (!alive->holder.starting) end(alive);
      });
}

void Sandbox::end(const PodPtr& pod) {
  pod->deadline.reset();
  pod->holder.phase = Stopped{*pod->holder.early_exit};
  tools_.log->info("sandbox {} has ended with {}", pod->config.id, pod->holder.exit().status);
  pod->holder.answer_waiters();
}

void Sandbox::start(const std::string& id, Done<uint32_t> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  const PodPtr pod = *found;
  if (!pod->holder.is<CreatedPhase>() || pod->holder.starting || pod->removing) {
    return done(fail(Errc::kPrecondition,
                     "cannot start sandbox " + id + ": it is " + to_string(pod->holder.phase)));
  }
  pod->holder.starting = true;
  tools_.workers.run(
      pod->verbs, [pod] { return pod->backend->start(pod->config.id); },
      [this, pod, done = std::move(done)](Result<void> started) mutable {
        pod->holder.starting = false;
        if (started) pod->holder.phase = Running{};
        if (pod->holder.early_exit) end(pod);
        if (!started) return done(std::unexpected(std::move(started).error()));
        done(pod->holder.pid());
      });
}

void Sandbox::stop(const std::string& id, std::chrono::seconds patience, Done<void> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  const PodPtr pod = *found;
  if (pod->holder.is<Stopped>()) return done({});
  const bool asked = patience.count() > 0 && pod->own_program && pod->holder.is<Running>();
  if (asked) kill_after(patience, pod);
  // Gone just now is as good: its watch tells.
  if (auto sent = send_signal(pod->holder.process, asked ? SIGTERM : SIGKILL);
      !sent && sent.error().code() != Errc::kNotFound) {
    return done(std::unexpected(std::move(sent).error()));
  }
  pod->holder.park(Waiter{[done = std::move(done)](const Result<Exit>&) mutable { done({}); },
                          [] { return false; }});
}

void Sandbox::kill_after(std::chrono::seconds patience, const PodPtr& pod) {
  const auto at = std::chrono::steady_clock::now() + patience;
  if (pod->deadline && pod->deadline->expiry() <= at) return;  // who asked before waits for less
  pod->deadline = std::make_unique<asio::steady_timer>(tools_.loop, at);
  pod->deadline->async_wait([weak = std::weak_ptr(pod)](boost::system::error_code error) {
    const PodPtr alive = weak.lock();
    if (!error && alive) (void)send_signal(alive->holder.process, SIGKILL);
  });
}

void Sandbox::wait(const std::string& id, Waiter waiter) {
  auto found = find(id);
  if (!found) return waiter.done(std::unexpected(std::move(found).error()));
  if ((*found)->holder.is<Stopped>()) return waiter.done((*found)->holder.exit());
  (*found)->holder.park(std::move(waiter));
}

void Sandbox::remove(const std::string& id, Done<void> done) {
  if (pod_ && pod_->config.id == id && pod_->holder.is<Creating>() && !pod_->on_created) {
    // A client that has waited too long for CreateSandbox: nobody else would take away what it makes.
    pod_->on_created = [this, id, done = std::move(done)]() mutable {
      remove(id, std::move(done));
    };
    return;
  }
  auto found = find(id);
  if (!found || (*found)->removing) return done({});
  const PodPtr& pod = *found;
  pod->removing = true;
  stop(id, std::chrono::seconds(0),
       [this, pod, done = std::move(done)](Result<void> stopped) mutable {
         if (!stopped) {
           pod->removing = false;
           return done(std::move(stopped));
         }
         clear(pod, std::move(done));
       });
}

void Sandbox::clear(const PodPtr& pod, Done<void> done) {
  tools_.workers.run(
      pod->verbs,
      [pod]() -> Result<void> {
        TRY(pod->backend->remove(pod->config.id));
        if (!pod->config.rootfs.empty()) TRY(unmount_rootfs(pod->config.bundle + "/rootfs"));
        return remove_pod_files(pod->config.bundle);
      },
      [this, pod, done = std::move(done)](Result<void> removed) mutable {
        pod->removing = false;
        if (removed) pod_.reset();
        done(std::move(removed));
      });
}

void Sandbox::stats(const std::string& id, Done<cgroup::Stats> done) {
  auto found = find(id);
  if (!found) return done(std::unexpected(std::move(found).error()));
  tools_.workers.run(
      Workers::make_queue(),
      [id, cgroup = (*found)->cgroup]() -> Result<cgroup::Stats> {
        if (!cgroup) return fail(Errc::kNotFound, "sandbox " + id + " has no cgroup");
        return cgroup->stats();
      },
      std::move(done));
}

Result<Sandbox::Status> Sandbox::status(const std::string& id) const {
  TRY_ASSIGN(const PodPtr pod, find(id));
  return Status{pod->holder.pid(), pod->holder.is<Running>(), pod->created, pod->holder.exit(),
                pod->spec};
}

}  // namespace amphora::shim
