// SPDX-License-Identifier: Apache-2.0
// The parent's half of the handshake. See launch.h and docs/process-model.md.
#include "executor/setup/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <expected>
#include <mutex>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/init/init.h"
#include "executor/init/step.h"
#include "executor/setup/exec_plan.h"
#include "executor/setup/host.h"
#include "executor/setup/id_maps.h"
#include "executor/setup/netdevices.h"
#include "executor/setup/plan.h"

namespace amphora::setup {
namespace {

using init::Message;
using init::MessageKind;

constexpr size_t kDatagramMax = sizeof(Message) + init::kFailureTextMax;

/// clone3 of this process: the child is a copy that only walks the steps.
class DirectSpawner final : public Spawner {
 public:
  explicit DirectSpawner(const Host& host) : host_(host) {}

  Result<Process> spawn(const SpawnRequest& request) override {
    if (request.pid_namespace_fd < 0) return clone(request);
    // setns around clone3 (pid_namespaces(7)): only children enter; this thread goes back at once.
    TRY_ASSIGN(const UniqueFd own, open_at(host_.proc_fd.get(), "thread-self/ns/pid", O_RDONLY));
    if (::setns(request.pid_namespace_fd, CLONE_NEWPID) != 0) {
      return fail_errno(errno, "join the pid namespace");
    }
    auto process = clone(request);
    AMPHORA_CHECK(::setns(own.get(), CLONE_NEWPID) == 0);
    return process;
  }

 private:
  static Result<Process> clone(const SpawnRequest& request) {
    int pidfd = -1;
    struct clone_args args{};
    args.flags = request.clone_flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    args.exit_signal = SIGCHLD;
    if (request.cgroup_fd >= 0) {
      args.flags |= CLONE_INTO_CGROUP;
      args.cgroup = static_cast<uint64_t>(request.cgroup_fd);
    }
    const init::View view = request.plan.view();
    init::Walk walk{};
    walk.status_fd = request.status_fd;
    const pid_t pid = sys::clone3(args);
    if (pid < 0 && errno == EBUSY && request.cgroup_fd >= 0) {
      // Its children have controllers, so it holds no process (cgroups(7), "no internal processes").
      return fail_errno(EBUSY, "error adding pid of the new process to cgroups");
    }
    if (pid < 0) return fail_errno(errno, "clone the container's init");
    if (pid == 0) {
      // SAFETY: from here on only the child's own code runs (init/), to its end.
      init::keep_only(view, walk, static_cast<uint32_t>(request.preserve_fds));
      init::run(view, walk);
      ::_exit(127);
    }
    return Process{pid, UniqueFd(pidfd), 0};
  }

  const Host& host_;
};

/// One launch: what the functions below share.
class Launch {
 public:
  Launch(const LaunchRequest& request, Process&& process, UniqueFd&& status)
      : request_(request), process_(std::move(process)), status_(std::move(status)) {}

  Result<Process> run() {
    auto done = before_proceed();
    if (done) done = handshake();
    if (done && request_.spent != nullptr) request_.spent->push_back(std::move(status_));
    if (done) return std::move(process_);
    kill();
    return std::unexpected(std::move(done).error());
  }

 private:
  std::string proc(const char* file) const { return std::to_string(process_.pid) + "/" + file; }

  /// What the child does not wait for yet: it sets itself up meanwhile. One that goes on in a child of
  /// its own (kFork) is told to go on as far as that.
  Result<void> before_proceed() {
    if (request_.place) TRY(request_.cgroup->add_init(process_.pid));
    if (!forks()) return share(0);
    TRY(fill_hook_states());
    return proceed_between(0, fork_at_);
  }

  bool forks() {
    const auto steps = request_.plan.steps();
    while (fork_at_ < steps.size() && steps[fork_at_].op != init::Op::kFork) ++fork_at_;
    return fork_at_ < steps.size();
  }

  /// What the parent does for the process that will be the program, before it may pass the steps from
  /// `first` on.
  Result<void> share(size_t first) {
    const ParentWork& work = request_.plan.parent;
    if (work.oom_score_adj) {
      auto written = write_file_at(request_.host.proc_fd.get(), proc("oom_score_adj"),
                                   std::to_string(*work.oom_score_adj));
      if (!written) {
        return std::unexpected(
            std::move(written)
                .error()
                .context("set process.oomScoreAdj " + std::to_string(*work.oom_score_adj))
                .hint("lowering it needs CAP_SYS_RESOURCE"));
      }
    }
    for (const ParentWork::Rlimit& limit : work.rlimits) {
      struct rlimit64 value{limit.soft, limit.hard};
      if (limit.resource == RLIMIT_NOFILE) {
        // The child is still at work and holds more than a small limit allows: raised here, exact by
        // the child itself when it has waited for us (plan_descriptor_limit).
        struct rlimit64 now{};
        ::prlimit64(process_.pid, RLIMIT_NOFILE, nullptr, &now);
        value = {std::max(limit.soft, now.rlim_cur), std::max(limit.hard, now.rlim_max)};
      }
      if (::prlimit64(process_.pid, static_cast<__rlimit_resource>(limit.resource), &value,
                      nullptr) != 0) {
        return std::unexpected(Error::from_errno(errno, "set " + limit.name + " to " +
                                                            std::to_string(limit.soft) + ":" +
                                                            std::to_string(limit.hard))
                                   .hint("raising a hard limit needs CAP_SYS_RESOURCE"));
      }
    }
    if (request_.on_spawned) {
      TRY_ASSIGN(process_.start_time, start_time_of(process_.pid, request_.spent));
      TRY(request_.on_spawned(process_));
    }
    TRY(fill_hook_states());
    return proceed_between(first, request_.plan.steps().size());
  }

