// SPDX-License-Identifier: Apache-2.0
// config.json outside of `linux`: versions, root, process, mounts, hooks, annotations; null and
// unknown members; the default bundle.
#include "executor/oci/spec.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/base/fd.h"

namespace amphora::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string with(const std::string& members) {
  return R"({"ociVersion": "1.0.2", "root": {"path": "rootfs"})" +
         (members.empty() ? "" : ", " + members) + "}";
}
std::string with_process(const std::string& members) {
  return with(R"("process": {"args": ["sh"], "cwd": "/", )" + members + "}");
}

std::string problem(const std::string& json) {
  const auto spec = parse_spec(json);
  if (spec) return "accepted";
  EXPECT_EQ(spec.error().code(), Errc::kInvalid);
  return spec.error().what();
}

Process process_of(const std::string& members) {
  auto spec = parse_spec(with_process(members));
  EXPECT_TRUE(spec) << spec.error().what();
  return spec && spec->process ? *spec->process : Process{};
}

struct Refused {
  std::string members, problem;
};

TEST(Version, AcceptsOneZeroToOneThree) {
  for (const char* version :
       {"1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0", "1.3.17", "1.0.0-rc5"}) {
    const auto json = std::string(R"({"ociVersion": ")") + version + R"(", "root": {"path": "r"}})";
    EXPECT_EQ(problem(json), "accepted") << version;
  }
}

TEST(Version, RefusesOthers) {
  for (const std::string version : {"", "1", "1.0", "0.9.0", "1.4.0", "2.0.0", "1.0.0x", "1.0.0-",
                                    "1..0", " 1.0.0", "1.0.0- "}) {
    const auto json = R"({"ociVersion": ")" + version + R"(", "root": {"path": "r"}})";
    EXPECT_EQ(problem(json),
              "ociVersion: \"" + version + "\" is not supported (1.0.0 to 1.3.x are)");
  }
  EXPECT_EQ(problem(R"({"root": {"path": "r"}})"), "ociVersion: missing");
}

TEST(Spec, RefusesWhatIsNoObjectOrHasNoRoot) {
  EXPECT_EQ(problem("[]"), "must be an object, is an array");
  EXPECT_EQ(problem(R"({"ociVersion": "1.0.2"})"), "root: missing");
  EXPECT_EQ(problem(R"({"ociVersion": "1.0.2", "root": {}})"), "root.path: missing");
  EXPECT_EQ(problem(R"({"ociVersion": "1.0.2", "root": {"path": ""}})"), "root.path: is empty");
  EXPECT_EQ(problem(R"({"ociVersion": "1.0.2", "root": "r"})"),
            "root: must be an object, is a string");
}

TEST(Spec, ReadsTheTopLevel) {
  const auto spec =
      parse_spec(R"({"ociVersion": "1.3.0", "root": {"path": "rootfs", "readonly": true},
      "hostname": "web", "domainname": "example.org", "annotations": {"a.b/c": "d", "e": ""}})");
  ASSERT_TRUE(spec) << spec.error().what();
  EXPECT_EQ(spec->oci_version, "1.3.0");
  EXPECT_EQ(spec->root.path, "rootfs");
  EXPECT_TRUE(spec->root.readonly);
  EXPECT_EQ(spec->hostname, "web");
  EXPECT_EQ(spec->domainname, "example.org");
  EXPECT_EQ(spec->annotations.at("a.b/c"), "d");
  EXPECT_FALSE(spec->process);
  EXPECT_EQ(spec->find_namespace(NamespaceKind::kPid), nullptr);
  EXPECT_EQ(problem(with(R"("annotations": {"": "x"})")), "annotations: has an empty key");
}

