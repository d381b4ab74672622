// SPDX-License-Identifier: Apache-2.0
// See intel_rdt.h.
#include "executor/cgroup/intel_rdt.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/mountinfo.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"

namespace amphora::cgroup {
namespace {

/// l3CacheSchema may hold lines for memory bandwidth, which memBwSchema's replace (runtime-spec).
std::string schemata_of(const oci::IntelRdt& rdt) {
  std::string text;
  const auto add = [&](std::string_view lines, bool without_bandwidth) {
    while (!lines.empty()) {
      const std::string_view line = lines.substr(0, lines.find('\n'));
      lines.remove_prefix(std::min(lines.size(), line.size() + 1));
      if (line.empty() || (without_bandwidth && line.starts_with("MB:"))) continue;
      text.append(line).append("\n");
    }
  };
  add(rdt.l3_cache_schema, !rdt.mem_bw_schema.empty());
  add(rdt.mem_bw_schema, false);
  for (const std::string& line : rdt.schemata) add(line, false);
  return text;
}

/// Why the kernel took no line is in a file of its own.
std::string last_status(const std::string& root) {
  auto text = read_file_at(AT_FDCWD, root + "/info/last_cmd_status");
  if (!text) return {};
  while (text->ends_with('\n')) text->pop_back();
  return *text == "ok" ? std::string() : *text;
}

Result<void> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return {};
  const int err = errno;
  if (err != ENOSPC) return fail_errno(err, "make " + path);
  return std::unexpected(Error::from_errno(err, "make " + path)
                             .hint("the processor has no class of service or monitor left"));
}

Result<void> remove_directory(const std::string& path) {
  if (path.empty() || ::rmdir(path.c_str()) == 0 || errno == ENOENT) return {};
  return fail_errno(errno, "remove " + path);
}

}  // namespace

std::string resctrl_root(std::string_view mountinfo) {
  while (!mountinfo.empty()) {
    const auto mount = parse_mount_line(take_line(mountinfo));
    if (mount && mount->type == "resctrl") return unescape_mount(mount->point);
  }
  return {};
}

Result<std::string> find_resctrl(int proc_fd) {
  TRY_ASSIGN(const std::string text, read_file_at(proc_fd, "self/mountinfo", 64 << 20));
  std::string root = resctrl_root(text);
  if (!root.empty()) return root;
  return fail(Errc::kUnsupported,
              "linux.intelRdt: resctrl is not mounted on this host (mount -t resctrl resctrl "
              "/sys/fs/resctrl; the processor and the kernel must have it)");
}

void plan_rdt(const std::string& root, const std::string& id, const oci::IntelRdt& rdt,
              oci::State& state) {
  // "/" is the default class, which is everybody's.
  const std::string name = rdt.clos_id.empty() ? id : rdt.clos_id;
  // A class with a name may be others' as well and outlives the container, as with runc.
  state.rdt_own = rdt.clos_id.empty();
  state.rdt_root = root;
  state.rdt_class = rdt.clos_id == "/" ? root : root + "/" + name;
  if (rdt.enable_monitoring) state.rdt_monitor = state.rdt_class + "/mon_groups/" + id;
}

Result<void> make_rdt(const oci::IntelRdt& rdt, oci::State& state) {
  const std::string schemata = schemata_of(rdt);
  const bool own = rdt.clos_id.empty();
  struct stat st{};
  const bool there = ::stat(state.rdt_class.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
  if (!own && !there && schemata.empty()) {
    return fail(Errc::kPrecondition,
                "linux.intelRdt.closID " + rdt.clos_id +
                    ": there is no such class of service, and no schema is given to make it with");
  }
  if (!there) TRY(make_directory(state.rdt_class));
  if (!schemata.empty()) {
    auto written = write_file_at(AT_FDCWD, state.rdt_class + "/schemata", schemata);
    if (!written) {
      auto error = std::move(written).error().context("linux.intelRdt");
      if (const std::string status = last_status(state.rdt_root); !status.empty()) {
        return std::unexpected(std::move(error).hint(status));
      }
      return std::unexpected(std::move(error));
    }
  }
  return state.rdt_monitor.empty() ? Result<void>() : make_directory(state.rdt_monitor);
}

Result<void> add_to_rdt(const oci::State& state, pid_t pid) {
  if (state.rdt_class.empty()) return {};
  const std::string text = fmt::format_int(pid).str();
  TRY(write_file_at(AT_FDCWD, state.rdt_class + "/tasks", text));
  // A monitoring group takes tasks of its class only, so it comes second.
  if (state.rdt_monitor.empty()) return {};
  return write_file_at(AT_FDCWD, state.rdt_monitor + "/tasks", text);
}

Result<void> remove_rdt(const oci::State& state) {
  if (state.rdt_class.empty()) return {};
  auto monitor = remove_directory(state.rdt_monitor);
  if (state.rdt_own) TRY(remove_directory(state.rdt_class));
  return monitor;
}

}  // namespace amphora::cgroup
