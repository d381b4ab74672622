// SPDX-License-Identifier: Apache-2.0
// create, start and exec: from a bundle to a running program. Each part of create registers how to
// undo it, so that a failure at any point leaves nothing.
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdint>
#include <expected>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "detect/detect.h"
#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/cgroup/cgroup.h"
#include "executor/cgroup/intel_rdt.h"
#include "executor/executor.h"
#include "executor/hooks/hooks.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/parts.h"
#include "executor/runtime/runtime.h"
#include "executor/runtime/undo.h"
#include "executor/setup/exec_plan.h"
#include "executor/setup/host.h"
#include "executor/setup/launch.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/plan.h"
#include "executor/store/store.h"

namespace amphora {
namespace {

using runtime::Bundle;

std::vector<int> raw(const std::vector<UniqueFd>& fds) {
  std::vector<int> out;
  out.reserve(fds.size());
  for (const UniqueFd& fd : fds) out.push_back(fd.get());
  return out;
}

Executor* executor_for(const std::vector<std::unique_ptr<Executor>>& executors, detect::Kind kind) {
  for (const auto& executor : executors) {
    if (executor->runs(kind)) return executor.get();
  }
  return nullptr;
}

/// How the new process gets into the cgroup: by itself where it can (no grace period to wait for), by
/// us where somebody must be told of its pid first (a new systemd scope).
struct Joining {
  cgroup::SelfJoin self;
  bool by_parent = false;

  Joining() = default;
  Joining(Joining&&) = default;
  Joining& operator=(Joining&&) = default;
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;
  ~Joining() { sys::close_all(self.tasks); }
};

bool is_bind(const oci::Mount& mount) {
  return mount.type == "bind" || std::ranges::find(mount.options, "bind") != mount.options.end() ||
         std::ranges::find(mount.options, "rbind") != mount.options.end();
}

/// What the spec binds there or above (a volume on /etc) is meant to be seen; a file system of its own,
/// as everybody has on /dev/shm, gives way to the pod's.
void add_pod_mounts(const std::vector<oci::Mount>& mounts, oci::Spec& spec) {
  for (oci::Mount mount : mounts) {
    const bool taken = std::ranges::any_of(spec.mounts, [&](const oci::Mount& other) {
      return is_bind(other) && path::is_below(mount.destination, path::clean(other.destination));
    });
    if (taken) continue;
    std::erase_if(spec.mounts, [&](const oci::Mount& other) {
      return path::clean(other.destination) == mount.destination;
    });
    // As containerd has it for the files it makes itself.
    if (spec.root.readonly && mount.destination.starts_with("/etc/")) mount.options.push_back("ro");
    spec.mounts.push_back(std::move(mount));
  }
}

/// What the caller adds to the bundle's own spec.
void add_callers_part(const CreateOptions& options, oci::Spec& spec) {
  spec.process->env.insert(spec.process->env.end(), options.extra_env.begin(),
                           options.extra_env.end());
  spec.mounts.insert(spec.mounts.end(), options.extra_mounts.begin(), options.extra_mounts.end());
  add_pod_mounts(options.pod_mounts, spec);
}

/// Who may manage what is below the container's cgroup: the user of its program, as the host counts
/// users, where the container has a cgroup namespace of its own and can write to its cgroups at all.
std::optional<uint32_t> cgroup_owner(const oci::Spec& spec) {
  if (!setup::has_new(spec, oci::NamespaceKind::kCgroup)) return std::nullopt;
  const bool writable =
      std::any_of(spec.mounts.begin(), spec.mounts.end(), [](const oci::Mount& mount) {
        return (mount.type == "cgroup" || mount.type == "cgroup2") &&
               path::clean("/" + mount.destination) == "/sys/fs/cgroup" &&
               std::find(mount.options.begin(), mount.options.end(), "ro") == mount.options.end();
      });
  if (!writable) return std::nullopt;
  const uint32_t uid = spec.process->user.uid;
  if (!setup::has_new(spec, oci::NamespaceKind::kUser)) return uid;
  for (const oci::IdMapping& mapping : spec.linux_.uid_mappings) {
    if (uid >= mapping.container_id && uid - mapping.container_id < mapping.size) {
      return mapping.host_id + (uid - mapping.container_id);
    }
  }
  return std::nullopt;
}

/// Closes all that a launch held open, in as few calls as the numbers allow: they were opened in a row.
void close_together(setup::Plan& plan, Joining& joining, std::vector<UniqueFd>& more) {
  plan.give_sources(more);
  for (UniqueFd& fd : joining.self.tasks) more.push_back(std::move(fd));
  if (joining.self.clone_into) more.push_back(std::move(joining.self.clone_into));
  std::erase_if(more, [](const UniqueFd& fd) { return !fd; });
  sys::close_all(more);
}

Result<Joining> joining_of(const cgroup::Cgroup* cgroup, pid_t init,
                           const cgroup::SubGroups& below) {
  Joining joining;
  if (cgroup == nullptr) return joining;
  auto self = cgroup->self_join(init, below);
  if (self) {
    joining.self = std::move(*self);
  } else if (self.error().code() == Errc::kUnsupported) {
    joining.by_parent = true;
  } else {
    return std::unexpected(std::move(self).error());
  }
  return joining;
}

/// The seccomp agent's message: one JSON with the listener attached (runtime-spec,
/// ContainerProcessState).
Result<void> send_listener(const setup::ParentWork& work, const oci::State& state,
                           UniqueFd listener, const Process& process) {
  if (work.seccomp_listener_path.empty()) {
    return fail(Errc::kInvalid, "linux.seccomp.listenerPath is missing and a rule notifies");
  }
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!socket || work.seccomp_listener_path.size() >= sizeof address.sun_path) {
    return fail(Errc::kInvalid, "linux.seccomp.listenerPath " + work.seccomp_listener_path);
  }
  work.seccomp_listener_path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(socket.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno(errno, "failed to connect with seccomp agent " + work.seccomp_listener_path);
  }
  const std::string message =
      oci::seccomp_state_json(state, oci::Status::kCreating, process.pid, work.seccomp_metadata);
  const int fd = listener.get();
  return send_with_fds(socket.get(), message, std::span(&fd, 1));
}

/// podman, CRI-O and people's scripts tell by this phrase that the set-up was reached.
template <class T>
Result<T> in_runcs_words(Result<T>&& reached,
                         const char* words = "unable to start container process") {
  if (reached) return std::move(reached);
  return std::unexpected(std::move(reached).error().context(words));
}

Error not_runnable(const detect::Verdict& verdict) {
  return Error(Errc::kUnsupported, "no executor for " +
                                       std::string(detect::to_string(verdict.kind)) +
                                       " in this build: " + verdict.path);
}

}  // namespace

