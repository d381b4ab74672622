// SPDX-License-Identifier: Apache-2.0
// What create, run and exec have in common: paths made absolute, sockets connected and inherited
// descriptors checked before anything exists, and what goes with a container as it is made.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/process.h"
#include "executor/cli/context.h"
#include "executor/cli/notify.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {

/// Options of create and of run; each has its own table over it.
struct LaunchOptions {
  std::string bundle;
  std::string console_socket, pidfd_socket, pid_file;
  bool no_pivot = false, no_new_keyring = false;
  int preserve_fds = 0;
  bool detach = false, keep = false, no_subreaper = false;  // run only
};

/// The descriptors that the caller hands through: 3 .. 3+LISTEN_FDS+N-1.
struct Inherited {
  int count = 0;
  std::vector<std::string> env;  ///< LISTEN_FDS and LISTEN_PID for the payload
};
/// Checks that each is open, before any namespace exists.
Result<Inherited> inherited_descriptors(int preserve_fds);

/// `path` from the caller's working directory; empty stays empty.
Result<std::string> absolute(const std::string& path);

/// Sends the pidfd of `process` with the word that says what it is ("standard", "setns").
Result<void> send_pidfd(const UniqueFd& socket, const char* kind, const Process& process);

/// Everything that `create` needs, checked.
struct Launch {
  std::string bundle;
  CreateOptions options;
  UniqueFd console, pidfd_socket;  ///< connected; empty: not asked for
  std::optional<Notify> notify;
};
Result<Launch> prepare_launch(Context& context, const LaunchOptions& line, bool detached);
/// Adds the notify socket where the service manager asked for one. `launch` must stay where it is.
Result<void> add_notify(Launch& launch, Runtime& runtime, const std::string& id);

/// The error without the noun that the runtime put first ("create web: "): the command says in runc's
/// words what failed, which its callers grep for, and the id stood on the command line.
Error without_noun(Error&& error, const std::string& noun);

inline constexpr char kTerminalNeedsSocket[] =
    "cannot allocate tty if runc will detach without setting console socket";

/// Stdio of a detached container: ours, or a terminal that goes to `console`.
Stdio detached_stdio(UniqueFd& console);

}  // namespace amphora::cli
