// SPDX-License-Identifier: Apache-2.0
// linux.netDevices: network devices of the runtime's namespace that become the container's, with their
// addresses, renamed if the spec says so, and brought up. The kernel gives a physical one back when
// the container's namespace ends.
#pragma once

#include <map>
#include <string>

#include "executor/base/error.h"
#include "executor/oci/spec.h"

namespace amphora::setup {

/// Moves all of them into the network namespace of process `pid`, found through `proc_fd`. A device
/// that is missing, or a move that fails, leaves all of them where they were.
Result<void> move_net_devices(const std::map<std::string, oci::NetDevice>& devices, int proc_fd,
                              pid_t pid);

}  // namespace amphora::setup