TEST(Spec, TakesNullForAbsentAndIgnoresTheUnknown) {
  EXPECT_EQ(problem(with(R"("process": null, "mounts": null, "hooks": null, "linux": null,
      "annotations": null, "hostname": null, "vm": {"x": [1, "\u0000"]}, "solaris": 3)")),
            "accepted");
  const auto process = process_of(R"("env": null, "capabilities": null, "rlimits": null,
      "user": {"uid": 0, "gid": 0, "additionalGids": null, "umask": null, "username": "x"},
      "consoleSize": null, "oomScoreAdj": null, "scheduler": null, "terminal": null)");
  EXPECT_FALSE(process.capabilities);
  EXPECT_FALSE(process.oom_score_adj);
  EXPECT_FALSE(process.user.umask);
  EXPECT_EQ(problem(R"({"ociVersion": "1.0.2", "root": null})"), "root: missing");
}

// Go's decoder takes them, and so what runc's users have written.
TEST(Spec, TakesNamesInOtherCases) {
  const auto process =
      process_of(R"("CWD": "/x", "noNewprivileges": true, "oomScoreAdj": 1, "oomscoreadj": 2)");
  EXPECT_EQ(process.cwd, "/x");
  EXPECT_TRUE(process.no_new_privileges);
  EXPECT_EQ(process.oom_score_adj, 2);
  EXPECT_EQ(
      problem(
          with(R"("linux": {"resources": {"hugepageLimits": [{"pagesize": "2MB", "limit": 1}]}})")),
      "accepted");
}

TEST(Process, ReadsAllMembers) {
  const auto p = process_of(R"("terminal": true, "consoleSize": {"height": 25, "width": 80},
    "user": {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [3, 4294967294]},
    "env": ["A=1", "B="], "noNewPrivileges": true, "apparmorProfile": "p", "selinuxLabel": "l",
    "capabilities": {"bounding": ["CAP_X"], "effective": ["CAP_E"], "inheritable": ["CAP_I"],
                     "permitted": ["CAP_P"], "ambient": ["CAP_A"]},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 18446744073709551615}],
    "oomScoreAdj": -998,
    "scheduler": {"policy": "SCHED_DEADLINE", "nice": -3, "priority": 4, "flags": ["F"],
                  "runtime": 1, "deadline": 2, "period": 3},
    "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7},
    "execCPUAffinity": {"initial": "0-1", "final": "2"})");
  EXPECT_TRUE(p.terminal);
  EXPECT_EQ(p.console_size->height, 25);
  EXPECT_EQ(p.console_size->width, 80);
  EXPECT_EQ(p.user.uid, 1U);
  EXPECT_EQ(p.user.gid, 2U);
  EXPECT_EQ(p.user.umask, 077U);
  EXPECT_THAT(p.user.additional_gids, ElementsAre(3U, 4294967294U));
  EXPECT_THAT(p.args, ElementsAre("sh"));
  EXPECT_THAT(p.env, ElementsAre("A=1", "B="));
  EXPECT_EQ(p.cwd, "/");
  EXPECT_THAT(p.capabilities->bounding, ElementsAre("CAP_X"));
  EXPECT_THAT(p.capabilities->effective, ElementsAre("CAP_E"));
  EXPECT_THAT(p.capabilities->inheritable, ElementsAre("CAP_I"));
  EXPECT_THAT(p.capabilities->permitted, ElementsAre("CAP_P"));
  EXPECT_THAT(p.capabilities->ambient, ElementsAre("CAP_A"));
  ASSERT_EQ(p.rlimits.size(), 1U);
  EXPECT_EQ(p.rlimits[0].hard, UINT64_MAX);
  EXPECT_EQ(p.rlimits[0].soft, 5U);
  EXPECT_TRUE(p.no_new_privileges);
  EXPECT_EQ(p.apparmor_profile, "p");
  EXPECT_EQ(p.selinux_label, "l");
  EXPECT_EQ(p.oom_score_adj, -998);
  EXPECT_EQ(p.scheduler->policy, "SCHED_DEADLINE");
  EXPECT_EQ(p.scheduler->nice, -3);
  EXPECT_EQ(p.scheduler->priority, 4);
  EXPECT_THAT(p.scheduler->flags, ElementsAre("F"));
  EXPECT_EQ(p.scheduler->runtime, 1U);
  EXPECT_EQ(p.scheduler->deadline, 2U);
  EXPECT_EQ(p.scheduler->period, 3U);
  EXPECT_EQ(p.io_priority->priority_class, "IOPRIO_CLASS_BE");
  EXPECT_EQ(p.io_priority->priority, 7);
  EXPECT_EQ(p.exec_cpu_affinity->initial, "0-1");
  EXPECT_EQ(p.exec_cpu_affinity->final, "2");
}

