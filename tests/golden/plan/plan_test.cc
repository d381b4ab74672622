// SPDX-License-Identifier: Apache-2.0
// Every .txt beside this file is a container and the plan made of it: what it is about, the host and
// the circumstances, the spec (a JSON merge patch on the default bundle's), then the plan or the error
// in full. Needs no root, makes nothing. AMPHORA_UPDATE_GOLDEN=1 rewrites the plans, for review.
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "executor/oci/spec.h"
#include "executor/setup/make_plan.h"
#include "tests/golden/plan/dump.h"

namespace amphora::setup {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(AMPHORA_TESTS_DIR) / "golden/plan";

struct Case {
  std::string head;  ///< everything before the plan, as it is in the file
  std::vector<std::string> settings;
  std::string spec, plan;
};

Case parse_case(const fs::path& path) {
  Case result;
  std::ifstream in(path);
  std::string section;
  for (std::string line; std::getline(in, line);) {
    if (section == "plan") {
      result.plan += line + "\n";
      continue;
    }
    result.head += line + "\n";
    if (line.starts_with("--- ")) {
      section = line.substr(4);
    } else if (section == "host" && !line.empty()) {
      result.settings.push_back(line);
    } else if (section == "spec") {
      result.spec += line + "\n";
    }
  }
  EXPECT_EQ(section, "plan") << path << " has no section for the plan";
  return result;
}

/// The world of a case, from its lines of settings.
struct World {
  Host host;
  ExecPlan exec;
  std::map<std::string, std::string> cgroup_paths;
  bool is_exec = false, start_socket = false, no_pivot = false, no_new_keyring = false;
  bool stdio = false;
  int preserve_fds = 0;
};

constexpr uint64_t kAllCapabilities = (uint64_t{1} << 41) - 1;

void set_cgroups(World& world, const std::string& mode) {
  Host& host = world.host;
  if (mode != "unified") {
    for (const char* controllers : {"cpu,cpuacct", "memory", "name=systemd"}) {
      host.hierarchies.push_back(
          {controllers, std::string("/sys/fs/cgroup/") + controllers, "/own"});
      world.cgroup_paths[controllers] = "/own/web";
    }
  }
  if (mode != "v1") {
    host.unified_mount = mode == "unified" ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
    host.unified_own_path = "/own";
    world.cgroup_paths[""] = "/own/web";
  }
  host.cgroup_mode = mode == "unified" ? CgroupMode::kUnified
                     : mode == "v1"    ? CgroupMode::kV1
                                       : CgroupMode::kHybrid;
}

void apply(World& world, const std::string& setting) {
  std::istringstream in(setting);
  std::string word, value;
  in >> word >> value;
  if (word == "cgroup") {
    set_cgroups(world, value);
  } else if (word == "rootless") {
    world.host.euid = 1000;
    world.host.may_mount = false;
    world.cgroup_paths.clear();
    world.host.other_ids = true;
    world.host.own_capabilities = 0;
  } else if (word == "other-ids") {
    world.host.other_ids = true;
  } else if (word == "without-capability") {
    world.host.own_capabilities &= ~(uint64_t{1} << std::stoi(value));
  } else if (word == "preserve-fds") {
    world.preserve_fds = std::stoi(value);
  } else if (word == "wasm") {
    world.exec.kind = "wasm";
    world.exec.handover = "what the host is told";
    world.exec.covered = {"/proc", "/sys"};
  } else if (word == "exec") {
    world.is_exec = true;
  } else if (word == "start-socket") {
    world.start_socket = true;
  } else if (word == "stdio") {
    world.stdio = true;
  } else if (word == "no-pivot") {
    world.no_pivot = true;
  } else if (word == "no-new-keyring") {
    world.no_new_keyring = true;
  } else if (word == "selinux") {
    world.host.selinux = true;
  } else if (word == "kcore") {
    world.host.kcore = true;
  } else if (word == "in-user-namespace") {
    world.host.in_user_namespace = true;
  } else {
    ADD_FAILURE() << "unknown setting: " << setting;
  }
}

World make_world(const Case& test) {
  World world;
  world.host.own_capabilities = kAllCapabilities;
  for (const std::string& setting : test.settings) apply(world, setting);
  return world;
}

Result<oci::Spec> make_spec(const Case& test) {
  auto json = nlohmann::json::parse(oci::default_spec_json(/*rootless=*/std::nullopt));
  json["process"]["terminal"] = false;
  const auto patch = nlohmann::json::parse(test.spec, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(patch.is_discarded()) << "the spec is no JSON";
  json.merge_patch(patch);
  return oci::parse_spec(json.dump());
}

Result<Plan> plan_of(const Case& test) {
  TRY_ASSIGN(const oci::Spec spec, make_spec(test));
  World world = make_world(test);
  if (world.exec.handover.empty()) {
    world.exec.kind = "native";
    world.exec.name = spec.process->args.front();
    world.exec.candidates = {"/usr/bin/" + world.exec.name, "/bin/" + world.exec.name};
    world.exec.argv = spec.process->args;
    world.exec.env = spec.process->env;
  }
  const std::string id = "web", rootfs = "/bundle/rootfs";
  PlanInput in{.id = id,
               .spec = spec,
               .process = *spec.process,
               .host = world.host,
               .exec = world.exec,
               .rootfs = rootfs,
               .cgroup_paths = world.cgroup_paths};
  if (world.stdio) {
    for (int n = 0; n < 3; ++n) in.stdio[n] = 100 + n;
  }
  if (world.start_socket) in.start_socket = 103;
  in.preserve_fds = world.preserve_fds;
  in.no_pivot = world.no_pivot;
  in.no_new_keyring = world.no_new_keyring;
  return world.is_exec ? make_exec_plan(in, 104) : make_plan(in);
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGolden)) {
    if (entry.path().extension() == ".txt" && entry.path().filename() != "CMakeLists.txt") {
      names.push_back(entry.path().stem());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class GoldenPlan : public testing::TestWithParam<std::string> {};

TEST_P(GoldenPlan, IsAsWritten) {
  const fs::path path = kGolden / (GetParam() + ".txt");
  const Case test = parse_case(path);
  const auto plan = plan_of(test);
  const std::string actual = plan ? dump(*plan) : "error: " + plan.error().what() + "\n";
  if (getenv("AMPHORA_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << test.head << actual;
    return;
  }
  EXPECT_EQ(actual, test.plan) << "AMPHORA_UPDATE_GOLDEN=1 accepts it";
}

INSTANTIATE_TEST_SUITE_P(Plans, GoldenPlan, testing::ValuesIn(case_names()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(GoldenPlans, AreThere) { EXPECT_GE(case_names().size(), 20U); }

}  // namespace
}  // namespace amphora::setup
