// SPDX-License-Identifier: Apache-2.0
// Runtime options. See options.h.
#include "shim/options.h"

#include <fcntl.h>

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

#include "common.pb.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/criu/client.h"
#include "executor/runtime/checkpoint.h"
#include "options.pb.h"
#include "runtime_options.pb.h"
#include "shim/toml.h"

namespace amphora::shim {
namespace {

constexpr size_t kMaxConfig = 64U << 10;

void take_runc(const std::string& bytes, RuntimeOptions& out) {
  containerd::runc::v1::Options options;
  if (!options.ParseFromString(bytes)) {
    out.notes.push_back("runtime options cannot be decoded: ignored");
    return;
  }
  out.no_pivot_root = options.no_pivot_root();
  out.no_new_keyring = options.no_new_keyring();
  out.systemd_cgroup = options.systemd_cgroup();
  out.shim_cgroup = options.shim_cgroup();
  out.root = options.root();
  out.criu_work_path = options.criu_work_path();
  // proto3 cannot tell 0 from absent; 0 is the owner such a FIFO has anyway.
  if (options.io_uid() != 0) out.io_owner.uid = options.io_uid();
  if (options.io_gid() != 0) out.io_owner.gid = options.io_gid();
  if (!options.binary_name().empty()) {
    out.notes.push_back("runtime option binary_name is ignored: no other runtime is called");
  }
}

/// A table of TOML: what containerd makes of a runtime's options in its own configuration, or a file.
void take_toml(const std::string& text, RuntimeOptions& out) {
  const auto parsed = read_toml(text);
  if (!parsed) {
    out.notes.push_back("runtime configuration is no TOML, " + parsed.error().what() + ": ignored");
    return;
  }
  for (const TomlEntry& entry : *parsed) {
    const bool is_systemd = entry.key == "SystemdCgroup" || entry.key == "systemd_cgroup";
    const bool* const boolean = std::get_if<bool>(&entry.value);
    const std::string* const string = std::get_if<std::string>(&entry.value);
    if (is_systemd && boolean != nullptr) {
      out.systemd_cgroup = *boolean;
    } else if (entry.key == "engine" && string != nullptr) {
      out.engine = *string;
    } else if (is_systemd || entry.key == "engine") {
      out.notes.push_back("runtime option " + entry.key + " is not " +
                          (is_systemd ? "true or false" : "a string") + ": ignored");
    } else {
      out.notes.push_back("runtime option " + entry.key +
                          " is unknown: ignored; known ones: engine, SystemdCgroup");
    }
  }
}

void take_generic(const std::string& bytes, ReadConfig read, RuntimeOptions& out) {
  runtimeoptions::v1::Options options;
  if (!options.ParseFromString(bytes)) {
    out.notes.push_back("runtime options cannot be decoded: ignored");
    return;
  }
  if (!options.config_body().empty()) return take_toml(options.config_body(), out);
  if (options.config_path().empty()) return;
  const auto text = read(options.config_path());
  if (text) return take_toml(*text, out);
  out.notes.push_back("runtime configuration " + options.config_path() + ": " +
                      text.error().what() + ": ignored");
}

}  // namespace

std::string type_name(const std::string& type_url) {
  const size_t slash = type_url.rfind('/');
  return slash == std::string::npos ? type_url : type_url.substr(slash + 1);
}

Result<std::string> read_config(const std::string& path) {
  return read_file_at(AT_FDCWD, path, kMaxConfig);
}

RuntimeOptions parse_options(const proto::Any& any, ReadConfig read) {
  RuntimeOptions out;
  const std::string name = type_name(any.type_url());
  if (name == "containerd.runc.v1.Options") {
    take_runc(any.value(), out);
  } else if (name == "runtimeoptions.v1.Options") {
    take_generic(any.value(), read, out);
  } else if (!name.empty()) {
    out.notes.push_back("runtime options of type " + name + " are unknown: ignored");
  }
  return out;
}

Result<CheckpointOptions> parse_checkpoint_options(const proto::Any& any, const std::string& path,
                                                   std::vector<std::string>& notes) {
  CheckpointOptions out;
  containerd::runc::v1::CheckpointOptions asked;
  const std::string name = type_name(any.type_url());
  if (name == asked.GetTypeName()) {
    if (!asked.ParseFromString(any.value())) {
      return fail(Errc::kInvalid, "checkpoint options cannot be decoded");
    }
  } else if (!name.empty()) {
    notes.push_back("checkpoint options of type " + name + " are unknown: ignored");
  }
  out.image_path = path.empty() ? asked.image_path() : path;
  if (!out.image_path.starts_with('/')) {
    return fail(Errc::kInvalid,
                "checkpoint: the path of its images must be absolute: \"" + out.image_path + "\"");
  }
  out.work_path = asked.work_path();
  out.parent_path = asked.parent_path();
  out.leave_running = !asked.exit();
  out.tcp_established = asked.open_tcp();
  out.external_unix_sockets = asked.external_unix_sockets();
  out.shell_job = asked.terminal();
  out.file_locks = asked.file_locks();
  TRY_ASSIGN(out.cgroups, criu::parse_cgroups_mode(asked.cgroups_mode()));
  TRY_ASSIGN(out.empty_namespaces, criu::parse_empty_namespaces({asked.empty_namespaces().begin(),
                                                                 asked.empty_namespaces().end()}));
  return out;
}

}  // namespace amphora::shim