  Result<void> proceed_between(size_t first, size_t last) {
    const auto steps = request_.plan.steps();
    for (size_t at = first; at < last; ++at) {
      if (steps[at].op == init::Op::kAwait) TRY(proceed(0));
    }
    return {};
  }

  /// kFork: from here on the other one is the container's.
  Result<void> forked(pid_t pid, UniqueFd pidfd) {
    const Process before = std::exchange(process_, Process{pid, std::move(pidfd), 0});
    {
      const std::lock_guard lock(request_.children.mutex());
      request_.children.add_locked(pid);
    }
    static_cast<void>(wait_for(before));
    request_.children.remove(before.pid);
    return share(fork_at_);
  }

  Result<void> fill_hook_states() {
    for (const Source& source : request_.plan.sources) {
      if (source.kind != Source::Kind::kHookState) continue;
      const bool own_pids = request_.plan.parent.own_pid_namespace;
      AMPHORA_CHECK(static_cast<bool>(request_.hook_state));
      // Anew when another process goes on: its pid is another.
      if (::ftruncate(source.fd.get(), 0) != 0 || ::lseek(source.fd.get(), 0, SEEK_SET) != 0) {
        return fail_errno(errno, "write a hook's state");
      }
      TRY(write_all(source.fd.get(), request_.hook_state(own_pids ? 1 : process_.pid)));
    }
    return {};
  }

  Result<void> proceed(int32_t from) {
    const Message message{MessageKind::kProceed, 0, 0, from};
    const ssize_t n = ::send(status_.get(), &message, sizeof message, MSG_NOSIGNAL);
    if (n >= 0 || errno == EPIPE || errno == ECONNRESET)
      return {};  // its death is told by the read
    return fail_errno(errno, "tell the container's init to go on");
  }

  Result<void> handshake() {
    for (;;) {
      TRY_ASSIGN(Received received, receive_with_fds(status_.get(), kDatagramMax));
      if (received.data.empty()) return ended(ready_);
      Message message{};
      if (received.data.size() < sizeof message)
        return fail(Errc::kInternal, "short message from init");
      std::memcpy(&message, received.data.data(), sizeof message);
      switch (message.kind) {
        case MessageKind::kFailure:
        case MessageKind::kFailureText:
          return std::unexpected(failure_of(received.data));
        case MessageKind::kReady:
          ready_ = true;
          if (!request_.wait_for_exec) return {};
          break;
        case MessageKind::kForked:
          if (received.fds.empty()) return fail(Errc::kInternal, "init went on without a pidfd");
          TRY(forked(message.value, std::move(received.fds.front())));
          break;
        case MessageKind::kReached:
          TRY(reached(static_cast<init::Rendezvous>(message.value)));
          TRY(proceed(message.value));
          break;
        case MessageKind::kConsole:
          if (!request_.on_console || received.fds.empty()) {
            return fail(Errc::kPrecondition, "a terminal was set up that nobody asked for");
          }
          TRY(request_.on_console(std::move(received.fds.front())));
          TRY(proceed(static_cast<int32_t>(init::Rendezvous::kTerminal)));
          break;
        case MessageKind::kMapIds:
          if (received.fds.empty()) return fail(Errc::kInternal, "init sent no tree to map");
          TRY(map_ids_of(request_.plan, message.step, received.fds.front().get()));
          TRY(proceed(static_cast<int32_t>(init::Rendezvous::kMappedTree)));
          break;
        case MessageKind::kSeccomp:
          if (!request_.on_seccomp || received.fds.empty()) {
            return fail(Errc::kUnsupported,
                        "the seccomp profile notifies, but has no listenerPath");
          }
          TRY(request_.on_seccomp(std::move(received.fds.front()), process_));
          break;
        case MessageKind::kProceed:
          break;
      }
    }
  }

