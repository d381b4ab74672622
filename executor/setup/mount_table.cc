// SPDX-License-Identifier: Apache-2.0
// One walk over the spec's mounts; see mount_table.h.
#include "executor/setup/mount_table.h"

#include <expected>
#include <string>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/path.h"
#include "executor/oci/spec.h"
#include "executor/setup/mount_options.h"

namespace amphora::setup {

std::string PlannedMount::noun() const {
  return "mount " + (mount->source.empty() ? mount->type : mount->source) + " on " +
         mount->destination;
}

namespace {

/// linux.mountLabel is for filesystems that are made, but not for the kernel's own (runc's rule).
bool takes_label(const PlannedMount& planned) {
  const oci::Mount& mount = *planned.mount;
  return !planned.options.bind && mount.type != "proc" && mount.type != "sysfs" &&
         mount.type != "mqueue" && !mount.type.starts_with("cgroup");
}

}  // namespace

Result<MountTable> read_mounts(const oci::Spec& spec) {
  MountTable table;
  table.mounts.reserve(spec.mounts.size());
  bool new_dev = false;
  for (const oci::Mount& mount : spec.mounts) {
    PlannedMount planned{
        .mount = &mount, .target = path::clean("/" + mount.destination), .options = {}};
    auto options = parse_mount_options(mount);
    if (!options) return std::unexpected(std::move(options).error().context(planned.noun()));
    planned.options = *std::move(options);
    const std::string& label = spec.linux_.mount_label;
    if (!label.empty() && takes_label(planned)) {
      std::string& data = planned.options.data;
      data += (data.empty() ? "context=\"" : ",context=\"") + label + "\"";
    }
    planned.in_new_dev = new_dev && path::dir_name(planned.target) == "/dev";
    const bool made = !planned.options.bind;
    if (path::is_below("/dev", planned.target)) {
      new_dev =
          made && planned.target == "/dev" && mount.type == "tmpfs" && !planned.options.copy_up;
    }
    if (path::is_below("/proc", planned.target)) {
      table.new_proc = made && planned.target == "/proc" && mount.type == "proc";
    }
    table.mounts.push_back(std::move(planned));
  }
  return table;
}

}  // namespace amphora::setup
