// SPDX-License-Identifier: Apache-2.0
// Making the long-lived server process out of the short-lived `start` helper: executable, process
// group, descriptors, environment, oom_score_adj, scheduling core, cgroup.
#pragma once

#include <string>

#include "executor/base/error.h"
#include "shim/bootstrap.h"

namespace amphora::shim {

/// The descriptor on which `serve` finds its listening socket.
inline constexpr int kListenerFd = 3;

/// Starts `serve` with the socket, from a sealed copy of this executable. When it returns the
/// server exists but may not have run yet; connections wait in the socket's backlog.
Result<void> spawn_server(const Flags& flags, const StartInput& input, const std::string& socket,
                          int listener);

}  // namespace amphora::shim
