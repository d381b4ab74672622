// SPDX-License-Identifier: Apache-2.0
// The spec's linux.resources object, in config.json and alone (update). Only shapes and ranges:
// what a cgroup hierarchy can take is known to executor/cgroup.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "executor/oci/document.h"
#include "executor/oci/spec.h"
#include "executor/oci/spec_readers.h"

namespace amphora::oci {

namespace {

/// A device number where -1 (as Go runtimes write it) and absence mean "any".
void read_device_number(const Object& object, std::string_view name, std::optional<int64_t>& out) {
  if (!object.get(name, out)) return;
  if (*out == -1) {
    out.reset();
  } else if (*out < 0) {
    object.fail(name, fmt::format("{} is negative", *out));
  }
}

/// A byte count, or -1 for unlimited.
void read_bytes(const Object& object, std::string_view name, std::optional<int64_t>& out) {
  if (object.get(name, out) && *out < -1) {
    object.fail(name, fmt::format("{} is neither a size nor -1", *out));
  }
}

}  // namespace

void read(Value value, DeviceRule& out) {
  const Object object(value);
  std::string type;
  object.get("allow", out.allow);
  object.get("type", type);
  read_device_number(object, "major", out.major);
  read_device_number(object, "minor", out.minor);
  object.get("access", out.access);
  if (type == "c" || type == "b") {
    out.type = type[0];
  } else if (!type.empty() && type != "a") {
    object.fail("type", fmt::format("\"{}\" is not one of a, b, c", type));
  }
  // runc's rules: a rule that grants or denies nothing is a mistake, not a no-op; letters that say
  // nothing say nothing.
  if (out.access.empty()) object.fail("access", "is empty");
  const std::string given = out.access;
  std::erase_if(out.access,
                [](char c) { return std::string_view("rwm").find(c) == std::string_view::npos; });
  if (out.access.empty() && !given.empty()) {
    object.fail("access", fmt::format("\"{}\" has none of r, w, m", given));
  }
}

void read(Value value, MemoryLimits& out) {
  const Object object(value);
  read_bytes(object, "limit", out.limit);
  read_bytes(object, "reservation", out.reservation);
  read_bytes(object, "swap", out.swap);
  read_bytes(object, "kernel", out.kernel);
  read_bytes(object, "kernelTCP", out.kernel_tcp);
  object.get("swappiness", out.swappiness);
  object.get("disableOOMKiller", out.disable_oom_killer);
  object.get("useHierarchy", out.use_hierarchy);
  object.get("checkBeforeUpdate", out.check_before_update);
}

void read(Value value, CpuLimits& out) {
  const Object object(value);
  object.get("shares", out.shares);
  object.get("quota", out.quota);
  object.get("burst", out.burst);
  object.get("period", out.period);
  object.get("realtimeRuntime", out.realtime_runtime);
  object.get("realtimePeriod", out.realtime_period);
  object.get("cpus", out.cpus);
  object.get("mems", out.mems);
  object.get("idle", out.idle);
}

void read(Value value, WeightDevice& out) {
  const Object object(value);
  object.require("major", out.major);
  object.require("minor", out.minor);
  object.get("weight", out.weight);
  object.get("leafWeight", out.leaf_weight);
}

void read(Value value, ThrottleDevice& out) {
  const Object object(value);
  object.require("major", out.major);
  object.require("minor", out.minor);
  object.require("rate", out.rate);
}

void read(Value value, BlockIo& out) {
  const Object object(value);
  object.get("weight", out.weight);
  object.get("leafWeight", out.leaf_weight);
  object.get("weightDevice", out.weight_device);
  object.get("throttleReadBpsDevice", out.read_bps);
  object.get("throttleWriteBpsDevice", out.write_bps);
  object.get("throttleReadIOPSDevice", out.read_iops);
  object.get("throttleWriteIOPSDevice", out.write_iops);
}

void read(Value value, HugepageLimit& out) {
  const Object object(value);
  object.require("pageSize", out.page_size);
  object.require("limit", out.limit);
  // It becomes part of a file name in the cgroup.
  if (out.page_size.empty() || out.page_size.contains('/')) {
    object.fail("pageSize", fmt::format("\"{}\" is not a page size", out.page_size));
  }
}

void read(Value value, InterfacePriority& out) {
  const Object object(value);
  object.require("name", out.name);
  object.require("priority", out.priority);
}

void read(Value value, NetworkLimits& out) {
  const Object object(value);
  object.get("classID", out.class_id);
  object.get("priorities", out.priorities);
}

void read(Value value, RdmaLimit& out) {
  const Object object(value);
  object.get("hcaHandles", out.hca_handles);
  object.get("hcaObjects", out.hca_objects);
  if (!out.hca_handles && !out.hca_objects) value.fail("has neither hcaHandles nor hcaObjects");
}

void read(Value value, Resources& out) {
  const Object object(value);
  object.get("devices", out.devices);
  object.get("memory", out.memory);
  object.get("cpu", out.cpu);
  if (const auto pids = object.find("pids")) Object(*pids).get("limit", out.pids_limit);
  object.get("blockIO", out.block_io);
  object.get("hugepageLimits", out.hugepages);
  object.get("network", out.network);
  object.get("rdma", out.rdma);
  object.get("unified", out.unified);
  for (const auto& [key, text] : out.unified) {
    // The key is a file of the cgroup's own directory, nothing else.
    if (key.empty() || key.contains('/') || key == "." || key == "..") {
      object.fail("unified", fmt::format("\"{}\" is not a file of a cgroup", key));
    }
  }
}

}  // namespace amphora::oci
