// SPDX-License-Identifier: Apache-2.0
// What a pod asks of its sandbox, taken from CRI's PodSandboxConfig, and what follows from it: the spec of
// the process that holds the pod's namespaces. Values only; nothing is made here.
#pragma once

#include <string>
#include <vector>

#include "executor/base/fd.h"
#include "executor/oci/sandbox_spec.h"
#include "shim/rootfs.h"

namespace amphora::proto {
class CreateSandboxRequest;
}

namespace amphora::shim {

/// The program of a sandbox without an image (pause/pause.c), in its root file system, in the bundle.
inline constexpr const char* kPauseProgram = "/pause";
inline constexpr const char* kPauseRoot = "pause-root";

struct SandboxConfig {
  std::string id, bundle, netns_path;
  std::vector<RootfsMount> rootfs;  ///< only of a sandbox that brings a config.json
  std::string hostname;             ///< empty: the host's
  bool host_network = false, host_pid = false, host_ipc = false, own_users = false;
  bool systemd_cgroup = false;  ///< the parent is a slice
  std::string cgroup_parent;
  std::vector<oci::IdMapping> uid_mappings, gid_mappings;
  std::map<std::string, std::string> sysctl;
  bool has_dns = false;  ///< else the host's resolv.conf
  std::vector<std::string> dns_servers, dns_searches, dns_options;
};

/// Options that are no PodSandboxConfig are somebody else's and ignored.
Result<SandboxConfig> parse_sandbox_config(const proto::CreateSandboxRequest& request);

/// `user_namespace`: what to join, empty for a new one or none.
oci::SandboxSpec sandbox_spec(const SandboxConfig& config, const std::string& user_namespace,
                              bool may_lower_oom_score);

/// The content of the pod's /etc/resolv.conf, as containerd writes it.
std::string resolv_conf(const SandboxConfig& config);

}  // namespace amphora::shim
