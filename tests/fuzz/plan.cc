// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry: a line of words (the circumstances: unified, hybrid, rootless, group, exec, wasm,
// nested, stdio), then a config.json. Whatever spec is accepted must give an error or a plan that a child can
// walk: every offset inside, seccomp programs that end, /proc writes that stay below sys.
#include <linux/filter.h>

#include <cstring>
#include <set>
#include <span>

#include <nlohmann/json.hpp>

#include "executor/base/path.h"
#include "executor/setup/make_plan.h"
#include "tests/fuzz/support.h"

namespace {

using namespace amphora;
using setup::Plan;

struct World {
  setup::Host host;
  setup::ExecPlan exec;
  std::map<std::string, std::string> cgroup_paths;
  bool is_exec = false, rootless = false, stdio = false, start_socket = false;
};

World world_of(std::string_view words) {
  World world;
  const auto has = [&](std::string_view word) { return words.contains(word); };
  setup::Host& host = world.host;
  host.own_capabilities = (uint64_t{1} << 41) - 1;
  const bool unified = has("unified");
  host.cgroup_mode = unified         ? setup::CgroupMode::kUnified
                     : has("hybrid") ? setup::CgroupMode::kHybrid
                                     : setup::CgroupMode::kV1;
  if (!unified) {
    for (const char* const controllers : {"cpu,cpuacct", "memory", "name=systemd"}) {
      host.hierarchies.push_back(
          {controllers, std::string("/sys/fs/cgroup/") + controllers, "/own"});
      world.cgroup_paths[controllers] = "/own/web";
    }
  }
  if (host.cgroup_mode != setup::CgroupMode::kV1) {
    host.unified_mount = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
    host.unified_own_path = "/own";
    world.cgroup_paths[""] = "/own/web";
  }
  world.rootless = has("rootless");
  if (world.rootless) {
    host.euid = 1000;
    host.own_capabilities = 0;
    host.may_mount = false;
  }
  host.other_ids = world.rootless || has("group");
  host.in_user_namespace = has("nested");
  host.apparmor = host.selinux = has("labels");
  world.is_exec = has("exec");
  world.stdio = has("stdio");
  world.start_socket = has("start");
  world.exec.kind = has("wasm") ? "wasm" : "native";
  if (has("wasm")) world.exec.handover = "what the host is told";
  return world;
}

Result<Plan> plan_of(const oci::Spec& spec, World& world) {
  const std::string id = "web", rootfs = "/bundle/rootfs";
  setup::PlanInput in{.id = id,
                      .spec = spec,
                      .process = *spec.process,
                      .host = world.host,
                      .exec = world.exec,
                      .rootfs = rootfs,
                      .cgroup_paths = world.cgroup_paths};
  for (int n = 0; world.stdio && n < 3; ++n) in.stdio[n] = 100 + n;
  if (world.start_socket) in.start_socket = 103;
  return world.is_exec ? setup::make_exec_plan(in, 104) : setup::make_plan(in);
}

void check_filter(std::span<const sock_filter> program) {
  AMPHORA_CHECK(!program.empty() && program.size() <= BPF_MAXINSNS);
  AMPHORA_CHECK(BPF_CLASS(program.back().code) == BPF_RET);
  for (size_t at = 0; at < program.size(); ++at) {
    const sock_filter& i = program[at];
    if (BPF_CLASS(i.code) != BPF_JMP) continue;
    const size_t most = BPF_OP(i.code) == BPF_JA ? i.k : std::max(i.jt, i.jf);
    AMPHORA_CHECK(at + 1 + most < program.size());
  }
}

/// The text at `offset` ends inside the plan.
std::string_view text_at(const init::View& view, uint32_t offset) {
  AMPHORA_CHECK(offset < view.header->text_size);
  const std::string_view rest(view.text + offset, view.header->text_size - offset);
  const size_t end = rest.find('\0');
  AMPHORA_CHECK(end != std::string_view::npos);
  return rest.substr(0, end);
}

void check_bytes(const init::View& view, uint64_t offset, uint64_t size) {
  AMPHORA_CHECK(offset <= view.header->text_size && size <= view.header->text_size - offset);
}

void check_step(const Plan& plan, const init::View& view, const init::Step& step) {
  using enum init::Op;
  AMPHORA_CHECK(std::string_view(setup::to_string(step.op)) != "unknown");
  AMPHORA_CHECK(!text_at(view, step.what).empty());
  AMPHORA_CHECK(step.fd >= -1 && step.fd < static_cast<int64_t>(plan.sources.size()));
  switch (step.op) {
    case kSeccomp: {
      check_bytes(view, step.a, step.n * sizeof(sock_filter));
      std::vector<sock_filter> program(step.n);
      std::memcpy(program.data(), view.text + step.a, step.n * sizeof(sock_filter));
      return check_filter(program);
    }
    case kWriteProc:
      for (const auto part : path::components(text_at(view, step.a))) AMPHORA_CHECK(part != "..");
      text_at(view, step.b);
      return;
    case kOpenTree:
      text_at(view, step.a);
      AMPHORA_CHECK(step.b % 8 == 0 && step.fd >= 0);
      AMPHORA_CHECK(step.n == UINT64_MAX || step.n < plan.sources.size());
      return check_bytes(view, step.b, step.d * sizeof(init::TreeChange));
    case kSetGroups:
      return check_bytes(view, step.a, step.n * sizeof(uint32_t));
    case kAffinity:
    case kScheduler:
      return check_bytes(view, step.a, step.n);
    case kMemoryPolicy:
      return check_bytes(view, step.a, (step.m + 7) / 8);
    case kMountFs:
    case kMountOver:
    case kBind:
    case kSymlink:
      for (const uint32_t offset : {step.a, step.b, step.c}) text_at(view, offset);
      return;
    default:
      AMPHORA_CHECK(step.a < view.header->text_size);
      return;
  }
}

/// Where the first step of a kind stands, and how many there are.
struct Found {
  size_t at = SIZE_MAX;
  size_t count = 0;
  const init::Step* step = nullptr;
};
Found find(const Plan& plan, init::Op op) {
  Found found;
  for (const init::Step& step : plan.steps()) {
    if (step.op != op) continue;
    if (found.count++ == 0) {
      found.at = static_cast<size_t>(&step - plan.steps().data());
      found.step = &step;
    }
  }
  return found;
}

/// What no spec may move or leave out (docs/process-model.md).
void check_order(const oci::Spec& spec, const Plan& plan, const World& world) {
  using enum init::Op;
  const auto steps = plan.steps();
  AMPHORA_CHECK(steps.back().op == (world.exec.handover.empty() ? kExec : kHandOver));
  const Found uid = find(plan, kSetUid), gid = find(plan, kSetGid), caps = find(plan, kSetCaps);
  const Found pivot = find(plan, kPivot), await = find(plan, kAwait);
  AMPHORA_CHECK(uid.count <= 1 && gid.count <= 1);
  if (uid.step != nullptr) AMPHORA_CHECK(uid.step->n == spec.process->user.uid);
  if (gid.step != nullptr) AMPHORA_CHECK(gid.step->n == spec.process->user.gid);
  // Only root's ids take no step, where they are there already.
  const bool has_root = !world.host.other_ids || find(plan, kBecomeRoot).count > 0;
  AMPHORA_CHECK(uid.count == 1 || (has_root && spec.process->user.uid == 0));
  AMPHORA_CHECK(gid.count == 1 || (has_root && spec.process->user.gid == 0));
  if (uid.count == 1 && gid.count == 1) AMPHORA_CHECK(gid.at < uid.at);
  if (uid.count == 1 && caps.count == 1) AMPHORA_CHECK(uid.at < caps.at);
  AMPHORA_CHECK(pivot.count <= 1);
  // After the pivot a path of the host's is the image's.
  for (size_t at = pivot.at; at < steps.size(); ++at) AMPHORA_CHECK(steps[at].op != kOpenTree);
  if (pivot.count == 1 && uid.count == 1) AMPHORA_CHECK(pivot.at < uid.at);
  // An exec's cgroup is entered by itself; init waits for what only the parent can do.
  AMPHORA_CHECK(await.count > 0 || world.is_exec);
  if (await.count > 0 && uid.count == 1) AMPHORA_CHECK(await.at < uid.at);
  if (spec.process->no_new_privileges) AMPHORA_CHECK(find(plan, kNoNewPrivs).count > 0);
  const auto& seccomp = spec.linux_.seccomp;
  if (seccomp && seccomp->default_action != "SCMP_ACT_ALLOW") {
    AMPHORA_CHECK(find(plan, kSeccomp).count == 1);
  }
  if (!world.is_exec) {
    // A path that is named twice is hidden once.
    const auto names = [](const std::vector<std::string>& paths) {
      return std::set<std::string_view>(paths.begin(), paths.end()).size();
    };
    AMPHORA_CHECK(find(plan, kMask).count >= names(spec.linux_.masked_paths));
    AMPHORA_CHECK(find(plan, kReadonlyPath).count >= names(spec.linux_.readonly_paths));
  }
  AMPHORA_CHECK(find(plan, kCloseFds).count > 0);
}

void check_plan(const oci::Spec& spec, const Plan& plan, const World& world) {
  const init::View view = plan.view();
  AMPHORA_CHECK(view.header->magic == init::kMagic && view.header->step_count > 0);
  for (const init::Step& step : plan.steps()) check_step(plan, view, step);
  check_order(spec, plan, world);
  AMPHORA_CHECK(nlohmann::json::accept(plan.describe_json()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::text_of(data, size);
  const std::string_view words = fuzz::take(text, '\n');
  const auto spec = oci::parse_spec(text);
  if (!spec || !spec->process) return fuzz::kUninteresting;  // the target `spec` has these
  World world = world_of(words);
  if (world.exec.handover.empty()) {
    world.exec.name = spec->process->args.front();
    world.exec.candidates = {"/usr/bin/" + world.exec.name, "/bin/" + world.exec.name};
    world.exec.argv = spec->process->args;
    world.exec.env = spec->process->env;
  }
  const auto plan = plan_of(*spec, world);
  fuzz::check_error(plan, size);
  if (!plan) return 0;
  check_plan(*spec, *plan, world);
  const auto again = plan_of(*spec, world);
  AMPHORA_CHECK(again && again->blob() == plan->blob());
  return 0;
}