Runtime::Runtime(Store store, setup::Host host, std::vector<std::unique_ptr<Executor>> executors,
                 detect::WatCheck wat_check, Children& children, FromImage from_image)
    : store_(std::move(store)),
      host_(std::move(host)),
      executors_(std::move(executors)),
      wat_check_(std::move(wat_check)),
      children_(children),
      from_image_(std::move(from_image)) {}

Result<void> Runtime::Undo::begin(const amphora::runtime::Bundle& bundle,
                                  const CreateOptions& options) {
  const setup::Host& host = runtime.host_;
  const oci::Linux& asked = bundle.spec.linux_;
  amphora::cgroup::Options cgroup_options;
  cgroup_options.systemd = options.systemd_cgroup;
  cgroup_options.annotations = &bundle.spec.annotations;
  cgroup_options.rootless =
      options.rootless_cgroups.value_or(host.euid != 0 || host.in_user_namespace);
  TRY(amphora::cgroup::record_intent(state.id, asked, host, cgroup_options, state));
  if (asked.intel_rdt) {
    TRY_ASSIGN(const std::string resctrl, amphora::cgroup::find_resctrl(host.proc_fd.get()));
    amphora::cgroup::plan_rdt(resctrl, state.id, *asked.intel_rdt, state);
  }
  TRY_ASSIGN(entry, runtime.store_.create(state.id));
  armed = true;
  TRY(entry->save_first(state, spent));
  TRY(amphora::runtime::keep_config(*entry, bundle.config, spent));
  if (options.on_state_dir) TRY(options.on_state_dir(entry->dir_fd()));
  if (asked.intel_rdt) {
    TRY(amphora::cgroup::make_rdt(*asked.intel_rdt, state));
    TRY(entry->save(state));
  }
  TRY_ASSIGN(cgroup, amphora::cgroup::create(state.id, asked, host, cgroup_options));
  if (!cgroup) {
    state.cgroup_dirs.clear();  // the next save tells that there is none to be found there
    return {};
  }
  cgroup->record(state);
  TRY(cgroup->apply(asked.resources));
  if (const auto owner = cgroup_owner(bundle.spec)) TRY(cgroup->delegate(*owner));
  return {};
}

