// SPDX-License-Identifier: Apache-2.0
// Runtime: the lifecycle verbs of a container, called in-process by the shim and by the command.
// create: load spec, detect, cgroup, executor, plan, launch; everything it did is undone when a later
// part fails. Thread-safe for different containers; calls for one container are ordered by the
// entry's lock. Not here: ttrpc, command line, events, stdio copying.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "detect/detect.h"
#include "executor/base/process.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/intel_rdt.h"
#include "executor/executor.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/checkpoint.h"
#include "executor/setup/host.h"
#include "executor/store/store.h"

namespace amphora {

enum class All : bool { kNo = false, kYes = true };
enum class Force : bool { kNo = false, kYes = true };

/// The payload's stdio: descriptors to become 0, 1, 2 (borrowed; -1: the caller's own), or a
/// terminal whose master is handed to `on_console` while the container is being set up.
struct Stdio {
  int fds[3] = {-1, -1, -1};
  std::function<Result<void>(UniqueFd master)> on_console;  ///< required when process.terminal
};

struct CreateOptions {
  bool systemd_cgroup = false;
  /// Whether missing rights to cgroups are no failure; not said: for everybody but the host's root.
  std::optional<bool> rootless_cgroups;
  bool no_pivot = false;
  bool no_new_keyring = false;
  int preserve_fds = 0;                  ///< descriptors 3 .. 3+n-1 survive exec
  std::string pid_file;                  ///< written before create returns; empty: none
  std::vector<std::string> extra_env;    ///< "K=V", after process.env (LISTEN_FDS, NOTIFY_SOCKET)
  std::vector<oci::Mount> extra_mounts;  ///< after the spec's mounts (/run/notify)
  /// Of the pod's files, for places where the spec binds nothing (/etc/hosts, /dev/shm).
  std::vector<oci::Mount> pod_mounts;
  /// Called when the state directory is there and nothing is mounted yet.
  std::function<Result<void>(int state_dir_fd)> on_state_dir;
  bool start_now = false;  ///< `run`: created and started in one go; poststart hooks included
  std::string rootfs;  ///< overrides root.path (the shim's mounted bundle rootfs); empty: spec's
};

struct Created {
  Process init;                       ///< ours to reap when the caller made it
  std::string kind, reason;           ///< detection's verdict
  std::vector<std::string> warnings;  ///< what the spec asked and was ignored, by runc's contract
  oci::State state;                   ///< as recorded
  std::unique_ptr<cgroup::Cgroup> cgroup;  ///< null: it has none
};

struct ExecOptions {
  bool ignore_paused = false;
  int preserve_fds = 0;
  cgroup::SubGroups cgroup;  ///< beneath the container's, runc's --cgroup
  std::string pid_file;
};

/// Asked about a container whose entrypoint is none of its files: the module among the layers of its
/// image; native: it has none. `name` is args[0].
using FromImage = std::function<Result<detect::Verdict>(
    const std::string& id, const oci::Spec& spec, const std::string& name)>;

class Runtime {
 public:
  /// Without `from_image`, what is not found is not found.
  Runtime(Store store, setup::Host host, std::vector<std::unique_ptr<Executor>> executors,
          detect::WatCheck wat_check, Children& children, FromImage from_image = {});

