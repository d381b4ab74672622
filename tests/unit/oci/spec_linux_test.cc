// SPDX-License-Identifier: Apache-2.0
// The spec's `linux` object with its resources: every member once, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/oci/spec.h"

namespace amphora::oci {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Result<Spec> parse(const std::string& members) {
  return parse_spec(R"({"ociVersion": "1.3.0", "root": {"path": "r"}, "linux": {)" + members +
                    "}}");
}
Linux linux_of(const std::string& members) {
  auto spec = parse(members);
  EXPECT_TRUE(spec) << spec.error().what();
  return spec ? spec->linux_ : Linux{};
}
Resources resources_of(const std::string& members) {
  return linux_of(R"("resources": {)" + members + "}").resources;
}
std::string problem(const std::string& members) {
  const auto spec = parse(members);
  if (spec) return "accepted";
  EXPECT_EQ(spec.error().code(), Errc::kInvalid);
  return spec.error().what();
}

TEST(Linux, ReadsNamespacesAndMaps) {
  const auto spec = parse(R"("namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"},
    {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user"}, {"type": "cgroup"},
    {"type": "time"}], "uidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
    "gidMappings": [{"containerID": 4, "hostID": 5, "size": 6}],
    "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 7}, "boottime": {"secs": 8}})");
  ASSERT_TRUE(spec) << spec.error().what();
  const auto& l = spec->linux_;
  ASSERT_EQ(l.namespaces.size(), 8U);
  EXPECT_EQ(spec->find_namespace(NamespaceKind::kNetwork)->path, "/n");
  EXPECT_EQ(spec->find_namespace(NamespaceKind::kTime)->path, "");
  EXPECT_EQ(l.uid_mappings[0].host_id, 2U);
  EXPECT_EQ(l.gid_mappings[0].size, 6U);
  EXPECT_EQ(l.time_offsets.at("monotonic").secs, -5);
  EXPECT_EQ(l.time_offsets.at("monotonic").nanosecs, 7U);
  EXPECT_EQ(l.time_offsets.at("boottime").secs, 8);
}

TEST(Linux, ReadsDevicesAndTheRest) {
  const auto l =
      linux_of(R"("devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229,
    "fileMode": 438, "uid": 0, "gid": 5}, {"type": "p", "path": "/dev/pipe"}],
    "netDevices": {"eth0": {"name": "net0"}, "eth1": {}}, "cgroupsPath": "/a/b",
    "sysctl": {"net.ipv4.conf.eth0/1.mtu": "1", "kernel/shmmax": "2"},
    "rootfsPropagation": "rslave",
    "maskedPaths": ["/m"], "readonlyPaths": ["/r"], "mountLabel": "ml",
    "intelRdt": {"closID": "c", "schemata": ["s"], "l3CacheSchema": "l3", "memBwSchema": "mb",
                 "enableMonitoring": true},
    "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["F"]},
    "personality": {"domain": "LINUX32", "flags": []})");
  ASSERT_EQ(l.devices.size(), 2U);
  EXPECT_EQ(l.devices[0].type, 'c');
  EXPECT_EQ(l.devices[0].path, "/dev/fuse");
  EXPECT_EQ(l.devices[0].major, 10);
  EXPECT_EQ(l.devices[0].minor, 229);
  EXPECT_EQ(l.devices[0].file_mode, 0666U) << "decimal in JSON";
  EXPECT_EQ(l.devices[0].uid, 0U);
  EXPECT_EQ(l.devices[0].gid, 5U);
  EXPECT_EQ(l.devices[1].type, 'p');
  EXPECT_FALSE(l.devices[1].uid);
  EXPECT_EQ(l.net_devices.at("eth0").name, "net0");
  EXPECT_EQ(l.net_devices.at("eth1").name, "");
  EXPECT_EQ(l.cgroups_path, "/a/b");
  EXPECT_EQ(l.sysctl.at("kernel/shmmax"), "2");
  EXPECT_EQ(l.rootfs_propagation, "rslave");
  EXPECT_THAT(l.masked_paths, ElementsAre("/m"));
  EXPECT_THAT(l.readonly_paths, ElementsAre("/r"));
  EXPECT_EQ(l.mount_label, "ml");
  EXPECT_EQ(l.intel_rdt->clos_id, "c");
  EXPECT_THAT(l.intel_rdt->schemata, ElementsAre("s"));
  EXPECT_EQ(l.intel_rdt->l3_cache_schema, "l3");
  EXPECT_EQ(l.intel_rdt->mem_bw_schema, "mb");
  EXPECT_TRUE(l.intel_rdt->enable_monitoring);
  EXPECT_EQ(l.memory_policy->mode, "MPOL_BIND");
  EXPECT_EQ(l.memory_policy->nodes, "0");
  EXPECT_THAT(l.memory_policy->flags, ElementsAre("F"));
  EXPECT_EQ(l.personality->domain, "LINUX32");
}