Runtime::Undo::~Undo() {
  if (!armed) return;
  if (init) {
    static_cast<void>(send_signal(*init, SIGKILL));
    static_cast<void>(wait_for(*init));
    runtime.children_.remove(init->pid);
  }
  if (cgroup) static_cast<void>(cgroup->remove());
  static_cast<void>(amphora::cgroup::remove_rdt(state));
  if (entry) static_cast<void>(runtime.store_.remove(std::move(*entry)));
  // runtime-spec: poststop runs after deletion, also of what failed to be created.
  static_cast<void>(hooks::run("poststop", state.poststop,
                               oci::hook_state_json(state, oci::Status::kStopped, 0),
                               runtime.children_));
}

/// What happens on our side while init is made.
void Runtime::Undo::attend(setup::LaunchRequest& request, const oci::Spec& spec,
                           const setup::ParentWork& work) {
  request.on_spawned = [this](const Process& process) -> Result<void> {
    state.pid = process.pid;
    state.start_time = process.start_time;
    TRY(amphora::cgroup::add_to_rdt(state, process.pid));
    return entry->save(state, &spent);
  };
  request.hook_state = [this](pid_t pid) {
    return oci::hook_state_json(state, oci::Status::kCreating, pid);
  };
  request.run_hooks = [this, &spec](const Process& process) -> Result<void> {
    const std::string json = oci::hook_state_json(state, oci::Status::kCreating, process.pid);
    TRY(hooks::run("prestart", spec.hooks.prestart, json, runtime.children_));
    return hooks::run("createRuntime", spec.hooks.create_runtime, json, runtime.children_);
  };
  request.on_seccomp = [this, &work](UniqueFd listener, const Process& process) {
    return send_listener(work, state, std::move(listener), process);
  };
}

Result<setup::ExecPlan> Runtime::plan_exec(const std::string& id, const oci::Spec& spec,
                                           oci::Process& process, int rootfs_fd,
                                           const cgroup::Cgroup* cgroup,
                                           detect::Verdict&& verdict) {
  Executor* executor = executor_for(executors_, verdict.kind);
  if (executor == nullptr) return std::unexpected(not_runnable(verdict));
  // A guest gets exactly process.env; a native program also HOME, as everywhere.
  if (verdict.kind == detect::Kind::kNative) runtime::add_home(process, rootfs_fd, spec);
  return executor->plan_exec({id, spec, cgroup}, process, std::move(verdict));
}

Result<Created> Runtime::create(const std::string& id, const std::string& bundle_path,
                                const Stdio& stdio, const CreateOptions& options) {
  auto created = create_inner(id, bundle_path, stdio, options);
  if (!created) return std::unexpected(std::move(created).error().context("create " + id));
  return created;
}

