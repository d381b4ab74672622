// SPDX-License-Identifier: Apache-2.0
// The `serve` action: the long-lived process of a pod. Here belong the wiring of loop, server,
// supervisor and publisher, and the decision when to leave.
#pragma once

#include "shim/flags.h"

namespace amphora::shim {

/// Serves the socket on descriptor kListenerFd until told to leave. Returns the exit code.
int serve(const Flags& flags);

}  // namespace amphora::shim
