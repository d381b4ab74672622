// SPDX-License-Identifier: Apache-2.0
// restore: a container whose processes come from a checkpoint instead of from a program. Record, cgroup
// and limits are made as by create; namespaces, mounts and processes by CRIU, which is told where each
// thing from outside comes from by this bundle's spec.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "detect/verdict.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/process.h"
#include "executor/base/sys.h"
#include "executor/cgroup/cgroup.h"
#include "executor/criu/client.h"
#include "executor/criu/wire.h"
#include "executor/hooks/hooks.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/checkpoint.h"
#include "executor/runtime/parts.h"
#include "executor/runtime/runtime.h"
#include "executor/runtime/undo.h"
#include "executor/setup/host.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_options.h"
#include "executor/store/store.h"

namespace amphora {
namespace {

using runtime::Bundle;
using runtime::External;

/// Makes what a bind mount is attached on where the root filesystem lacks it, name by name below held
/// directories.
Result<void> make_mount_point(int rootfs_fd, const std::string& inside, bool directory) {
  std::string done;
  const auto names = path::components(inside);
  for (size_t i = 0; i < names.size(); ++i) {
    TRY_ASSIGN(const UniqueFd parent,
               open_in_root(rootfs_fd, done.empty() ? "/" : done, O_RDONLY | O_DIRECTORY));
    const std::string name(names[i]);
    done += "/" + name;
    if (i + 1 < names.size() || directory) {
      if (::mkdirat(parent.get(), name.c_str(), 0755) != 0 && errno != EEXIST)
        return fail_errno(errno, "make the mount point " + done);
      continue;
    }
    const UniqueFd file(::openat(parent.get(), name.c_str(),
                                 O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!file && errno != EEXIST) return fail_errno(errno, "make the mount point " + done);
  }
  return {};
}

/// Those in the root filesystem itself; what lies on another mount comes with it.
Result<void> make_mount_points(const oci::Spec& spec, const std::string& bundle, int rootfs_fd) {
  for (const oci::Mount& mount : spec.mounts) {
    const std::string target = path::clean("/" + mount.destination);
    bool beneath = false;
    for (const oci::Mount& other : spec.mounts) {
      const std::string above = path::clean("/" + other.destination);
      beneath = beneath || (above != target && path::is_below(target, above));
    }
    if (beneath || open_in_root(rootfs_fd, target, O_PATH)) continue;
    TRY_ASSIGN(const setup::MountOptions options, setup::parse_mount_options(mount));
    bool directory = true;
    if (options.bind) {
      struct stat st{};
      const std::string source =
          mount.source.starts_with('/') ? mount.source : path::join(bundle, mount.source);
      if (::stat(source.c_str(), &st) != 0) return fail_errno(errno, "mount source " + source);
      directory = S_ISDIR(st.st_mode);
    }
    TRY(make_mount_point(rootfs_fd, target, directory));
  }
  return {};
}

/// CRIU would join them, but also write the checkpoint's host name and shared memory into them.
Result<void> check_joined(const oci::Spec& spec) {
  for (const oci::Namespace& ns : spec.linux_.namespaces) {
    if (ns.path.empty() || ns.kind == oci::NamespaceKind::kNetwork ||
        ns.kind == oci::NamespaceKind::kPid) {
      continue;
    }
    const std::string kind = setup::to_string(ns.kind);
    return fail(Errc::kUnsupported, "the spec joins the " + kind + " namespace " + ns.path +
                                        ", into which criu cannot restore; without a path it gets "
                                        "one of its own");
  }
  return {};
}

/// Descriptors for the worker, and the option that names them.
class Inherited {
 public:
  explicit Inherited(criu::Writer& w) : w_(w) {}
  void add(const std::string& key, int fd) {
    criu::Writer entry;
    entry.text(1, key).signed_number(
        2, criu::Client::kFirstInherited + static_cast<int64_t>(fds.size()));
    w_.message(criu::kInheritFd, entry);
    fds.push_back(fd);
  }
  std::vector<int> fds;

 private:
  criu::Writer& w_;
};

/// Namespaces by path, which the restored processes join: open until the restore has ended.
Result<std::vector<UniqueFd>> inherit_namespaces(const oci::Spec& spec, Inherited& inherited) {
  std::vector<UniqueFd> joined;
  for (const oci::Namespace& ns : spec.linux_.namespaces) {
    const bool net = ns.kind == oci::NamespaceKind::kNetwork;
    if (ns.path.empty() || (!net && ns.kind != oci::NamespaceKind::kPid)) continue;
    TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, ns.path, O_RDONLY));
    inherited.add(net ? "extRootNetNS" : "extRootPidNS", fd.get());
    joined.push_back(std::move(fd));
  }
  return joined;
}

/// What CRIU tells on its way, and what is done about it. Everything is borrowed.
struct Revival {
  Children& children;
  const setup::Host& host;
  const oci::Spec& spec;
  const Stdio& stdio;
  std::optional<Process>& init;
  oci::State& state;
  Entry& entry;
  cgroup::Cgroup* cgroup;  ///< null: it has none
  const Process& worker;
  /// CRIU goes on whatever we answer to the last word before the first instruction: so it is kept here.
  Result<void> allowed = {};

