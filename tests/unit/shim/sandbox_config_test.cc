// SPDX-License-Identifier: Apache-2.0
// What a pod's configuration makes of its sandbox: namespaces, cgroup, sysctls, resolv.conf, and that the
// spec which is written is one that we read.
#include "shim/sandbox_config.h"

#include <gtest/gtest.h>

#include "sandbox.pb.h"

namespace amphora::shim {
namespace {

using oci::NamespaceKind;

class Pod : public testing::Test {
 protected:
  SandboxConfig parse(const std::string& type = "runtime.v1.PodSandboxConfig") {
    request_.set_sandbox_id("pod");
    request_.set_netns_path("/run/netns/pod");
    request_.mutable_options()->set_type_url(type);
    request_.mutable_options()->set_value(pod_.SerializeAsString());
    auto config = parse_sandbox_config(request_);
    EXPECT_TRUE(config.has_value()) << config.error().what();
    return std::move(*config);
  }
  oci::Spec spec(const std::string& users = "", bool may_lower = true) {
    auto spec = oci::parse_spec(oci::sandbox_spec_json(sandbox_spec(parse(), users, may_lower)));
    EXPECT_TRUE(spec.has_value()) << spec.error().what();
    return std::move(*spec);
  }
  proto::NamespaceOption& namespaces() {
    return *pod_.mutable_linux_pod()->mutable_security_context()->mutable_namespace_options();
  }

  proto::PodSandboxConfig pod_;
  proto::CreateSandboxRequest request_;
};

TEST_F(Pod, HoldsWhatContainersJoin) {
  pod_.set_hostname("web-0");
  pod_.mutable_linux_pod()->set_cgroup_parent("/kubepods/pod1");
  const auto made = spec();
  EXPECT_EQ(made.hostname, "web-0");
  EXPECT_EQ(made.linux_.cgroups_path, "/kubepods/pod1/pod");
  EXPECT_EQ(made.process->args, std::vector<std::string>{"/pause"});
  EXPECT_TRUE(made.root.readonly);
  EXPECT_EQ(made.process->oom_score_adj, -998);
  for (const auto kind :
       {NamespaceKind::kMount, NamespaceKind::kPid, NamespaceKind::kIpc, NamespaceKind::kUts}) {
    ASSERT_NE(made.find_namespace(kind), nullptr);
    EXPECT_EQ(made.find_namespace(kind)->path, "");
  }
  EXPECT_EQ(made.find_namespace(NamespaceKind::kNetwork)->path, "/run/netns/pod");
  EXPECT_EQ(made.find_namespace(NamespaceKind::kUser), nullptr);
  EXPECT_EQ(made.linux_.sysctl.at("net.ipv4.ip_unprivileged_port_start"), "0");
}

TEST_F(Pod, SharesWithTheHostWhatItAsksFor) {
  namespaces().set_network(proto::NODE);
  namespaces().set_pid(proto::NODE);
  namespaces().set_ipc(proto::NODE);
  const auto made = spec("", /*may_lower=*/false);
  ASSERT_EQ(made.linux_.namespaces.size(), 1U);
  EXPECT_EQ(made.linux_.namespaces[0].kind, NamespaceKind::kMount);
  EXPECT_TRUE(made.linux_.sysctl.empty());
  EXPECT_FALSE(made.process->oom_score_adj.has_value());
}

TEST_F(Pod, JoinsTheUserNamespaceOfItsNetwork) {
  auto& users = *namespaces().mutable_userns_options();
  users.set_mode(proto::POD);
  for (auto* const mapping : {users.add_uids(), users.add_gids()}) {
    mapping->set_host_id(200000);
    mapping->set_length(65536);
  }
  const auto made = spec("/proc/self/fd/9");
  EXPECT_EQ(made.find_namespace(NamespaceKind::kUser)->path, "/proc/self/fd/9");
  ASSERT_EQ(made.linux_.uid_mappings.size(), 1U);
  EXPECT_EQ(made.linux_.uid_mappings[0].host_id, 200000U);
  EXPECT_FALSE(made.linux_.sysctl.contains("net.ipv4.ping_group_range"));
  users.set_mode(proto::NODE);
  EXPECT_EQ(spec().find_namespace(NamespaceKind::kUser), nullptr);
}

TEST_F(Pod, KeepsItsOwnSysctls) {
  (*pod_.mutable_linux_pod()->mutable_sysctls())["net.ipv4.ip_unprivileged_port_start"] = "81";
  EXPECT_EQ(spec().linux_.sysctl.at("net.ipv4.ip_unprivileged_port_start"), "81");
}

TEST_F(Pod, IsInASliceByTheSystemdDriver) {
  pod_.mutable_linux_pod()->set_cgroup_parent("/kubepods.slice/kubepods-pod1.slice");
  EXPECT_TRUE(parse().systemd_cgroup);
  EXPECT_EQ(spec().linux_.cgroups_path, "kubepods-pod1.slice:cri-containerd:pod");
}

TEST_F(Pod, ResolvesNamesByItsOwnServersOrTheHosts) {
  EXPECT_FALSE(parse().has_dns);
  auto& dns = *pod_.mutable_dns_config();
  dns.add_servers("10.0.0.1");
  dns.add_servers("10.0.0.2");
  dns.add_searches("a.test");
  dns.add_searches("b.test");
  dns.add_options("ndots:5");
  const auto config = parse();
  EXPECT_TRUE(config.has_dns);
  EXPECT_EQ(resolv_conf(config),
            "search a.test b.test\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n");
}

TEST_F(Pod, OfAnotherTypeIsIgnoredAndABrokenOneRefused) {
  pod_.set_hostname("web-0");
  EXPECT_EQ(parse("some.other.Config").hostname, "");
  request_.mutable_options()->set_type_url("runtime.v1.PodSandboxConfig");
  request_.mutable_options()->set_value("\xff\xff");
  const auto refused = parse_sandbox_config(request_);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Errc::kInvalid);
}

}  // namespace
}  // namespace amphora::shim