TEST(Linux, ReadsSeccomp) {
  const auto l = linux_of(R"("seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
    "architectures": ["SCMP_ARCH_X86_64"], "flags": [], "listenerPath": "/s",
    "listenerMetadata": "m",
    "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
      {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
       "args": [{"index": 5, "value": 18446744073709551615, "valueTwo": 2,
                 "op": "SCMP_CMP_MASKED_EQ"}]}]})");
  ASSERT_TRUE(l.seccomp);
  EXPECT_EQ(l.seccomp->default_action, "SCMP_ACT_ERRNO");
  EXPECT_EQ(l.seccomp->default_errno_ret, 38U);
  EXPECT_THAT(l.seccomp->architectures, ElementsAre("SCMP_ARCH_X86_64"));
  ASSERT_TRUE(l.seccomp->flags) << "an empty list is not the same as none";
  EXPECT_THAT(*l.seccomp->flags, IsEmpty());
  EXPECT_EQ(l.seccomp->listener_path, "/s");
  EXPECT_EQ(l.seccomp->listener_metadata, "m");
  ASSERT_EQ(l.seccomp->syscalls.size(), 2U);
  EXPECT_THAT(l.seccomp->syscalls[0].names, ElementsAre("read", "write"));
  EXPECT_FALSE(l.seccomp->syscalls[0].errno_ret);
  EXPECT_EQ(l.seccomp->syscalls[1].errno_ret, 1U);
  const auto& arg = l.seccomp->syscalls[1].args.at(0);
  EXPECT_EQ(arg.index, 5U);
  EXPECT_EQ(arg.value, UINT64_MAX);
  EXPECT_EQ(arg.value_two, 2U);
  EXPECT_EQ(arg.op, "SCMP_CMP_MASKED_EQ");
  EXPECT_FALSE(linux_of(R"("seccomp": {"defaultAction": "A", "flags": null})").seccomp->flags);
}

TEST(Linux, RefusesWithTheMembersPath) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("namespaces": [{"type": "pid"}, {"type": "pid"}])",
       "linux.namespaces: pid is listed twice"},
      {R"("namespaces": [{"type": "net"}])",
       "linux.namespaces[0].type: \"net\" is not a namespace"},
      {R"("namespaces": [{"path": "/x"}])", "linux.namespaces[0].type: missing"},
      {R"("namespaces": [{"type": "pid", "path": "x"}])",
       "linux.namespaces[0].path: \"x\" is not an absolute path"},
      {R"("timeOffsets": {"realtime": {"secs": 1}})",
       "linux.timeOffsets: \"realtime\" is neither monotonic nor boottime"},
      {R"("timeOffsets": {"boottime": {"nanosecs": 1000000000}})",
       "linux.timeOffsets.boottime.nanosecs: 1000000000 is out of range (0 to 999999999)"},
      {R"("devices": [{"type": "x", "path": "/d"}])",
       "linux.devices[0].type: \"x\" is not one of c, u, b, p"},
      {R"("devices": [{"type": "c", "path": "d"}])",
       "linux.devices[0].path: \"d\" is not an absolute path"},
      {R"("devices": [{"type": "c", "path": "/d", "major": -1}])",
       "linux.devices[0].major: -1 is negative"},
      {R"("devices": [{"type": "c", "path": "/d", "fileMode": "0666"}])",
       "linux.devices[0].fileMode: must be an integer, is a string"},
      {R"("devices": [{"type": "c", "path": "/d", "uid": 4294967295}])",
       "linux.devices[0].uid: 4294967295 is out of range (0 to 4294967294)"},
      {R"("sysctl": {"net..x": "1"})", "linux.sysctl: \"net..x\" is not a sysctl name"},
      {R"("sysctl": {"/etc/passwd": "1"})", "linux.sysctl: \"/etc/passwd\" is not a sysctl name"},
      {R"("sysctl": {"": "1"})", "linux.sysctl: \"\" is not a sysctl name"},
      {R"("sysctl": {"net.x": 1})", "linux.sysctl[\"net.x\"]: must be a string, is a number"},
      {R"("rootfsPropagation": "secret")",
       "linux.rootfsPropagation: \"secret\" is not a mount propagation"},
      {R"("maskedPaths": ["a"])", "linux.maskedPaths: \"a\" is not an absolute path"},
      {R"("seccomp": {})", "linux.seccomp.defaultAction: missing"},
      {R"("seccomp": {"defaultAction": "A", "listenerMetadata": "m"})",
       "linux.seccomp.listenerMetadata: is set without listenerPath"},
      {R"("seccomp": {"defaultAction": "A", "syscalls": [{"names": [], "action": "B"}]})",
       "linux.seccomp.syscalls[0].names: is empty"},
      {R"("seccomp": {"defaultAction": "A", "syscalls": [{"names": ["x"], "action": "B",
          "args": [{"index": 6, "value": 1, "op": "C"}]}]})",
       "linux.seccomp.syscalls[0].args[0].index: 6 is out of range (0 to 5)"},
      {R"("personality": {})", "linux.personality.domain: missing"},
  };
  for (const auto& [members, text] : cases) EXPECT_EQ(problem(members), text) << members;
}