  Result<void> hear(criu::Notification& told) {
    if (told.script == "post-restore") return restored(told.pid);
    if (told.script == "pre-resume") return before_it_runs();
    if (told.script == "orphan-pts-master") {
      if (!stdio.on_console || !told.fd) {
        return fail(Errc::kPrecondition, "the checkpoint has a terminal that nobody asked for");
      }
      return stdio.on_console(std::move(told.fd));
    }
    if (told.script != "setup-namespaces") return {};
    const std::string json = oci::hook_state_json(state, oci::Status::kCreating, told.pid);
    TRY(hooks::run("prestart", spec.hooks.prestart, json, children));
    return hooks::run("createRuntime", spec.hooks.create_runtime, json, children);
  }

  Result<void> restored(pid_t pid) {
    TRY_ASSIGN(const uint64_t start_time, start_time_of(pid));
    UniqueFd pidfd(sys::pidfd_open(pid, 0));
    if (!pidfd) return fail_errno(errno, "open the restored process");
    {
      const std::lock_guard lock(children.mutex());
      children.add_locked(pid);
    }
    init = Process{pid, std::move(pidfd), start_time};
    state.pid = pid;
    state.start_time = start_time;
    return entry.save(state);
  }

  /// Its credentials are restored, its first instruction is not run: one that is refused is killed, and
  /// the worker with it, which would wait for ever for what it traced.
  Result<void> before_it_runs() {
    if (!init) return fail(Errc::kInternal, "criu did not tell of the restored process");
    const std::string file = std::to_string(init->pid) + "/status";
    TRY_ASSIGN(const std::string status, read_file_at(host.proc_fd.get(), file));
    allowed = runtime::check_rights(spec, host, status);
    if (allowed) return {};
    static_cast<void>(send_signal(*init, SIGKILL));
    static_cast<void>(send_signal(worker, SIGKILL));
    if (cgroup != nullptr) TRY(cgroup->kill_all(SIGKILL));
    return allowed;
  }
};

}  // namespace

Result<Created> Runtime::restore(const std::string& id, const std::string& bundle,
                                 const Stdio& stdio, const CreateOptions& options,
                                 const RestoreOptions& criu) {
  auto restored = restore_inner(id, bundle, stdio, options, criu);
  if (!restored) return std::unexpected(std::move(restored).error().context("restore " + id));
  return restored;
}