Result<Created> Runtime::create_inner(const std::string& id, const std::string& bundle_path,
                                      const Stdio& stdio, const CreateOptions& options) {
  TRY(oci::check_id(id));
  TRY_ASSIGN(Bundle bundle, runtime::open_bundle(bundle_path, options.rootfs));
  oci::Spec& spec = bundle.spec;
  add_callers_part(options, spec);
  TRY(setup::validate(spec));
  auto rootfs = runtime::open_rootfs(bundle.rootfs);
  if (!rootfs) return std::unexpected(std::move(rootfs).error());
  TRY_ASSIGN(detect::Verdict verdict, detect::detect(spec, *spec.process, rootfs->get(), wat_check_,
                                                     /*mounts_made=*/false, bundle.dir.get()));
  TRY_ASSIGN(const std::string no_layer, look_into_image(id, spec, *spec.process, &verdict));

  Undo undo{*this, std::nullopt, nullptr, std::nullopt, runtime::first_state(id, bundle, verdict),
            {}};
  TRY(undo.begin(bundle, options));
  Created result;
  result.kind = undo.state.kind;
  result.reason = undo.state.reason;
  TRY_ASSIGN(const setup::ExecPlan exec, plan_exec(id, spec, *spec.process, rootfs->get(),
                                                   undo.cgroup.get(), std::move(verdict)));
  UniqueFd start;
  if (!options.start_now) {
    TRY_ASSIGN(start, runtime::listen_for_start(*undo.entry));
  }
  const auto cgroup_paths =
      undo.cgroup ? undo.cgroup->paths() : std::map<std::string, std::string>();
  TRY_ASSIGN(Joining joining, joining_of(undo.cgroup.get(), 0, {}));
  setup::PlanInput input{id, spec, *spec.process, host_, exec, bundle.rootfs, cgroup_paths};
  input.cgroup_tasks = joining.self.tasks;
  input.placed_by_parent = joining.by_parent;
  std::copy(std::begin(stdio.fds), std::end(stdio.fds), std::begin(input.stdio));
  if (start) input.start_socket = start.get();
  input.preserve_fds = options.preserve_fds;
  input.no_pivot = options.no_pivot;
  std::vector<std::string> kernel_mounts;
  if (options.no_pivot) {
    TRY_ASSIGN(kernel_mounts, setup::kernel_mounts(host_.proc_fd.get()));
    input.kernel_mounts = kernel_mounts;
  }
  input.no_new_keyring = options.no_new_keyring;
  TRY_ASSIGN(setup::Plan plan, setup::make_plan(input));
  TRY(in_runcs_words(setup::open_sources(plan, bundle.dir.get(), raw(exec.fds)),
                     "unable to start container process: error during container init"));
  result.warnings = plan.warnings;
  // What a limit could not become on this host's kind of cgroups, and is ignored by all runtimes.
  if (undo.cgroup) {
    const std::vector<std::string>& ignored = undo.cgroup->warnings();
    result.warnings.insert(result.warnings.end(), ignored.begin(), ignored.end());
  }

  setup::LaunchRequest request{plan, host_, undo.cgroup.get(), children_};
  request.clone_into = joining.self.clone_into.get();
  request.place = joining.by_parent;
  request.spawner = exec.spawner;
  request.preserve_fds = options.preserve_fds;
  request.wait_for_exec = options.start_now;
  std::vector<UniqueFd>& spent = undo.spent;
  request.spent = &spent;
  request.on_console = stdio.on_console;
  undo.attend(request, spec, plan.parent);
  auto launched = in_runcs_words(setup::launch(request));
  if (!launched && launched.error().code() == Errc::kNotFound && !no_layer.empty()) {
    return std::unexpected(std::move(launched).error().hint(no_layer));
  }
  TRY_ASSIGN(undo.init, std::move(launched));
  if (!options.pid_file.empty()) TRY(runtime::write_pid_file(options.pid_file, undo.init->pid));
  if (options.start_now) TRY(after_start(spec, undo.state, *undo.init));
  result.init = std::move(*undo.init);
  result.state = std::move(undo.state);
  result.cgroup = std::move(undo.cgroup);
  undo.armed = false;
  spent.push_back(undo.entry->release_dir());
  spent.push_back(std::move(*rootfs));
  spent.push_back(std::move(bundle.dir));
  for (UniqueFd& fd : bundle.spent) spent.push_back(std::move(fd));
  spent.push_back(std::move(start));
  close_together(plan, joining, spent);
  return result;
}

Result<void> Runtime::start(const std::string& id) {
  TRY_ASSIGN(const Entry entry, store_.find(id));
  TRY_ASSIGN(const oci::State state, entry.load());
  switch (runtime::status_of(entry, state)) {
    case oci::Status::kCreated:
      break;
    case oci::Status::kRunning:
    case oci::Status::kPaused:
      return fail(Errc::kPrecondition, "cannot start an already running container");
    case oci::Status::kCreating:
    case oci::Status::kStopped:
      return fail(Errc::kPrecondition, "cannot start a container that has stopped");
  }
  TRY_ASSIGN(const Process init, find_process(state.pid, state.start_time));
  auto started = runtime::release_start(entry, init);
  if (!started) return std::unexpected(std::move(started).error().context("start " + id));
  // Parsed only where it matters: a container without poststart hooks starts without it.
  TRY_ASSIGN(const std::string config,
             read_file_at(entry.dir_fd(), runtime::kConfigCopy, 16 << 20));
  if (config.find("\"poststart\"") == std::string::npos) return {};
  TRY_ASSIGN(const oci::Spec spec, oci::parse_spec(config));
  auto hooked = after_start(spec, state, init);
  if (!hooked) return std::unexpected(std::move(hooked).error().context("start " + id));
  return {};
}

