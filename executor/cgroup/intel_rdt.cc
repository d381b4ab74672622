// SPDX-License-Identifier: Apache-2.0
// See intel_rdt.h.
#include "executor/cgroup/intel_rdt.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/directories.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/mountinfo.h"
#include "executor/cgroup/cgroup.h"
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

/// The directories of a state, held open: everything is done beneath them.
struct Group {
  UniqueFd root;
  std::string name;  ///< the class below root; "." is everybody's
};

/// `path` below `root` as a name for *at(2) calls; "." for root itself.
std::string beneath(const std::string& root, const std::string& path) {
  return path.size() > root.size() + 1 && path.starts_with(root) ? path.substr(root.size() + 1)
                                                                 : ".";
}

Result<Group> open_root(const oci::State& state) {
  TRY_ASSIGN(UniqueFd root, open_at(AT_FDCWD, state.rdt_root, O_RDONLY | O_DIRECTORY));
  return Group{std::move(root), beneath(state.rdt_root, state.rdt_class)};
}

Result<UniqueFd> open_group(int root, const std::string& name) {
  return open_beneath(root, name, O_RDONLY | O_DIRECTORY);
}

/// Why the kernel took no line is in a file of its own.
std::string last_status(int root) {
  auto text = read_file_at(root, "info/last_cmd_status");
  if (!text) return {};
  while (text->ends_with('\n')) text->pop_back();
  return *text == "ok" ? std::string() : *text;
}

Result<void> write_schemata(const Group& group, const UniqueFd& directory,
                            const std::string& schemata) {
  auto written = write_file_at(directory.get(), "schemata", schemata);
  if (written) return {};
  auto error = std::move(written).error().context("linux.intelRdt, class " + group.name);
  const std::string status = last_status(group.root.get());
  return std::unexpected(status.empty() ? std::move(error) : std::move(error).hint(status));
}

/// Makes the last name of `path`, whose directory is there already.
Result<void> make_directory(int root, const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string name = path.substr(slash + 1);  // npos + 1 is 0
  TRY_ASSIGN(const UniqueFd parent,
             open_group(root, slash == std::string::npos ? "." : path.substr(0, slash)));
  if (::mkdirat(parent.get(), name.c_str(), 0755) == 0 || errno == EEXIST) return {};
  const int err = errno;
  auto error = Error::from_errno(err, "make " + path + " in resctrl");
  if (err != ENOSPC) return std::unexpected(std::move(error));
  return std::unexpected(
      std::move(error).hint("the processor has no class of service or monitor left"));
}

Result<void> remove_directory(int root, const std::string& path) {
  const size_t slash = path.rfind('/');
  const auto parent = open_group(root, slash == std::string::npos ? "." : path.substr(0, slash));
  if (!parent) {
    return parent.error().sys_errno() == ENOENT
               ? Result<void>()
               : std::unexpected(Error(parent.error()).context("remove " + path));
  }
  if (::unlinkat(parent->get(), path.substr(slash + 1).c_str(), AT_REMOVEDIR) == 0 ||
      errno == ENOENT) {
    return {};
  }
  return fail_errno(errno, "remove " + path + " in resctrl");
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
  TRY_ASSIGN(const Group group, open_root(state));
  const std::string schemata = schemata_of(rdt);
  const bool own = rdt.clos_id.empty();
  auto directory = open_group(group.root.get(), group.name);
  if (!directory && !own && schemata.empty()) {
    return fail(Errc::kPrecondition,
                "linux.intelRdt.closID " + rdt.clos_id +
                    ": there is no such class of service, and no schema is given to make it with");
  }
  if (!directory) {
    TRY(make_directory(group.root.get(), group.name));
    directory = open_group(group.root.get(), group.name);
    if (!directory) return std::unexpected(std::move(directory).error());
  }
  if (!schemata.empty()) TRY(write_schemata(group, *directory, schemata));
  if (state.rdt_monitor.empty()) return {};
  return make_directory(group.root.get(), beneath(state.rdt_root, state.rdt_monitor));
}

Result<void> add_to_rdt(const oci::State& state, pid_t pid) {
  if (state.rdt_class.empty()) return {};
  TRY_ASSIGN(const Group group, open_root(state));
  const std::string text = fmt::format_int(pid).str();
  TRY_ASSIGN(const UniqueFd directory, open_group(group.root.get(), group.name));
  TRY(write_file_at(directory.get(), "tasks", text));
  // A monitoring group takes tasks of its class only, so it comes second.
  if (state.rdt_monitor.empty()) return {};
  TRY_ASSIGN(const UniqueFd monitor,
             open_group(group.root.get(), beneath(state.rdt_root, state.rdt_monitor)));
  return write_file_at(monitor.get(), "tasks", text);
}

Result<void> remove_rdt(const oci::State& state) {
  if (state.rdt_class.empty()) return {};
  auto group = open_root(state);
  if (!group) {
    // Unmounted meanwhile, and all with it.
    if (group.error().sys_errno() == ENOENT) return {};
    return std::unexpected(std::move(group).error());
  }
  const int root = group->root.get();
  auto monitor = state.rdt_monitor.empty()
                     ? Result<void>()
                     : remove_directory(root, beneath(state.rdt_root, state.rdt_monitor));
  if (state.rdt_own && group->name != ".") TRY(remove_directory(root, group->name));
  return monitor;
}

