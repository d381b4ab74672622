// SPDX-License-Identifier: Apache-2.0
// PodSandboxConfig read and turned into a spec. See sandbox_config.h.
#include "shim/sandbox_config.h"

#include <map>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/oci/sandbox_spec.h"
#include "executor/oci/spec.h"
#include "sandbox.pb.h"
#include "shim/options.h"

namespace amphora::shim {
namespace {

using oci::NamespaceKind;

// What kubelet wants for the process that a pod depends on, and containerd gives the pause container.
constexpr int kOomScore = -998;

std::vector<oci::IdMapping> mappings_of(
    const google::protobuf::RepeatedPtrField<proto::IDMapping>& from) {
  std::vector<oci::IdMapping> out;
  for (const auto& entry : from) {
    out.push_back({entry.container_id(), entry.host_id(), entry.length()});
  }
  return out;
}

void take_namespaces(const proto::NamespaceOption& from, SandboxConfig& out) {
  out.host_network = from.network() == proto::NODE;
  out.host_pid = from.pid() == proto::NODE;
  out.host_ipc = from.ipc() == proto::NODE;
  out.own_users = from.has_userns_options() && from.userns_options().mode() == proto::POD;
  if (!out.own_users) return;
  out.uid_mappings = mappings_of(from.userns_options().uids());
  out.gid_mappings = mappings_of(from.userns_options().gids());
}

void take_pod(const proto::PodSandboxConfig& from, SandboxConfig& out) {
  out.hostname = from.hostname();
  out.cgroup_parent = from.linux_pod().cgroup_parent();
  out.systemd_cgroup = out.cgroup_parent.ends_with(".slice");
  out.sysctl = {from.linux_pod().sysctls().begin(), from.linux_pod().sysctls().end()};
  take_namespaces(from.linux_pod().security_context().namespace_options(), out);
  out.has_dns = from.has_dns_config();
  const auto& dns = from.dns_config();
  out.dns_servers = {dns.servers().begin(), dns.servers().end()};
  out.dns_searches = {dns.searches().begin(), dns.searches().end()};
  out.dns_options = {dns.options().begin(), dns.options().end()};
}

std::string cgroups_path(const SandboxConfig& config) {
  if (config.cgroup_parent.empty()) return "";
  if (!config.systemd_cgroup) return path::join(config.cgroup_parent, config.id);
  return std::string(path::base_name(config.cgroup_parent)) + ":cri-containerd:" + config.id;
}

std::map<std::string, std::string> sysctl_of(const SandboxConfig& config) {
  auto sysctl = config.sysctl;
  if (config.host_network) return sysctl;
  // containerd's defaults for pods, which it applies to pause containers only.
  sysctl.try_emplace("net.ipv4.ip_unprivileged_port_start", "0");
  if (!config.own_users) sysctl.try_emplace("net.ipv4.ping_group_range", "0 2147483647");
  return sysctl;
}

}  // namespace

Result<SandboxConfig> parse_sandbox_config(const proto::CreateSandboxRequest& request) {
  SandboxConfig out;
  out.id = request.sandbox_id();
  out.bundle = request.bundle_path();
  out.netns_path = request.netns_path();
  for (const auto& mount : request.rootfs()) {
    out.rootfs.push_back({mount.type(),
                          mount.source(),
                          mount.target(),
                          {mount.options().begin(), mount.options().end()}});
  }
  if (type_name(request.options().type_url()) != "runtime.v1.PodSandboxConfig") return out;
  proto::PodSandboxConfig pod;
  if (!pod.ParseFromString(request.options().value())) {
    return fail(Errc::kInvalid, "the pod's configuration cannot be decoded");
  }
  take_pod(pod, out);
  return out;
}

oci::SandboxSpec sandbox_spec(const SandboxConfig& config, const std::string& user_namespace,
                              bool may_lower_oom_score) {
  oci::SandboxSpec spec;
  spec.program = kPauseProgram;
  spec.root = kPauseRoot;
  spec.cgroups_path = cgroups_path(config);
  spec.sysctl = sysctl_of(config);
  spec.annotations["io.kubernetes.cri.container-type"] = "sandbox";
  spec.annotations["io.kubernetes.cri.sandbox-id"] = config.id;
  if (may_lower_oom_score) spec.oom_score_adj = kOomScore;
  spec.namespaces.push_back({NamespaceKind::kMount, ""});
  if (!config.host_pid) spec.namespaces.push_back({NamespaceKind::kPid, ""});
  if (!config.host_ipc) spec.namespaces.push_back({NamespaceKind::kIpc, ""});
  if (!config.host_network) {
    spec.hostname = config.hostname;
    spec.namespaces.push_back({NamespaceKind::kUts, ""});
    spec.namespaces.push_back({NamespaceKind::kNetwork, config.netns_path});
  }
  if (config.own_users) {
    spec.namespaces.push_back({NamespaceKind::kUser, user_namespace});
    spec.uid_mappings = config.uid_mappings;
    spec.gid_mappings = config.gid_mappings;
  }
  return spec;
}

std::string resolv_conf(const SandboxConfig& config) {
  std::string text;
  if (!config.dns_searches.empty()) {
    text += fmt::format("search {}\n", fmt::join(config.dns_searches, " "));
  }
  for (const auto& server : config.dns_servers) text += "nameserver " + server + "\n";
  if (!config.dns_options.empty()) {
    text += fmt::format("options {}\n", fmt::join(config.dns_options, " "));
  }
  return text;
}

}  // namespace amphora::shim
