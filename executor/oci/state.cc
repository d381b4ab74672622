// SPDX-License-Identifier: Apache-2.0
// state.json written and read, the state object of the runtime spec for hooks, the report of
// `amphora state` (runc's members in runc's order), and the rule for container ids.
#include "executor/oci/state.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/oci/document.h"
#include "executor/oci/json_writer.h"
#include "executor/oci/spec.h"
#include "executor/oci/spec_readers.h"  // NOLINT(misc-include-cleaner): found by their arguments

namespace amphora::oci {

namespace {

constexpr int kStateVersion = 1;
constexpr size_t kMaxIdBytes = 1024;

void write_texts(JsonWriter& json, std::string_view name, const std::vector<std::string>& texts) {
  json.open(name, '[');
  for (const auto& text : texts) json.text({}, text);
  json.close(']');
}

void write_hook(JsonWriter& json, const Hook& hook) {
  json.open({}, '{');
  json.text("path", hook.path);
  write_texts(json, "args", hook.args);
  write_texts(json, "env", hook.env);
  if (hook.timeout) json.number("timeout", int64_t{*hook.timeout});
  json.close('}');
}

}  // namespace

/// Found by read_document through the argument's namespace, like the spec's readers.
void read(Value value, State& out);

void read(Value value, State& out) {
  const Object object(value);
  object.require("version", out.version);
  object.require("id", out.id);
  object.get("bundle", out.bundle);
  object.get("rootfs", out.rootfs);
  object.get("created", out.created);
  object.get("ociVersion", out.oci_version);
  object.get("pid", out.pid);
  object.get("startTime", out.start_time);
  object.get("kind", out.kind);
  object.get("reason", out.reason);
  object.get("cgroupsPath", out.cgroups_path);
  object.get("cgroupDirs", out.cgroup_dirs);
  object.get("systemdUnit", out.systemd_unit);
  object.get("rdtRoot", out.rdt_root);
  object.get("rdtClass", out.rdt_class);
  object.get("rdtMonitor", out.rdt_monitor);
  object.get("rdtOwn", out.rdt_own);
  object.get("ownPidNamespace", out.own_pid_namespace);
  object.get("exitCode", out.exit_code);
  object.get("exitedAt", out.exited_at);
  object.get("poststop", out.poststop);
  object.get("annotations", out.annotations);
  if (out.version < 1) object.fail("version", fmt::format("{} is not a version", out.version));
  if (out.pid < 0) object.fail("pid", fmt::format("{} is not a process id", out.pid));
}

const char* to_string(Status status) noexcept {
  switch (status) {
    case Status::kCreating:
      return "creating";
    case Status::kCreated:
      return "created";
    case Status::kRunning:
      return "running";
    case Status::kPaused:
      return "paused";
    case Status::kStopped:
      return "stopped";
  }
  return "unknown";
}

Result<void> check_id(std::string_view id) {
  if (id.empty()) return fail(Errc::kInvalid, "container id: is empty");
  if (id.size() > kMaxIdBytes) {
    return fail(Errc::kInvalid, fmt::format("container id: longer than {} bytes", kMaxIdBytes));
  }
  const bool plain = std::ranges::all_of(id, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '+' || c == '-' || c == '.';
  });
  if (!plain || id == "." || id == "..") {
    return fail(
        Errc::kInvalid,
        "container id: only letters, digits and _ + - . are allowed, and not . or .. alone");
  }
  return {};
}

std::string to_json(const State& state) {
  JsonWriter json;
  json.open({}, '{');
  json.number("version", int64_t{state.version});
  json.text("id", state.id);
  json.text("bundle", state.bundle);
  json.text("rootfs", state.rootfs);
  json.text("created", state.created);
  json.text("ociVersion", state.oci_version);
  json.number("pid", int64_t{state.pid});
  json.number("startTime", state.start_time);
  json.text("kind", state.kind);
  json.text("reason", state.reason);
  json.text("cgroupsPath", state.cgroups_path);
  json.map("cgroupDirs", state.cgroup_dirs);
  json.text("systemdUnit", state.systemd_unit);
  if (!state.rdt_class.empty()) {
    json.text("rdtRoot", state.rdt_root);
    json.text("rdtClass", state.rdt_class);
    json.text("rdtMonitor", state.rdt_monitor);
    json.boolean("rdtOwn", state.rdt_own);
  }
  json.boolean("ownPidNamespace", state.own_pid_namespace);
  if (state.exit_code) json.number("exitCode", int64_t{*state.exit_code});
  json.text("exitedAt", state.exited_at);
  json.open("poststop", '[');
  for (const auto& hook : state.poststop) write_hook(json, hook);
  json.close(']');
  json.map("annotations", state.annotations);
  json.close('}');
  return std::move(json).take();
}

Result<State> parse_state(std::string_view json) {
  auto state = read_document<State>(json);
  if (!state) return std::unexpected(std::move(state).error().context("state.json"));
  if (state->version > kStateVersion) {
    return fail(Errc::kUnsupported,
                fmt::format("state.json: version {} is newer than {}, the newest known",
                            state->version, kStateVersion));
  }
  return state;
}

namespace {

void write_state(JsonWriter& json, std::string_view key, const State& state, Status status,
                 int pid) {
  json.open(key, '{');
  json.text("ociVersion", state.oci_version);
  json.text("id", state.id);
  json.text("status", to_string(status));
  if (pid != 0) json.number("pid", int64_t{pid});
  json.text("bundle", state.bundle);
  if (!state.annotations.empty()) json.map("annotations", state.annotations);
  json.close('}');
}

}  // namespace

std::string hook_state_json(const State& state, Status status, int pid) {
  JsonWriter json;
  write_state(json, {}, state, status, pid);
  return std::move(json).take();
}

std::string seccomp_state_json(const State& state, Status status, int pid,
                               const std::string& metadata) {
  JsonWriter json;
  json.open({}, '{');
  json.text("ociVersion", state.oci_version);
  json.open("fds", '[');
  json.text({}, "seccompFd");
  json.close(']');
  json.number("pid", int64_t{pid});
  if (!metadata.empty()) json.text("metadata", metadata);
  write_state(json, "state", state, status, pid);
  json.close('}');
  return std::move(json).take();
}

std::string state_report_json(const State& state, Status status) {
  JsonWriter json(2);
  json.open({}, '{');
  json.text("ociVersion", state.oci_version);
  json.text("id", state.id);
  json.number("pid", int64_t{status == Status::kStopped ? 0 : state.pid});
  json.text("status", to_string(status));
  json.text("bundle", state.bundle);
  json.text("rootfs", state.rootfs);
  json.text("created", state.created);
  if (!state.annotations.empty()) json.map("annotations", state.annotations);
  json.text("owner", "");
  json.close('}');
  return std::move(json).take();
}

}  // namespace amphora::oci