TEST(Resources, ReadsDeviceRules) {
  const auto r = resources_of(R"("devices": [{"allow": false, "access": "rwm"},
    {"allow": true, "type": "c", "major": 1, "minor": -1, "access": "r"},
    {"allow": true, "type": "b", "major": 0, "minor": 3, "access": "wm"}])");
  ASSERT_EQ(r.devices.size(), 3U);
  EXPECT_EQ(r.devices[0].type, 'a');
  EXPECT_FALSE(r.devices[0].major);
  EXPECT_TRUE(r.devices[1].allow);
  EXPECT_EQ(r.devices[1].type, 'c');
  EXPECT_EQ(r.devices[1].major, 1);
  EXPECT_FALSE(r.devices[1].minor) << "-1 is any";
  EXPECT_EQ(r.devices[2].minor, 3);
  EXPECT_EQ(r.devices[2].access, "wm");
}

TEST(Resources, ReadsEveryController) {
  const auto r = resources_of(R"(
    "memory": {"limit": 1, "reservation": 2, "swap": -1, "kernel": 3, "kernelTCP": 4,
               "swappiness": 60,
               "disableOOMKiller": true, "useHierarchy": false, "checkBeforeUpdate": true},
    "cpu": {"shares": 1024, "quota": -1, "burst": 5, "period": 100000, "realtimeRuntime": 6,
            "realtimePeriod": 7, "cpus": "0-1", "mems": "0", "idle": 1},
    "pids": {"limit": 0},
    "blockIO": {"weight": 10, "leafWeight": 11,
      "weightDevice": [{"major": 8, "minor": 0, "weight": 12, "leafWeight": 13}],
      "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 14}],
      "throttleWriteBpsDevice": [{"major": 8, "minor": 2, "rate": 15}],
      "throttleReadIOPSDevice": [{"major": 8, "minor": 3, "rate": 16}],
      "throttleWriteIOPSDevice": [{"major": 8, "minor": 4, "rate": 17}]},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 18}],
    "network": {"classID": 19, "priorities": [{"name": "eth0", "priority": 20}]},
    "rdma": {"mlx5_1": {"hcaHandles": 21, "hcaObjects": 22}}, "unified": {"memory.high": "23"})");
  EXPECT_EQ(r.memory->limit, 1);
  EXPECT_EQ(r.memory->reservation, 2);
  EXPECT_EQ(r.memory->swap, -1);
  EXPECT_EQ(r.memory->kernel, 3);
  EXPECT_EQ(r.memory->kernel_tcp, 4);
  EXPECT_EQ(r.memory->swappiness, 60U);
  EXPECT_EQ(r.memory->disable_oom_killer, true);
  EXPECT_EQ(r.memory->use_hierarchy, false);
  EXPECT_EQ(r.memory->check_before_update, true);
  EXPECT_EQ(r.cpu->shares, 1024U);
  EXPECT_EQ(r.cpu->quota, -1);
  EXPECT_EQ(r.cpu->burst, 5U);
  EXPECT_EQ(r.cpu->period, 100000U);
  EXPECT_EQ(r.cpu->realtime_runtime, 6);
  EXPECT_EQ(r.cpu->realtime_period, 7U);
  EXPECT_EQ(r.cpu->cpus, "0-1");
  EXPECT_EQ(r.cpu->mems, "0");
  EXPECT_EQ(r.cpu->idle, 1);
  EXPECT_EQ(r.pids_limit, 0);
  EXPECT_EQ(r.block_io->weight, 10);
  EXPECT_EQ(r.block_io->leaf_weight, 11);
  EXPECT_EQ(r.block_io->weight_device.at(0).weight, 12);
  EXPECT_EQ(r.block_io->weight_device.at(0).leaf_weight, 13);
  EXPECT_EQ(r.block_io->read_bps.at(0).rate, 14U);
  EXPECT_EQ(r.block_io->write_bps.at(0).rate, 15U);
  EXPECT_EQ(r.block_io->read_iops.at(0).rate, 16U);
  EXPECT_EQ(r.block_io->write_iops.at(0).minor, 4);
  EXPECT_EQ(r.hugepages.at(0).page_size, "2MB");
  EXPECT_EQ(r.hugepages.at(0).limit, 18U);
  EXPECT_EQ(r.network->class_id, 19U);
  EXPECT_EQ(r.network->priorities.at(0).priority, 20U);
  EXPECT_EQ(r.rdma.at("mlx5_1").hca_handles, 21U);
  EXPECT_EQ(r.rdma.at("mlx5_1").hca_objects, 22U);
  EXPECT_EQ(r.unified.at("memory.high"), "23");
}