Result<Created> Runtime::restore_inner(const std::string& id, const std::string& bundle_path,
                                       const Stdio& stdio, const CreateOptions& options,
                                       const RestoreOptions& criu) {
  TRY(oci::check_id(id));
  TRY_ASSIGN(const Bundle bundle, runtime::open_bundle(bundle_path, options.rootfs));
  const oci::Spec& spec = bundle.spec;
  TRY(setup::validate(spec));
  TRY(check_joined(spec));
  auto rootfs = runtime::open_rootfs(bundle.rootfs);
  if (!rootfs) return std::unexpected(std::move(rootfs).error());
  auto images = open_at(AT_FDCWD, criu.image_path, O_RDONLY | O_DIRECTORY);
  if (!images) return std::unexpected(std::move(images).error().context("the checkpoint"));
  UniqueFd work;
  if (!criu.work_path.empty()) {
    TRY_ASSIGN(work, runtime::open_directory(criu.work_path));
  }
  auto record_text = read_file_at(images->get(), runtime::kImageRecord);
  if (!record_text) {
    return std::unexpected(
        std::move(record_text).error().hint(criu.image_path + " is no checkpoint of amphora's"));
  }
  TRY_ASSIGN(const runtime::ImageRecord record, runtime::parse_image_record(*record_text));

  detect::Verdict verdict;
  verdict.kind = detect::Kind::kNative;
  verdict.reason = "restored from a checkpoint";
  Undo undo{*this, std::nullopt, nullptr, std::nullopt, runtime::first_state(id, bundle, verdict),
            {}};
  TRY(undo.begin(bundle, options));

  criu::Writer w =
      runtime::common_options(criu, images->get(), work.get(), "restore.log", bundle.rootfs);
  w.flag(criu::kRestoreSibling, true);
  if (!criu.lsm_profile.empty()) w.text(criu::kLsmProfile, criu.lsm_profile);
  for (const External& external : record.externals) {
    TRY_ASSIGN(const std::string source,
               runtime::source_of(external, spec, bundle.path, undo.state, host_));
    w.text(criu::kExternal, "mnt[" + external.key + "]:" + source);
  }
  Inherited inherited(w);
  for (size_t i = 0; i < 3; ++i) {
    if (record.stdio[i].empty()) continue;
    inherited.add(record.stdio[i], stdio.fds[i] >= 0 ? stdio.fds[i] : static_cast<int>(i));
  }
  TRY_ASSIGN(const std::vector<UniqueFd> joined, inherit_namespaces(spec, inherited));
  TRY(make_mount_points(spec, bundle.path, rootfs->get()));
  TRY_ASSIGN(criu::Client client,
             criu::Client::start({bundle.rootfs, std::move(inherited.fds)}, children_));
  // What it makes is in the container's cgroup from the start, as it is there itself.
  if (undo.cgroup) TRY(undo.cgroup->add_init(client.process().pid));

  Revival revival{.children = children_,
                  .host = host_,
                  .spec = spec,
                  .stdio = stdio,
                  .init = undo.init,
                  .state = undo.state,
                  .entry = *undo.entry,
                  .cgroup = undo.cgroup.get(),
                  .worker = client.process()};
  const auto on_notification = [&](criu::Notification& told) { return revival.hear(told); };
  auto restored = client.call(criu::Request::kRestore, w, on_notification);
  if (!revival.allowed) return std::unexpected(std::move(revival.allowed).error());
  if (!restored) {
    const std::string& where = criu.work_path.empty() ? criu.image_path : criu.work_path;
    return std::unexpected(std::move(restored).error().hint("details: " + where + "/restore.log"));
  }
  if (!undo.init) return fail(Errc::kInternal, "criu did not tell of the restored process");
  if (!options.pid_file.empty()) TRY(runtime::write_pid_file(options.pid_file, undo.init->pid));
  TRY(after_start(spec, undo.state, *undo.init));
  Created result;
  result.kind = undo.state.kind;
  result.reason = undo.state.reason;
  result.init = std::move(*undo.init);
  result.state = std::move(undo.state);
  if (undo.cgroup) result.warnings = undo.cgroup->warnings();
  result.cgroup = std::move(undo.cgroup);
  undo.armed = false;
  return result;
}

}  // namespace amphora