  Result<Created> create(const std::string& id, const std::string& bundle, const Stdio& stdio,
                         const CreateOptions& options);
  /// Lets a created container's program run; returns when its exec has happened (or it has failed,
  /// with the reason). Runs poststart hooks; a failing one kills the container.
  Result<void> start(const std::string& id);
  /// Starts one more process in a running container; returns when its exec has happened.
  Result<Process> exec(const std::string& id, const oci::Process& process, const Stdio& stdio,
                       const ExecOptions& options);
  /// The process is made from the container's own, as the bundle had it when the container was made (empty without one).
  using MakeProcess = std::function<Result<oci::Process>(const oci::Process& own)>;
  Result<Process> exec(const std::string& id, const MakeProcess& make, const Stdio& stdio,
                       const ExecOptions& options);
  /// kNotFound when init has exited (runc: "container not running").
  Result<void> kill(const std::string& id, int signal, All all);
  /// Removes a stopped container (created ones are killed first); running needs Force. Runs poststop
  /// hooks; their failures are warnings. Force on an unknown id succeeds.
  Result<std::vector<std::string>> remove(const std::string& id, Force force);
  /// The same for a container whose init the caller has made and reaped: nothing is looked up anew.
  Result<std::vector<std::string>> remove_ended(const std::string& id, Created& ended);
  /// Writes a running native container's processes to a directory; they end, unless they are left running.
  /// The record stays: the caller removes it. kUnsupported: no criu, or a wasm guest.
  Result<void> checkpoint(const std::string& id, const CheckpointOptions& options);
  /// A new container from a bundle and such a directory, running when this returns. Refused when the
  /// checkpoint shows or may do more than the bundle's config.json allows.
  Result<Created> restore(const std::string& id, const std::string& bundle, const Stdio& stdio,
                          const CreateOptions& options, const RestoreOptions& criu);
  Result<void> pause(const std::string& id);
  Result<void> resume(const std::string& id);
  /// New limits, and lines of its RDT class, all or none. The answer: what is ignored, in words.
  Result<std::vector<std::string>> update(const std::string& id, const oci::Resources& resources,
                                          const cgroup::RdtChange& rdt = {});
  Result<cgroup::Stats> stats(const std::string& id);
  Result<std::vector<pid_t>> pids(const std::string& id);
  Result<std::unique_ptr<cgroup::Cgroup>> cgroup(const std::string& id);
  /// The state and its live status. Takes no lock: answers while a create is under way.
  struct Report {
    oci::State state;
    oci::Status status;
  };
  Result<Report> state(const std::string& id);
  Result<std::vector<Report>> list();
  /// Records init's end, for who asks after the shim is gone.
  Result<void> record_exit(const std::string& id, int exit_code);

  /// The plan that create would walk, as text (one line a step) or JSON; nothing is made.
  Result<std::string> describe_plan(const std::string& bundle, bool json);
  /// Detection alone, for `amphora detect BUNDLE`.
  Result<detect::Verdict> detect_bundle(const std::string& bundle);

  const setup::Host& host() const noexcept { return host_; }
  Store& store() noexcept { return store_; }

 private:
  struct Undo;
  struct Live {
    oci::State state;
    oci::Status status;
    std::unique_ptr<cgroup::Cgroup> cgroup;
  };
  Result<Created> create_inner(const std::string& id, const std::string& bundle_path,
                               const Stdio& stdio, const CreateOptions& options);
  Result<void> checkpoint_inner(const std::string& id, const CheckpointOptions& options);
  Result<Created> restore_inner(const std::string& id, const std::string& bundle_path,
                                const Stdio& stdio, const CreateOptions& options,
                                const RestoreOptions& criu);
  Result<Process> exec_inner(const std::string& id, const MakeProcess& make, const Stdio& stdio,
                             const ExecOptions& options);
  Result<std::string> look_into_image(const std::string& id, const oci::Spec& spec,
                                      const oci::Process& process, detect::Verdict* verdict);
  Result<setup::ExecPlan> plan_exec(const std::string& id, const oci::Spec& spec,
                                    oci::Process& process, int rootfs_fd,
                                    const cgroup::Cgroup* cgroup, detect::Verdict&& verdict);
  Result<void> after_start(const oci::Spec& spec, const oci::State& state, const Process& init);
  Result<void> end_processes(const oci::State& state, cgroup::Cgroup* cgroup);
  std::vector<std::string> run_poststop(const oci::State& state);
  Result<Live> find_live(const std::string& id);

  Store store_;
  setup::Host host_;
  std::vector<std::unique_ptr<Executor>> executors_;
  detect::WatCheck wat_check_;
  Children& children_;
  FromImage from_image_;
};

}  // namespace amphora