TEST(Process, RefusesWithTheMembersPath) {
  const Refused cases[] = {
      {R"("terminal": 1)", "process.terminal: must be a boolean, is a number"},
      {R"("env": ["A=1", "B"])", "process.env[1]: has no '='"},
      {R"("env": ["=x"])", "process.env[0]: has no name before '='"},
      {R"("env": ["A=\u0000"])", "process.env[0]: has a NUL byte"},
      {R"("env": "A=1")", "process.env: must be an array, is a string"},
      {R"("env": [7])", "process.env[0]: must be a string, is a number"},
      {R"("user": {"uid": 4294967295})",
       "process.user.uid: 4294967295 is out of range (0 to 4294967294)"},
      {R"("user": {"gid": -1})", "process.user.gid: -1 is out of range (0 to 4294967294)"},
      {R"("user": {"uid": "1x"})", "process.user.uid: must be an integer, is a string"},
      {R"("user": {"additionalGids": [0, 4294967296]})",
       "process.user.additionalGids[1]: 4294967296 is out of range (0 to 4294967294)"},
      {R"("user": {"umask": 512})", "process.user.umask: 512 is out of range (0 to 511)"},
      {R"("rlimits": [{"type": "RLIMIT_CPU", "soft": 1}])", "process.rlimits[0].hard: missing"},
      {R"("rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": -1}])",
       "process.rlimits[0].hard: -1 is out of range (0 to 18446744073709551615)"},
      {R"("rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}])",
       "process.rlimits[0].type: \"RLIMIT_X\" is not a resource limit"},
      {R"("rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}])",
       "process.rlimits[0].soft: 2 is above the hard limit 1"},
      {R"("rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1},
                      {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}])",
       "process.rlimits: RLIMIT_CPU is listed twice"},
      {R"("oomScoreAdj": 1001)", "process.oomScoreAdj: 1001 is out of range (-1000 to 1000)"},
      {R"("scheduler": {"nice": 1})", "process.scheduler.policy: missing"},
      {R"("ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8})",
       "process.ioPriority.priority: 8 is out of range (0 to 7)"},
      {R"("consoleSize": {"height": 65536, "width": 1})",
       "process.consoleSize.height: 65536 is out of range (0 to 65535)"},
      {R"("capabilities": {"bounding": "ALL"})",
       "process.capabilities.bounding: must be an array, is a string"},
  };
  for (const auto& c : cases) EXPECT_EQ(problem(with_process(c.members)), c.problem) << c.members;
}

TEST(Process, NeedsArgsAndAnAbsoluteCwd) {
  EXPECT_EQ(problem(with(R"("process": {"cwd": "/"})")), "process.args: missing");
  EXPECT_EQ(problem(with(R"("process": {"cwd": "/", "args": []})")), "process.args: is empty");
  EXPECT_EQ(problem(with(R"("process": {"cwd": "/", "args": null})")), "process.args: missing");
  EXPECT_EQ(problem(with(R"("process": {"args": ["a"]})")), "process.cwd: missing");
  EXPECT_EQ(problem(with(R"("process": {"args": ["a"], "cwd": "x"})")),
            "process.cwd: \"x\" is not an absolute path");
}

