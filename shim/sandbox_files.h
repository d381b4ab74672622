// SPDX-License-Identifier: Apache-2.0
// The files of a pod whose sandbox is the shim's: the root file system of the process that holds the
// namespaces, and what all containers of the pod get mounted (host name, hosts, resolv.conf, shared
// memory), which containerd makes for pause containers only. All of it is in the sandbox's bundle.
#pragma once

#include "shim/sandbox_config.h"

namespace amphora::shim {

/// Makes them; the mounts that containers get. On failure remove_pod_files has still to be called.
Result<std::vector<oci::Mount>> make_pod_files(const SandboxConfig& config);

/// Writes the program that holds namespaces, and the config.json that runs it.
Result<void> make_pause_bundle(const SandboxConfig& config, const std::string& user_namespace);

/// Unmounts what is mounted; the files go with the bundle. No error when there is nothing.
Result<void> remove_pod_files(const std::string& bundle);

/// The user namespace that a pod's network namespace belongs to: containerd makes both, and tells the
/// latter only. The host's own is an error.
Result<UniqueFd> users_of_network(const std::string& netns_path);

}  // namespace amphora::shim