namespace {

bool has_resource(int root, std::initializer_list<const char*> names) {
  return std::ranges::any_of(names, [&](const char* name) {
    return static_cast<bool>(open_group(root, std::string("info/") + name));
  });
}

uint64_t number_in(int dir, const std::string& path) {
  const auto text = read_file_at(dir, path);
  if (!text) return 0;
  uint64_t number = 0;
  std::from_chars(text->data(), text->data() + text->size(), number);
  return number;
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

/// The line of a resource in a text of schemata; the last one where it has two (L3CODE, L3DATA), as runc.
std::string line_of(std::string_view schemata, std::string_view resource) {
  std::string_view found;
  while (!schemata.empty()) {
    const std::string_view line = trimmed(take_line(schemata));
    if (line.starts_with(resource)) found = line;
  }
  return std::string(found);
}

// emplace with a value: clang takes a nested type's default members for unknown where the outer class is not complete.
void read_info(int root, RdtStats& out) {
  if (const auto l3 = open_group(root, "info/L3")) {
    auto& cache = out.cache.emplace(RdtStats::CacheInfo{});
    cache.cbm_mask = trimmed(read_file_at(l3->get(), "cbm_mask").value_or(""));
    cache.min_cbm_bits = number_in(l3->get(), "min_cbm_bits");
    cache.num_closids = number_in(l3->get(), "num_closids");
  }
  if (const auto mb = open_group(root, "info/MB")) {
    auto& bandwidth = out.bandwidth.emplace(RdtStats::BandwidthInfo{});
    bandwidth.bandwidth_gran = number_in(mb->get(), "bandwidth_gran");
    bandwidth.delay_linear = number_in(mb->get(), "delay_linear");
    bandwidth.min_bandwidth = number_in(mb->get(), "min_bandwidth");
    bandwidth.num_closids = number_in(mb->get(), "num_closids");
  }
}

/// mon_data/mon_L3_00, mon_L3_01, ... in their order.
Result<std::vector<std::string>> monitored_nodes(int mon_data) {
  TRY_ASSIGN(std::vector<std::string> nodes, names_in(mon_data));
  std::erase_if(nodes, [](const std::string& name) { return !name.starts_with("mon_L3_"); });
  std::ranges::sort(nodes);
  return nodes;
}

Result<void> read_monitors(int group, RdtStats& out) {
  const auto mon_data = open_group(group, "mon_data");
  if (!mon_data) return {};  // no monitoring on this processor
  TRY_ASSIGN(const std::vector<std::string> nodes, monitored_nodes(mon_data->get()));
  for (const std::string& node : nodes) {
    TRY_ASSIGN(const UniqueFd dir, open_group(mon_data->get(), node));
    if (::faccessat(dir.get(), "mbm_total_bytes", F_OK, 0) == 0) {
      if (!out.traffic) out.traffic.emplace();
      out.traffic->push_back(
          {number_in(dir.get(), "mbm_total_bytes"), number_in(dir.get(), "mbm_local_bytes")});
    }
    if (::faccessat(dir.get(), "llc_occupancy", F_OK, 0) == 0) {
      if (!out.occupancy) out.occupancy.emplace();
      out.occupancy->push_back(number_in(dir.get(), "llc_occupancy"));
    }
  }
  return {};
}

}  // namespace

Result<std::string> change_rdt(const oci::State& state, const RdtChange& change) {
  if (state.rdt_class.empty()) {
    return fail(
        Errc::kUnsupported,
        "updating a non-existent Intel RDT configuration is not supported: the container was "
        "made without linux.intelRdt");
  }
  TRY_ASSIGN(const Group group, open_root(state));
  const int root = group.root.get();
  if (!change.l3_cache_schema.empty() && !has_resource(root, {"L3", "L3CODE"})) {
    return fail(Errc::kUnsupported, "Intel RDT/CAT: l3 cache schema is not enabled");
  }
  if (!change.mem_bw_schema.empty() && !has_resource(root, {"MB"})) {
    return fail(Errc::kUnsupported, "Intel RDT/MBA: memory bandwidth schema is not enabled");
  }
  TRY_ASSIGN(const UniqueFd directory, open_group(root, group.name));
  TRY_ASSIGN(std::string before, read_file_at(directory.get(), "schemata"));
  oci::IntelRdt lines;
  lines.l3_cache_schema = change.l3_cache_schema;
  lines.mem_bw_schema = change.mem_bw_schema;
  TRY(write_schemata(group, directory, schemata_of(lines)));
  return before;
}

Result<void> restore_rdt(const oci::State& state, const std::string& schemata) {
  TRY_ASSIGN(const Group group, open_root(state));
  TRY_ASSIGN(const UniqueFd directory, open_group(group.root.get(), group.name));
  return write_schemata(group, directory, schemata);
}

Result<RdtStats> rdt_stats(const oci::State& state) {
  RdtStats out;
  TRY_ASSIGN(const Group group, open_root(state));
  const int root = group.root.get();
  TRY_ASSIGN(const UniqueFd directory, open_group(root, group.name));
  read_info(root, out);
  TRY_ASSIGN(const std::string everybodys, read_file_at(root, "schemata"));
  TRY_ASSIGN(const std::string own, read_file_at(directory.get(), "schemata"));
  if (has_resource(root, {"L3", "L3CODE"})) {
    out.l3_root = line_of(everybodys, "L3");
    out.l3 = line_of(own, "L3");
  }
  if (out.bandwidth) {
    out.mb_root = line_of(everybodys, "MB");
    out.mb = line_of(own, "MB");
  }
  if (state.rdt_monitor.empty()) {
    TRY(read_monitors(directory.get(), out));
  } else {
    TRY_ASSIGN(const UniqueFd monitor,
               open_group(root, beneath(state.rdt_root, state.rdt_monitor)));
    TRY(read_monitors(monitor.get(), out));
  }
  return out;
}

}  // namespace amphora::cgroup
