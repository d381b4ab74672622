// SPDX-License-Identifier: Apache-2.0
// See launch.h.
#include "executor/cli/launch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <expected>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/cli/console.h"
#include "executor/cli/context.h"
#include "executor/cli/notify.h"
#include "executor/cli/options.h"
#include "executor/oci/spec.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

/// More than any descriptor table holds.
constexpr int64_t kMostDescriptors = 1 << 20;

/// A console socket without a terminal that goes to it is refused, as by runc.
Result<void> check_console_socket(const std::string& bundle, bool detached) {
  TRY_ASSIGN(const UniqueFd dir, open_at(AT_FDCWD, bundle, O_PATH | O_DIRECTORY));
  TRY_ASSIGN(const oci::Spec spec, oci::load_spec(dir.get()));
  if (!detached || !spec.process || !spec.process->terminal) {
    return fail(Errc::kInvalid,
                "cannot use console socket if runc will not detach or allocate tty");
  }
  return {};
}

}  // namespace

Result<Inherited> inherited_descriptors(int preserve_fds) {
  Inherited inherited;
  int64_t total = preserve_fds;
  const char* listen = getenv("LISTEN_FDS");
  const char* listener = getenv("LISTEN_PID");
  // sd_listen_fds(3): descriptors that were passed to somebody else are not ours to hand on.
  const bool ours = listener != nullptr && parse_number(listener) == getpid();
  if (ours && listen != nullptr && *listen != 0) {
    const auto count = parse_number(listen);
    if (!count || *count < 0 || *count > kMostDescriptors) {
      return fail(Errc::kInvalid, std::string("LISTEN_FDS is no number of descriptors: ") + listen);
    }
    total += *count;
    if (*count > 0) inherited.env = {std::string("LISTEN_FDS=") + listen, "LISTEN_PID=1"};
  }
  if (preserve_fds < 0 || total > kMostDescriptors) {
    return fail(Errc::kInvalid,
                "--preserve-fds " + std::to_string(preserve_fds) + " is no number of descriptors");
  }
  for (int fd = 3; fd < 3 + total; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) {
      return fail_errno(errno, "please check that preserved-fd " + std::to_string(fd - 3) +
                                   " (of " + std::to_string(total) + ") is present: descriptor " +
                                   std::to_string(fd));
    }
  }
  inherited.count = static_cast<int>(total);
  return inherited;
}

Result<std::string> absolute(const std::string& path) {
  if (path.empty() || path[0] == '/') return path;
  char here[PATH_MAX];
  if (getcwd(here, sizeof here) == nullptr) return fail_errno(errno, "getcwd");
  return std::string(here) + "/" + path;
}

Result<void> send_pidfd(const UniqueFd& socket, const char* kind, const Process& process) {
  const int fds[] = {process.pidfd.get()};
  auto sent = send_with_fds(socket.get(), kind, fds);
  if (!sent) return std::unexpected(std::move(sent).error().context("pidfd socket"));
  return {};
}

Result<Launch> prepare_launch(Context& context, const LaunchOptions& line, bool detached) {
  Launch launch;
  launch.bundle = line.bundle.empty() ? "." : line.bundle;
  TRY_ASSIGN(launch.options.pid_file, absolute(line.pid_file));
  TRY_ASSIGN(Inherited inherited, inherited_descriptors(line.preserve_fds));
  launch.options.preserve_fds = inherited.count;
  launch.options.extra_env = std::move(inherited.env);
  launch.options.systemd_cgroup = context.globals().systemd_cgroup;
  launch.options.rootless_cgroups = context.globals().rootless_cgroups;
  launch.options.no_pivot = line.no_pivot;
  launch.options.no_new_keyring = line.no_new_keyring;
  if (!line.console_socket.empty()) {
    TRY(check_console_socket(launch.bundle, detached));
    TRY_ASSIGN(launch.console, connect_unix(line.console_socket, "console socket"));
  }
  if (!line.pidfd_socket.empty()) {
    TRY_ASSIGN(launch.pidfd_socket, connect_unix(line.pidfd_socket, "pidfd socket"));
  }
  return launch;
}

Result<void> add_notify(Launch& launch, Runtime& runtime, const std::string& id) {
  launch.notify = Notify::from_environment();
  if (!launch.notify) return {};
  TRY_ASSIGN(const std::string root, absolute(runtime.store().root()));
  launch.notify->add_to(launch.options, root, id, launch.options.start_now);
  return {};
}

Error without_noun(Error&& error, const std::string& noun) {
  if (!error.what().starts_with(noun)) return std::move(error);
  return Error(error.code(), error.what().substr(noun.size()));
}

Stdio detached_stdio(UniqueFd& console) {
  Stdio stdio;
  stdio.on_console = [&console](UniqueFd master) -> Result<void> {
    if (!console) return fail(Errc::kInvalid, kTerminalNeedsSocket);
    return send_console(std::move(console), master);
  };
  return stdio;
}

}  // namespace amphora::cli
