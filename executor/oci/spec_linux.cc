// SPDX-License-Identifier: Apache-2.0
// The spec's linux object without its resources: namespaces, id mappings, devices, sysctl, seccomp,
// paths, RDT, memory policy. Names that a library knows better (system calls, actions) stay text
// here.
#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "executor/oci/document.h"
#include "executor/oci/spec.h"
#include "executor/oci/spec_readers.h"

namespace amphora::oci {

namespace {

struct NamespaceName {
  std::string_view name;
  NamespaceKind kind;
};
constexpr std::array<NamespaceName, 8> kNamespaces = {{{"pid", NamespaceKind::kPid},
                                                       {"network", NamespaceKind::kNetwork},
                                                       {"mount", NamespaceKind::kMount},
                                                       {"ipc", NamespaceKind::kIpc},
                                                       {"uts", NamespaceKind::kUts},
                                                       {"user", NamespaceKind::kUser},
                                                       {"cgroup", NamespaceKind::kCgroup},
                                                       {"time", NamespaceKind::kTime}}};

constexpr std::array<std::string_view, 8> kPropagations = {
    "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"};

void check_namespaces(const Object& object, const std::vector<Namespace>& namespaces) {
  unsigned seen = 0;
  for (const auto& entry : namespaces) {
    const unsigned bit = 1U << static_cast<unsigned>(entry.kind);
    if ((seen & bit) != 0) {
      const auto name = std::ranges::find(kNamespaces, entry.kind, &NamespaceName::kind)->name;
      object.fail("namespaces", fmt::format("{} is listed twice", name));
    }
    seen |= bit;
  }
}

/// Dots and slashes separate ("net.ipv4.conf.eth0/1.mtu"); neither may leave an empty component,
/// which would be "." or ".." or nothing below /proc/sys.
bool is_sysctl_key(std::string_view key) {
  bool component = false;
  for (const char c : key) {
    const bool separator = c == '.' || c == '/';
    if (separator && !component) return false;
    component = !separator;
  }
  return component;
}

void check_paths(const Object& object, std::string_view name,
                 const std::vector<std::string>& paths) {
  for (const auto& path : paths) check_absolute(object, name, path);
}

void check_time_offsets(const Object& object, const std::map<std::string, TimeOffset>& offsets) {
  for (const auto& [clock, offset] : offsets) {
    if (clock != "monotonic" && clock != "boottime") {
      object.fail("timeOffsets", fmt::format("\"{}\" is neither monotonic nor boottime", clock));
    }
  }
}

}  // namespace

void read(Value value, Namespace& out) {
  const Object object(value);
  std::string type;
  object.require("type", type);
  object.get("path", out.path);
  const auto known = std::ranges::find(kNamespaces, type, &NamespaceName::name);
  if (known == kNamespaces.end()) {
    object.fail("type", fmt::format("\"{}\" is not a namespace", type));
  } else {
    out.kind = known->kind;
  }
  if (!out.path.empty()) check_absolute(object, "path", out.path);
}

void read(Value value, TimeOffset& out) {
  const Object object(value);
  object.get("secs", out.secs);
  object.get("nanosecs", out.nanosecs);
  if (out.nanosecs >= 1'000'000'000) {
    object.fail("nanosecs", fmt::format("{} is out of range (0 to 999999999)", out.nanosecs));
  }
}

void read(Value value, Device& out) {
  const Object object(value);
  std::string type;
  object.require("type", type);
  object.require("path", out.path);
  object.get("major", out.major);
  object.get("minor", out.minor);
  object.get("fileMode", out.file_mode);
  if (const auto uid = object.find("uid")) read_id(*uid, out.uid.emplace());
  if (const auto gid = object.find("gid")) read_id(*gid, out.gid.emplace());
  if (type == "c" || type == "u" || type == "b" || type == "p") {
    out.type = type[0];
  } else {
    object.fail("type", fmt::format("\"{}\" is not one of c, u, b, p", type));
  }
  check_absolute(object, "path", out.path);
  if (out.major < 0) object.fail("major", fmt::format("{} is negative", out.major));
  if (out.minor < 0) object.fail("minor", fmt::format("{} is negative", out.minor));
}

void read(Value value, NetDevice& out) { Object(value).get("name", out.name); }

void read(Value value, SyscallArg& out) {
  const Object object(value);
  object.require("index", out.index);
  object.require("value", out.value);
  object.get("valueTwo", out.value_two);
  object.require("op", out.op);
  if (out.index > 5) object.fail("index", fmt::format("{} is out of range (0 to 5)", out.index));
}

void read(Value value, SyscallRule& out) {
  const Object object(value);
  object.require("names", out.names);
  object.require("action", out.action);
  object.get("errnoRet", out.errno_ret);
  object.get("args", out.args);
  if (out.names.empty()) object.fail("names", "is empty");
}

void read(Value value, Seccomp& out) {
  const Object object(value);
  object.require("defaultAction", out.default_action);
  object.get("defaultErrnoRet", out.default_errno_ret);
  object.get("architectures", out.architectures);
  object.get("flags", out.flags);
  object.get("listenerPath", out.listener_path);
  object.get("listenerMetadata", out.listener_metadata);
  object.get("syscalls", out.syscalls);
  if (!out.listener_metadata.empty() && out.listener_path.empty()) {
    object.fail("listenerMetadata", "is set without listenerPath");
  }
}

void read(Value value, IntelRdt& out) {
  const Object object(value);
  object.get("closID", out.clos_id);
  object.get("schemata", out.schemata);
  object.get("l3CacheSchema", out.l3_cache_schema);
  object.get("memBwSchema", out.mem_bw_schema);
  object.get("enableMonitoring", out.enable_monitoring);
}

void read(Value value, MemoryPolicy& out) {
  const Object object(value);
  object.get("mode", out.mode);  // its absence is for who knows the modes to refuse
  object.get("nodes", out.nodes);
  object.get("flags", out.flags);
}

void read(Value value, Personality& out) {
  const Object object(value);
  object.require("domain", out.domain);
  object.get("flags", out.flags);
}

void read(Value value, Linux& out) {
  const Object object(value);
  object.get("namespaces", out.namespaces);
  object.get("uidMappings", out.uid_mappings);
  object.get("gidMappings", out.gid_mappings);
  object.get("timeOffsets", out.time_offsets);
  object.get("devices", out.devices);
  object.get("netDevices", out.net_devices);
  object.get("cgroupsPath", out.cgroups_path);
  object.get("resources", out.resources);
  object.get("sysctl", out.sysctl);
  object.get("seccomp", out.seccomp);
  object.get("rootfsPropagation", out.rootfs_propagation);
  object.get("maskedPaths", out.masked_paths);
  object.get("readonlyPaths", out.readonly_paths);
  object.get("mountLabel", out.mount_label);
  object.get("intelRdt", out.intel_rdt);
  object.get("memoryPolicy", out.memory_policy);
  object.get("personality", out.personality);
  check_namespaces(object, out.namespaces);
  check_time_offsets(object, out.time_offsets);
  check_paths(object, "maskedPaths", out.masked_paths);
  check_paths(object, "readonlyPaths", out.readonly_paths);
  for (const auto& [key, text] : out.sysctl) {
    if (!is_sysctl_key(key)) object.fail("sysctl", fmt::format("\"{}\" is not a sysctl name", key));
  }
  if (!out.rootfs_propagation.empty() &&
      std::ranges::find(kPropagations, out.rootfs_propagation) == kPropagations.end()) {
    object.fail("rootfsPropagation",
                fmt::format("\"{}\" is not a mount propagation", out.rootfs_propagation));
  }
}

}  // namespace amphora::oci
