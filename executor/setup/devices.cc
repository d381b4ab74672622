// SPDX-License-Identifier: Apache-2.0
// Device nodes and the links of /dev: the spec's devices over the runtime's own list, made below a
// /dev that was opened as a real directory; in a user namespace, where nodes cannot be made, binds of
// the host's. A /dev that is bind-mounted is the user's own business and left alone.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/setup/host.h"
#include "executor/setup/make_plan.h"
#include "executor/setup/mount_table.h"
#include "executor/setup/plan.h"

namespace amphora::setup {
namespace {

using enum init::Op;

struct Default {
  const char* path;
  int64_t major, minor;
};
constexpr Default kDefaults[] = {
    {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
    {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

struct Link {
  const char* name;
  const char* target;
};
constexpr Link kLinks[] = {
    {"ptmx", "pts/ptmx"},          {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"},
};

std::vector<oci::Device> all_devices(const oci::Spec& spec) {
  std::vector<oci::Device> devices;
  for (const Default& entry : kDefaults) {
    oci::Device device;
    device.path = entry.path;
    device.major = entry.major;
    device.minor = entry.minor;
    device.file_mode = 0666;
    devices.push_back(device);
  }
  for (const oci::Device& device : spec.linux_.devices) {
    // Always the container's own devpts' (kLinks), whatever the spec lists; runc's rule.
    if (path::clean(device.path) == "/dev/ptmx") continue;
    std::erase_if(devices, [&](const oci::Device& other) { return other.path == device.path; });
    devices.push_back(device);
  }
  return devices;
}

mode_t type_bits(char type) noexcept {
  switch (type) {
    case 'b':
      return S_IFBLK;
    case 'p':
      return S_IFIFO;
    default:
      return S_IFCHR;
  }
}

void plan_node(const oci::Device& device, Builder& b) {
  const uint32_t name = b.text(path::base_name(device.path));
  init::Step& s = b.step(kDeviceNode, "make device " + device.path);
  s.a = name;
  s.n = type_bits(device.type) | (device.file_mode.value_or(0666) & 07777);
  s.m = device.type == 'p'
            ? 0
            : makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
  s.c = device.uid.value_or(0);
  s.d = device.gid.value_or(0);
}

void plan_node_bind(const PlanInput& in, const oci::Device& device, Builder& b) {
  Source tree;
  tree.kind = Source::Kind::kTree;
  tree.path = device.path;
  tree.what = "host device " + device.path;
  tree.no_follow = true;
  tree.propagation = {MS_PRIVATE};
  const int32_t fd = plan_tree(in, std::move(tree), b);
  const uint32_t target = b.text(device.path);
  init::Step& s = b.step(kDeviceBind, "bind device " + device.path);
  s.fd = fd;
  s.a = target;
}

bool dev_is_bound(const MountTable& table) {
  return std::ranges::any_of(table.mounts, [](const PlannedMount& planned) {
    return planned.target == "/dev" && planned.options.bind;
  });
}

void enter(const std::string& directory, bool kept, Builder& b) {
  const uint32_t dir = b.text(directory);
  init::Step& s = b.step(kEnterDir, "open " + directory + " as a directory");
  s.a = dir;
  s.flags = init::kCreate;
  if (kept) s.m = init::kUseKept;
}

}  // namespace

Result<void> plan_devices(const PlanInput& in, const MountTable& table, bool dev_is_kept,
                          Builder& b) {
  if (dev_is_bound(table)) return {};
  const bool bind =
      in.host.in_user_namespace || in.spec.find_namespace(oci::NamespaceKind::kUser) != nullptr;
  std::map<std::string, std::vector<oci::Device>> by_directory;
  for (oci::Device& device : all_devices(in.spec)) {
    device.path = path::clean("/" + device.path);
    by_directory[std::string(path::dir_name(device.path))].push_back(std::move(device));
  }
  by_directory["/dev"];
  for (const auto& [directory, devices] : by_directory) {
    if (!bind || directory == "/dev") enter(directory, dev_is_kept && directory == "/dev", b);
    for (const oci::Device& device : devices) {
      bind ? plan_node_bind(in, device, b) : plan_node(device, b);
    }
    if (directory != "/dev") continue;
    const bool kcore = in.host.kcore ? *in.host.kcore : has_kcore(in.host.proc_fd.get());
    for (const Link& link : kLinks) {
      if (std::string_view(link.name) == "core" && !kcore) continue;
      const uint32_t name = b.text(link.name);
      const uint32_t target = b.text(link.target);
      init::Step& s = b.step(kSymlink, std::string("link /dev/") + link.name);
      s.a = name;
      s.b = target;
    }
  }
  return {};
}

}  // namespace amphora::setup