TEST(ProcessAlone, IsReadForExec) {
  const auto process = parse_process(R"({"args": ["ls"], "cwd": "/", "user": {"uid": 5}})");
  ASSERT_TRUE(process) << process.error().what();
  EXPECT_EQ(process->user.uid, 5U);
  const auto bad = parse_process(R"({"args": ["ls"], "cwd": "/", "rlimits": [3]})");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().what(), "rlimits[0]: must be an object, is a number");
}

TEST(Mounts, AreReadAndChecked) {
  const auto spec = parse_spec(with(R"("mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "rel", "source": "/x", "options": ["rbind", "ro"],
     "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
     "gidMappings": [{"containerID": 1, "hostID": 1001, "size": 11}]}])"));
  ASSERT_TRUE(spec) << spec.error().what();
  ASSERT_EQ(spec->mounts.size(), 2U);
  EXPECT_EQ(spec->mounts[0].type, "proc");
  EXPECT_EQ(spec->mounts[1].destination, "rel");
  EXPECT_THAT(spec->mounts[1].options, ElementsAre("rbind", "ro"));
  EXPECT_EQ(spec->mounts[1].uid_mappings[0].host_id, 1000U);
  EXPECT_EQ(spec->mounts[1].gid_mappings[0].size, 11U);
  EXPECT_EQ(problem(with(R"("mounts": [{"destination": ""}])")), "mounts[0].destination: is empty");
  EXPECT_EQ(problem(with(R"("mounts": [{"source": "x"}])")), "mounts[0].destination: missing");
  EXPECT_EQ(problem(with(R"("mounts": [{"destination": "/a\u0000b"}])")),
            "mounts[0].destination: has a NUL byte");
  EXPECT_EQ(
      problem(with(R"("mounts": [{"destination": "/a", "uidMappings": [{"containerID": 0}]}])")),
      "mounts[0].uidMappings[0].hostID: missing");
}

TEST(HooksOfTheSpec, AreReadAndChecked) {
  const auto spec = parse_spec(with(R"("hooks": {
    "prestart": [{"path": "/p"}], "createRuntime": [{"path": "/cr", "args": ["cr", "x"],
    "env": ["A=b"],
    "timeout": 5}], "createContainer": [{"path": "/cc"}], "startContainer": [{"path": "/sc"}],
    "poststart": [{"path": "/ps"}], "poststop": [{"path": "/pp"}, {"path": "/pq"}]})"));
  ASSERT_TRUE(spec) << spec.error().what();
  EXPECT_EQ(spec->hooks.prestart.at(0).path, "/p");
  EXPECT_FALSE(spec->hooks.prestart[0].timeout);
  EXPECT_EQ(spec->hooks.create_runtime.at(0).timeout, 5);
  EXPECT_THAT(spec->hooks.create_runtime[0].args, ElementsAre("cr", "x"));
  EXPECT_THAT(spec->hooks.create_runtime[0].env, ElementsAre("A=b"));
  EXPECT_EQ(spec->hooks.create_container.at(0).path, "/cc");
  EXPECT_EQ(spec->hooks.start_container.at(0).path, "/sc");
  EXPECT_EQ(spec->hooks.poststart.at(0).path, "/ps");
  EXPECT_EQ(spec->hooks.poststop.at(1).path, "/pq");
  EXPECT_EQ(problem(with(R"("hooks": {"poststop": [{"path": "/a", "timeout": 0}]})")),
            "hooks.poststop[0].timeout: 0 is not greater than 0");
  EXPECT_EQ(problem(with(R"("hooks": {"poststop": [{"path": "a"}]})")),
            "hooks.poststop[0].path: \"a\" is not an absolute path");
  EXPECT_EQ(problem(with(R"("hooks": {"prestart": [{"args": ["a"]}]})")),
            "hooks.prestart[0].path: missing");
  EXPECT_EQ(problem(with(R"("hooks": {"prestart": [{"path": "/a", "env": ["X"]}]})")),
            "hooks.prestart[0].env[0]: has no '='");
}

