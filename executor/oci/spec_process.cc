// SPDX-License-Identifier: Apache-2.0
// The spec's process object, in config.json and alone (exec): arguments, environment, user,
// capabilities, limits, scheduling. Capability and scheduler names stay text here.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "executor/oci/document.h"
#include "executor/oci/spec.h"
#include "executor/oci/spec_readers.h"

namespace amphora::oci {

namespace {

constexpr std::array<std::string_view, 16> kRlimits = {
    "RLIMIT_AS",     "RLIMIT_CORE",   "RLIMIT_CPU",        "RLIMIT_DATA",
    "RLIMIT_FSIZE",  "RLIMIT_LOCKS",  "RLIMIT_MEMLOCK",    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",   "RLIMIT_NOFILE", "RLIMIT_NPROC",      "RLIMIT_RSS",
    "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_STACK"};

void check_rlimits(const Object& object, const std::vector<Rlimit>& limits) {
  unsigned seen = 0;
  for (const auto& limit : limits) {
    const auto bit = 1U << (std::ranges::find(kRlimits, limit.type) - kRlimits.begin());
    if ((seen & bit) != 0) object.fail("rlimits", fmt::format("{} is listed twice", limit.type));
    seen |= bit;
  }
}

void read_groups(Value value, std::vector<uint32_t>& out) {
  if (!expect(value, Document::Type::kArray)) return;
  value.each([&](Value element) { read_id(element, out.emplace_back()); });
}

}  // namespace

void check_env(const Object& object) {
  const auto env = object.find("env");
  if (!env) return;
  env->each([](Value entry) {
    const auto equals = entry.text().find('=');
    if (equals == std::string_view::npos) {
      entry.fail("has no '='");
    } else if (equals == 0) {
      entry.fail("has no name before '='");
    }
  });
}

void read(Value value, ConsoleSize& out) {
  const Object object(value);
  object.get("height", out.height);
  object.get("width", out.width);
}

void read(Value value, User& out) {
  const Object object(value);
  if (const auto uid = object.find("uid")) read_id(*uid, out.uid);
  if (const auto gid = object.find("gid")) read_id(*gid, out.gid);
  if (object.get("umask", out.umask) && *out.umask > 0777) {
    object.fail("umask", fmt::format("{} is out of range (0 to 511)", *out.umask));
  }
  if (const auto groups = object.find("additionalGids")) read_groups(*groups, out.additional_gids);
}

void read(Value value, Capabilities& out) {
  const Object object(value);
  object.get("bounding", out.bounding);
  object.get("effective", out.effective);
  object.get("inheritable", out.inheritable);
  object.get("permitted", out.permitted);
  object.get("ambient", out.ambient);
}

void read(Value value, Rlimit& out) {
  const Object object(value);
  object.require("type", out.type);
  object.require("soft", out.soft);
  object.require("hard", out.hard);
  if (std::ranges::find(kRlimits, out.type) == kRlimits.end()) {
    object.fail("type", fmt::format("\"{}\" is not a resource limit", out.type));
  }
  if (out.soft > out.hard) {
    object.fail("soft", fmt::format("{} is above the hard limit {}", out.soft, out.hard));
  }
}

void read(Value value, Scheduler& out) {
  const Object object(value);
  object.require("policy", out.policy);
  object.get("nice", out.nice);
  object.get("priority", out.priority);
  object.get("flags", out.flags);
  object.get("runtime", out.runtime);
  object.get("deadline", out.deadline);
  object.get("period", out.period);
}

void read(Value value, IoPriority& out) {
  const Object object(value);
  object.require("class", out.priority_class);
  object.get("priority", out.priority);
  if (out.priority < 0 || out.priority > 7) {
    object.fail("priority", fmt::format("{} is out of range (0 to 7)", out.priority));
  }
}

void read(Value value, ExecCpuAffinity& out) {
  const Object object(value);
  object.get("initial", out.initial);
  object.get("final", out.final);
}

void read(Value value, Process& out) {
  const Object object(value);
  object.get("terminal", out.terminal);
  object.get("consoleSize", out.console_size);
  object.get("user", out.user);
  object.require("args", out.args);
  object.get("env", out.env);
  object.require("cwd", out.cwd);
  object.get("capabilities", out.capabilities);
  object.get("rlimits", out.rlimits);
  object.get("noNewPrivileges", out.no_new_privileges);
  object.get("apparmorProfile", out.apparmor_profile);
  object.get("selinuxLabel", out.selinux_label);
  object.get("oomScoreAdj", out.oom_score_adj);
  object.get("scheduler", out.scheduler);
  object.get("ioPriority", out.io_priority);
  object.get("execCPUAffinity", out.exec_cpu_affinity);
  if (out.args.empty()) object.fail("args", "is empty");
  check_absolute(object, "cwd", out.cwd);
  check_env(object);
  check_rlimits(object, out.rlimits);
  if (out.oom_score_adj && (*out.oom_score_adj < -1000 || *out.oom_score_adj > 1000)) {
    object.fail("oomScoreAdj",
                fmt::format("{} is out of range (-1000 to 1000)", *out.oom_score_adj));
  }
}

}  // namespace amphora::oci