TEST(Resources, AreReadAloneForUpdate) {
  const auto r = parse_resources(R"({"memory": {"limit": 4096}, "pids": {"limit": 7}})");
  ASSERT_TRUE(r) << r.error().what();
  EXPECT_EQ(r->memory->limit, 4096);
  EXPECT_EQ(r->pids_limit, 7);
  EXPECT_FALSE(r->cpu);
}

TEST(Resources, AccessLettersThatSayNothingAreLeftOut) {
  const auto r = parse_resources(R"({"devices": [{"access": "rwa"}]})");
  ASSERT_TRUE(r) << r.error().what();
  EXPECT_EQ(r->devices.at(0).access, "rw");
}

TEST(Resources, RefuseWithTheMembersPath) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"devices": [{"allow": true}]})", "devices[0].access: is empty"},
      {R"({"devices": [{"access": ""}]})", "devices[0].access: is empty"},
      {R"({"devices": [{"access": "x"}]})", "devices[0].access: \"x\" has none of r, w, m"},
      {R"({"devices": [{"access": "r", "type": "p"}]})",
       "devices[0].type: \"p\" is not one of a, b, c"},
      {R"({"devices": [{"access": "r", "major": -2}]})", "devices[0].major: -2 is negative"},
      {R"({"memory": {"limit": -2}})", "memory.limit: -2 is neither a size nor -1"},
      {R"({"memory": {"limit": 1.5}})", "memory.limit: must be an integer, is a number"},
      {R"({"cpu": {"shares": -1}})", "cpu.shares: -1 is out of range (0 to 18446744073709551615)"},
      {R"({"pids": {"limit": "max"}})", "pids.limit: must be an integer, is a string"},
      {R"({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]})",
       "hugepageLimits[0].pageSize: \"../x\" is not a page size"},
      {R"({"rdma": {"a": {}}})", "rdma.a: has neither hcaHandles nor hcaObjects"},
      {R"({"unified": {"../x": "1"}})", "unified: \"../x\" is not a file of a cgroup"},
      {R"({"unified": {"..": "1"}})", "unified: \"..\" is not a file of a cgroup"},
      {R"({"blockIO": {"weight": 65536}})", "blockIO.weight: 65536 is out of range (0 to 65535)"},
  };
  for (const auto& [json, text] : cases) {
    const auto resources = parse_resources(json);
    ASSERT_FALSE(resources) << json;
    EXPECT_EQ(resources.error().what(), text);
  }
}

}  // namespace
}  // namespace amphora::oci