TEST(Annotations, AreReadAlone) {
  const auto map = parse_annotations(R"({"annotations": {"k": "v"}, "process": 3})");
  ASSERT_TRUE(map) << map.error().what();
  EXPECT_EQ(map->at("k"), "v");
  EXPECT_THAT(*parse_annotations("{}"), IsEmpty());
  EXPECT_THAT(*parse_annotations(R"({"annotations": null})"), IsEmpty());
  const auto bad = parse_annotations(R"({"annotations": {"k": 1}})");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().what(), "annotations.k: must be a string, is a number");
}

TEST(LoadSpec, ReadsConfigJsonOfTheBundle) {
  char name[] = "/tmp/amphora-spec-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string file = std::string(name) + "/config.json";
  const UniqueFd bundle(::open(name, O_PATH | O_CLOEXEC));
  const auto none = load_spec(bundle.get());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().what(), "load spec: open config.json: no such file or directory");
  std::ofstream(file) << default_spec_json(std::nullopt);
  const auto spec = load_spec(bundle.get());
  EXPECT_TRUE(spec) << spec.error().what();
  std::ofstream(file) << "{";
  const auto bad = load_spec(bundle.get());
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().what(), HasSubstr("config.json: json: parse error at line 1, column 2"));
  ::unlink(file.c_str());
  ::rmdir(name);
}

TEST(DefaultSpec, IsRuncsBundle) {
  const auto json = default_spec_json(std::nullopt);
  EXPECT_THAT(json, HasSubstr("\n\t\t\"args\": [\n\t\t\t\"sh\"\n\t\t],\n"));
  EXPECT_TRUE(json.ends_with("]\n\t}\n}")) << "no newline at the end, as runc";
  const auto spec = parse_spec(json);
  ASSERT_TRUE(spec) << spec.error().what();
  EXPECT_TRUE(spec->root.readonly);
  EXPECT_TRUE(spec->process->terminal);
  EXPECT_TRUE(spec->process->no_new_privileges);
  EXPECT_THAT(spec->process->capabilities->inheritable, IsEmpty());
  EXPECT_EQ(spec->mounts.size(), 7U);
  EXPECT_EQ(spec->linux_.namespaces.size(), 5U);
  EXPECT_EQ(spec->linux_.masked_paths.size(), 10U);
  EXPECT_EQ(spec->linux_.readonly_paths.size(), 5U);
  ASSERT_EQ(spec->linux_.resources.devices.size(), 1U);
  EXPECT_FALSE(spec->linux_.resources.devices[0].allow);
}

TEST(DefaultSpec, HasACgroupNamespaceWhereItIsAskedFor) {
  for (const auto rootless : {std::optional<Ids>(), std::optional<Ids>(Ids{1000, 1001})}) {
    const auto with = parse_spec(default_spec_json(rootless, CgroupNamespace::kYes));
    const auto without = parse_spec(default_spec_json(rootless));
    ASSERT_TRUE(with && without);
    EXPECT_NE(with->find_namespace(NamespaceKind::kCgroup), nullptr);
    EXPECT_EQ(without->find_namespace(NamespaceKind::kCgroup), nullptr);
  }
}

TEST(DefaultSpec, RootlessHasAUserNamespaceAndNoNetwork) {
  const auto spec = parse_spec(default_spec_json(Ids{1000, 1001}));
  ASSERT_TRUE(spec) << spec.error().what();
  EXPECT_NE(spec->find_namespace(NamespaceKind::kUser), nullptr);
  EXPECT_EQ(spec->find_namespace(NamespaceKind::kNetwork), nullptr);
  EXPECT_EQ(spec->linux_.uid_mappings.at(0).size, 1U);
  EXPECT_EQ(spec->linux_.uid_mappings.at(0).host_id, 1000U) << "the caller's";
  EXPECT_EQ(spec->linux_.gid_mappings.at(0).host_id, 1001U);
  EXPECT_THAT(spec->linux_.resources.devices, IsEmpty());
  EXPECT_EQ(spec->mounts[5].source, "/sys");
}

}  // namespace
}  // namespace amphora::oci
