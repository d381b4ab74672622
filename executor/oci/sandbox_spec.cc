// SPDX-License-Identifier: Apache-2.0
// A sandbox's config.json. See sandbox_spec.h.
#include "executor/oci/sandbox_spec.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "executor/oci/json_writer.h"
#include "executor/oci/spec.h"

namespace amphora::oci {
namespace {

// The least that a cgroup may have: the program sleeps.
constexpr int64_t kLeastShares = 2;

const char* name_of(NamespaceKind kind) noexcept {
  switch (kind) {
    case NamespaceKind::kPid:
      return "pid";
    case NamespaceKind::kNetwork:
      return "network";
    case NamespaceKind::kMount:
      return "mount";
    case NamespaceKind::kIpc:
      return "ipc";
    case NamespaceKind::kUts:
      return "uts";
    case NamespaceKind::kUser:
      return "user";
    case NamespaceKind::kCgroup:
      return "cgroup";
    case NamespaceKind::kTime:
      return "time";
  }
  return "";
}

void write_process(const SandboxSpec& sandbox, JsonWriter& json) {
  json.open("process", '{');
  json.open("user", '{');
  json.number("uid", int64_t{0});
  json.number("gid", int64_t{0});
  json.close('}');
  json.open("args", '[');
  json.text({}, sandbox.program);
  json.close(']');
  json.text("cwd", "/");
  json.boolean("noNewPrivileges", true);
  if (sandbox.oom_score_adj) json.number("oomScoreAdj", int64_t{*sandbox.oom_score_adj});
  json.close('}');
}

void write_mappings(const char* name, const std::vector<IdMapping>& mappings, JsonWriter& json) {
  if (mappings.empty()) return;
  json.open(name, '[');
  for (const auto& mapping : mappings) {
    json.open({}, '{');
    json.number("containerID", int64_t{mapping.container_id});
    json.number("hostID", int64_t{mapping.host_id});
    json.number("size", int64_t{mapping.size});
    json.close('}');
  }
  json.close(']');
}

void write_resources(JsonWriter& json) {
  json.open("resources", '{');
  json.open("devices", '[');
  json.open({}, '{');
  json.boolean("allow", false);
  json.text("access", "rwm");
  json.close('}');
  json.close(']');
  json.open("cpu", '{');
  json.number("shares", kLeastShares);
  json.close('}');
  json.close('}');
}

void write_linux(const SandboxSpec& sandbox, JsonWriter& json) {
  json.open("linux", '{');
  if (!sandbox.cgroups_path.empty()) json.text("cgroupsPath", sandbox.cgroups_path);
  json.open("namespaces", '[');
  for (const auto& ns : sandbox.namespaces) {
    json.open({}, '{');
    json.text("type", name_of(ns.kind));
    if (!ns.path.empty()) json.text("path", ns.path);
    json.close('}');
  }
  json.close(']');
  write_mappings("uidMappings", sandbox.uid_mappings, json);
  write_mappings("gidMappings", sandbox.gid_mappings, json);
  if (!sandbox.sysctl.empty()) json.map("sysctl", sandbox.sysctl);
  write_resources(json);
  json.close('}');
}

}  // namespace

std::string sandbox_spec_json(const SandboxSpec& sandbox) {
  JsonWriter json;
  json.open({}, '{');
  json.text("ociVersion", "1.0.2");
  write_process(sandbox, json);
  json.open("root", '{');
  json.text("path", sandbox.root);
  json.boolean("readonly", true);
  json.close('}');
  if (!sandbox.hostname.empty()) json.text("hostname", sandbox.hostname);
  write_linux(sandbox, json);
  if (!sandbox.annotations.empty()) json.map("annotations", sandbox.annotations);
  json.close('}');
  return std::move(json).take();
}

}  // namespace amphora::oci