/// runtime-spec 1.3: a failing poststart hook stops the container.
Result<void> Runtime::after_start(const oci::Spec& spec, const oci::State& state,
                                  const Process& init) {
  if (spec.hooks.poststart.empty()) return {};
  auto hooked =
      hooks::run("poststart", spec.hooks.poststart,
                 oci::hook_state_json(state, oci::Status::kRunning, state.pid), children_);
  if (!hooked) static_cast<void>(send_signal(init, SIGKILL));
  return hooked;
}

Result<Process> Runtime::exec(const std::string& id, const oci::Process& wanted, const Stdio& stdio,
                              const ExecOptions& options) {
  return exec(
      id, [&](const oci::Process&) -> Result<oci::Process> { return wanted; }, stdio, options);
}

Result<Process> Runtime::exec(const std::string& id, const MakeProcess& make, const Stdio& stdio,
                              const ExecOptions& options) {
  auto process = exec_inner(id, make, stdio, options);
  if (!process) return std::unexpected(std::move(process).error().context("exec in " + id));
  return process;
}

Result<Process> Runtime::exec_inner(const std::string& id, const MakeProcess& make,
                                    const Stdio& stdio, const ExecOptions& options) {
  std::vector<UniqueFd> spent;
  TRY_ASSIGN(Entry entry, store_.peek(id));
  TRY_ASSIGN(const oci::State state, entry.load(&spent));
  auto init = find_process(state.pid, state.start_time, &spent);
  if (!init) return fail(Errc::kPrecondition, "cannot exec in a stopped container");
  TRY_ASSIGN(const oci::Spec spec, oci::load_spec(entry.dir_fd(), &spent));
  TRY_ASSIGN(const auto cgroup, cgroup::open(state, host_));
  if (cgroup && !options.ignore_paused) {
    TRY_ASSIGN(const bool frozen, cgroup->is_frozen());
    if (frozen) {
      return fail(Errc::kPrecondition,
                  "cannot exec in a paused container (use --ignore-paused to override)");
    }
  }
  TRY_ASSIGN(oci::Process process, make(spec.process.value_or(oci::Process())));
  const std::string pid = std::to_string(state.pid);
  auto rootfs = open_at(host_.proc_fd.get(), pid + "/root", O_PATH | O_DIRECTORY);
  if (!rootfs) return std::unexpected(std::move(rootfs).error().context("the container's root"));
  TRY_ASSIGN(detect::Verdict verdict,
             detect::detect(spec, process, rootfs->get(), wat_check_, /*mounts_made=*/true));
  TRY(look_into_image(id, spec, process, &verdict));
  TRY_ASSIGN(const setup::ExecPlan exec,
             plan_exec(id, spec, process, rootfs->get(), cgroup.get(), std::move(verdict)));
  const std::map<std::string, std::string> no_paths;
  TRY_ASSIGN(Joining joining, joining_of(cgroup.get(), state.pid, options.cgroup));
  setup::PlanInput input{id, spec, process, host_, exec, state.rootfs, no_paths};
  input.cgroup_tasks = joining.self.tasks;
  input.placed_by_parent = joining.by_parent;
  std::copy(std::begin(stdio.fds), std::end(stdio.fds), std::begin(input.stdio));
  input.preserve_fds = options.preserve_fds;
  input.parent_records = !options.pid_file.empty() || !state.rdt_class.empty();
  TRY_ASSIGN(setup::Plan plan, setup::make_exec_plan(input, init->pidfd.get()));
  TRY(setup::open_sources(plan, entry.dir_fd(), raw(exec.fds)));
  setup::LaunchRequest request{plan, host_, cgroup.get(), children_};
  request.clone_into = joining.self.clone_into.get();
  request.place = joining.by_parent;
  request.spawner = exec.spawner;
  request.preserve_fds = options.preserve_fds;
  request.wait_for_exec = true;
  request.on_console = stdio.on_console;
  request.on_seccomp = [&](UniqueFd listener, const Process& made) {
    return send_listener(plan.parent, state, std::move(listener), made);
  };
  if (input.parent_records) {
    request.on_spawned = [&](const Process& made) -> Result<void> {
      TRY(cgroup::add_to_rdt(state, made.pid));
      if (options.pid_file.empty()) return {};
      return runtime::write_pid_file(options.pid_file, made.pid);
    };
  }
  request.spent = &spent;
  auto launched = in_runcs_words(setup::launch(request));
  spent.push_back(entry.release_dir());
  spent.push_back(std::move(*rootfs));
  spent.push_back(std::move(init->pidfd));
  close_together(plan, joining, spent);
  return launched;
}

}  // namespace amphora