  Result<void> reached(init::Rendezvous where) {
    switch (where) {
      case init::Rendezvous::kIdMaps:
        return write_id_maps(request_.host, process_.pid,
                             {request_.plan.parent.uid_mappings, request_.plan.parent.gid_mappings},
                             request_.children);
      case init::Rendezvous::kTimeOffsets:
        return write_time_offsets();
      case init::Rendezvous::kRuntimeHooks:
        return request_.run_hooks ? request_.run_hooks(process_) : Result<void>();
      case init::Rendezvous::kNetDevices:
        return move_net_devices(request_.plan.parent.net_devices, request_.host.proc_fd.get(),
                                process_.pid);
      case init::Rendezvous::kTerminal:
      case init::Rendezvous::kMappedTree:
        break;  // never sent as kReached
    }
    return fail(Errc::kInternal, "init waits at an unknown point");
  }

  Result<void> write_time_offsets() {
    std::string text;
    for (const auto& [clock, offset] : request_.plan.parent.time_offsets) {
      text +=
          clock + " " + std::to_string(offset.secs) + " " + std::to_string(offset.nanosecs) + "\n";
    }
    return write_file_at(request_.host.proc_fd.get(), proc("timens_offsets"), text);
  }

  /// End of file: exec has happened (close-on-exec), or init is dead without a word.
  Result<void> ended(bool ready) {
    if (ready && request_.wait_for_exec) return {};
    struct pollfd poll{process_.pidfd.get(), POLLIN, 0};
    const bool dead = ::poll(&poll, 1, ready ? 0 : 1000) > 0;
    std::string text = "container init ended before it was ready";
    if (dead && request_.cgroup != nullptr) {
      const auto kills = request_.cgroup->oom_kills();
      if (kills && *kills > 0) text = "container init was OOM-killed (memory limit too low?)";
    }
    return fail(Errc::kSystem, text);
  }

  void kill() {
    sys::pidfd_send_signal(process_.pidfd.get(), SIGKILL);
    static_cast<void>(wait_for(process_));
    request_.children.remove(process_.pid);
  }

  const LaunchRequest& request_;
  Process process_;
  UniqueFd status_;
  bool ready_ = false;
  size_t fork_at_ = 0;  ///< the step kFork, or the end
};

}  // namespace

Error failure_of(std::string_view datagram) {
  Message message{};
  std::memcpy(&message, datagram.data(), sizeof message);
  const std::string_view text = datagram.substr(sizeof message);
  if (message.kind == MessageKind::kFailureText) {
    return Error(message.value == 127 ? Errc::kNotFound : Errc::kInvalid, std::string(text));
  }
  const bool is_lookup = text.starts_with("exec: \"");
  if (is_lookup && message.err == ENOENT && text.find('/') == std::string_view::npos) {
    return Error(Errc::kNotFound, std::string(text) + ": executable file not found in $PATH");
  }
  auto error = Error::from_errno(message.err, text);
  if (is_lookup) {
    // The wording of Go's os/exec, which callers of runc match on.
    std::string const wording(text);
    if (message.err == ENOENT)
      return Error(Errc::kNotFound, wording + ": no such file or directory");
    if (message.err == EACCES) return Error(Errc::kInvalid, wording + ": permission denied");
    if (message.err == EISDIR) return Error(Errc::kInvalid, wording + ": is a directory");
  }
  if (text.starts_with("error running ") && message.err == ETIMEDOUT) {
    return Error(Errc::kSystem, std::string(text) + ": it ran past its timeout");
  }
  if (text.starts_with("mount ") && (message.err == ELOOP || message.err == ENOTDIR)) {
    return std::move(error).hint("must be mounted on ordinary directory");
  }
  if (text.starts_with("chdir to cwd") && message.err == EXDEV) {
    return Error(Errc::kInvalid,
                 std::string(text) + ": the directory lies outside the container's root");
  }
  return error;
}

Result<Process> launch(const LaunchRequest& request) {
  // The one that goes on at kFork may be through before its message is read here.
  const Children::Coming coming(request.children);
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return fail_errno(errno, "make the handshake socket");
  }
  // The lower one is next to the plan's descriptors, so that the child closes all above it in one call.
  UniqueFd childs(pair[0]);
  UniqueFd ours(pair[1]);
  DirectSpawner direct(request.host);
  Spawner& spawner = request.spawner != nullptr ? *request.spawner : direct;
  SpawnRequest spawn{request.plan};
  spawn.clone_flags = request.plan.clone_flags;
  spawn.cgroup_fd = request.clone_into;
  spawn.pid_namespace_fd = request.plan.pid_namespace_fd ? request.plan.pid_namespace_fd.get() : -1;
  spawn.preserve_fds = request.preserve_fds;
  spawn.status_fd = childs.get();
  Result<Process> process = [&] {
    // A subreaper must not take the new child for an orphan.
    const std::lock_guard lock(request.children.mutex());
    auto made = spawner.spawn(spawn);
    if (made) request.children.add_locked(made->pid);
    return made;
  }();
  if (!process) return std::unexpected(std::move(process).error());
  childs.reset();
  return Launch(request, std::move(*process), std::move(ours)).run();
}

}  // namespace amphora::setup
