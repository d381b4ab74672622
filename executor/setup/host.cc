// SPDX-License-Identifier: Apache-2.0
// Probing the host. See host.h. Here are the few reads and the parsing of /proc/self/cgroup and
// /proc/self/mountinfo; both parsers take text, so that tests can show them foreign hosts.
#include "executor/setup/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/mountinfo.h"
#include "executor/base/path.h"
#include "executor/base/sys.h"
#include "executor/setup/host_parse.h"

namespace amphora::setup {
namespace {

constexpr const char* kCgroupRoot = "/sys/fs/cgroup";

std::string_view take(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    if (take(list, ',') == word) return true;
  }
  return false;
}

/// /proc/self/cgroup counts from the hierarchy's root, a mount may show only a part of it (a nested
/// container's does): the path below the mount, "/" when ours is outside.
std::string below_mount(const std::string& path, const std::string& mount_root) {
  if (mount_root == "/") return path;
  if (!path::is_below(path, mount_root)) return "/";
  const std::string rest = path.substr(mount_root.size());
  return rest.empty() ? "/" : rest;
}

/// Reads what a single read call gives: the kernel makes these files in one go, and fills a buffer
/// that is large enough.
Result<std::string> read_once(int proc_fd, const char* name, std::vector<UniqueFd>& spent) {
  TRY_ASSIGN(UniqueFd fd, open_at(proc_fd, name, O_RDONLY));
  char text[16384];
  const ssize_t n = ::read(fd.get(), text, sizeof text);
  spent.push_back(std::move(fd));
  if (n < 0) return fail_errno(errno, std::string("read ") + name);
  return std::string(text, static_cast<size_t>(n));
}

/// Reads the mount table until every hierarchy is found. cgroups are mounted at boot, so they stand
/// in the first page of a table however long it is: a host with 1000 mounts costs no more.
Result<void> find_mounts(int proc_fd, CgroupTable& table, std::vector<UniqueFd>& spent) {
  TRY_ASSIGN(UniqueFd opened, open_at(proc_fd, "self/mountinfo", O_RDONLY));
  const int fd = opened.get();
  spent.push_back(std::move(opened));
  std::string text;
  char buffer[16384];
  while (!table.complete()) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read self/mountinfo");
    if (n == 0) break;
    text.append(buffer, static_cast<size_t>(n));
    const size_t whole = text.rfind('\n');
    if (whole == std::string::npos) continue;
    table.add_mounts(std::string_view(text).substr(0, whole + 1));
    text.erase(0, whole + 1);
  }
  return {};
}

bool is_cgroup2(const char* path) noexcept {
  struct statfs info{};
  return ::statfs(path, &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC;
}

Result<void> probe_cgroups(Host& host) {
  std::vector<UniqueFd> spent;
  TRY_ASSIGN(const std::string own, read_once(host.proc_fd.get(), "self/cgroup", spent));
  // What is mounted on the usual place decides: a cgroup2 mount there may hide older v1 mounts that
  // the mount table still shows.
  if (on_cgroup2()) {
    host.cgroup_mode = CgroupMode::kUnified;
    host.unified_mount = kCgroupRoot;
    host.unified_own_path = parse_own_cgroups(own).unified;
    return {};
  }
  CgroupTable table(parse_own_cgroups(own));
  TRY(find_mounts(host.proc_fd.get(), table, spent));
  sys::close_all(spent);
  table.fill(host);
  // Likewise the unified mount of a hybrid host: hidden below another mount it is of no use.
  if (!host.unified_mount.empty() && !is_cgroup2(host.unified_mount.c_str())) {
    host.unified_mount.clear();
    host.unified_own_path.clear();
  }
  const bool v1 = !host.hierarchies.empty();
  const bool v2 = !host.unified_mount.empty();
  host.cgroup_mode = v1 ? (v2 ? CgroupMode::kHybrid : CgroupMode::kV1)
                        : (v2 ? CgroupMode::kUnified : CgroupMode::kNone);
  return {};
}

Result<void> probe_capabilities(Host& host) {
  struct __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return fail_errno(errno, "read own capabilities");
  host.own_capabilities = uint64_t{data[1].effective} << 32 | data[0].effective;
  // The kernel refuses a number that it has no capability for. Our highest one is mostly the last.
  const uint64_t own = host.own_capabilities;
  int last = own == 0 ? 40 : 63 - std::countl_zero(own);
  while (last < 63 && ::prctl(PR_CAPBSET_READ, last + 1, 0, 0, 0) >= 0) ++last;
  while (own == 0 && last > 0 && ::prctl(PR_CAPBSET_READ, last, 0, 0, 0) < 0) --last;
  host.last_capability = last;
  return {};
}

Result<void> probe_proc(Host& host) {
  TRY_ASSIGN(host.proc_fd, open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY));
  struct statfs info{};
  if (::fstatfs(host.proc_fd.get(), &info) != 0) return fail_errno(errno, "check /proc");
  if (info.f_type != PROC_SUPER_MAGIC) {
    return fail(Errc::kUnsupported, "check /proc: it is not a procfs");
  }
  return {};
}

/// CAP_SYS_ADMIN counts in the user namespace that owns the mounts, which need not be ours (unshare -U
/// without -m): then only trying tells.
bool may_mount(const Host& host) noexcept {
  if (!has_capability(host, CAP_SYS_ADMIN)) return false;
  if (!host.in_user_namespace) return true;
  return UniqueFd(sys::open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)) ||
         (errno != EPERM && errno != EACCES);
}

}  // namespace

OwnCgroups parse_own_cgroups(std::string_view text) {
  OwnCgroups own;
  while (!text.empty()) {
    std::string_view line = take_line(text);
    const std::string_view number = take(line, ':');
    const std::string_view controllers = take(line, ':');
    constexpr std::string_view kDeleted = " (deleted)";
    if (line.ends_with(kDeleted)) line.remove_suffix(kDeleted.size());
    if (!line.starts_with('/')) continue;
    if (number == "0" && controllers.empty()) {
      own.unified = line;
    } else if (!controllers.empty()) {
      own.v1.emplace_back(controllers, line);
    }
  }
  return own;
}

CgroupTable::CgroupTable(OwnCgroups own) : own_(std::move(own)) {
  hierarchies_.resize(own_.v1.size());
}

bool CgroupTable::complete() const noexcept {
  const bool all = std::all_of(hierarchies_.begin(), hierarchies_.end(),
                               [](const Hierarchy& h) { return !h.mount_point.empty(); });
  return all && (own_.unified.empty() || !unified_mount_.empty());
}

void CgroupTable::add_mounts(std::string_view lines) {
  while (!lines.empty()) {
    const std::string_view line = take_line(lines);
    // One search per line tells nearly every mount of a long table apart.
    if (line.find(" - cgroup") == std::string_view::npos) continue;
    if (const auto mount = parse_mount_line(line)) add_mount(*mount);
  }
}

void CgroupTable::add_mount(const MountLine& mount) {
  const std::string root = unescape_mount(mount.root);
  const std::string point = unescape_mount(mount.point);
  if (mount.type == "cgroup2") {
    if (!unified_mount_.empty()) return;
    unified_mount_ = point;
    unified_own_ = own_.unified.empty() ? "/" : below_mount(own_.unified, root);
    return;
  }
  if (mount.type != "cgroup") return;
  for (size_t at = 0; at < own_.v1.size(); ++at) {
    const auto& [controllers, path] = own_.v1[at];
    std::string_view rest = controllers;
    bool same = hierarchies_[at].mount_point.empty();
    while (same && !rest.empty()) same = has_word(mount.super, take(rest, ','));
    if (!same) continue;
    hierarchies_[at] = {controllers, point, below_mount(path, root)};
    return;
  }
}

void CgroupTable::fill(Host& host) {
  for (Hierarchy& hierarchy : hierarchies_) {
    if (!hierarchy.mount_point.empty()) host.hierarchies.push_back(std::move(hierarchy));
  }
  host.unified_mount = unified_mount_;
  host.unified_own_path = unified_own_;
}

bool in_user_namespace(int proc_fd) noexcept {
  // PROC_USER_INIT_INO: the first user namespace has the same number on every kernel.
  constexpr std::string_view kInitial = "user:[4026531837]";
  char link[64];
  const ssize_t n = ::readlinkat(proc_fd, "self/ns/user", link, sizeof link);
  return n > 0 && std::string_view(link, static_cast<size_t>(n)) != kInitial;
}

bool in_user_namespace() noexcept {
  const UniqueFd proc(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return in_user_namespace(proc.get());
}

bool on_cgroup2() noexcept { return is_cgroup2(kCgroupRoot); }

bool apparmor_enabled() noexcept {
  char enabled = 'N';
  const UniqueFd fd(::open("/sys/module/apparmor/parameters/enabled", O_RDONLY | O_CLOEXEC));
  return fd && ::read(fd.get(), &enabled, 1) == 1 && enabled == 'Y';
}

bool selinux_enabled() noexcept {
  struct statfs info{};
  return ::statfs("/sys/fs/selinux", &info) == 0 && info.f_type == SELINUX_MAGIC;
}

bool has_kcore(int proc_fd) noexcept { return ::faccessat(proc_fd, "kcore", F_OK, 0) == 0; }

std::vector<std::string> parse_kernel_mounts(std::string_view lines) {
  std::vector<std::string> points;
  while (!lines.empty()) {
    const auto mount = parse_mount_line(take_line(lines));
    if (!mount || (mount->type != "proc" && mount->type != "sysfs")) continue;
    points.push_back(unescape_mount(mount->point));
  }
  std::ranges::stable_sort(points, std::ranges::greater(), &std::string::size);
  return points;
}

Result<std::vector<std::string>> kernel_mounts(int proc_fd) {
  TRY_ASSIGN(const std::string lines, read_file_at(proc_fd, "self/mountinfo", 64 << 20));
  return parse_kernel_mounts(lines);
}

Result<Host> probe_host() {
  Host host;
  TRY(probe_proc(host));
  host.euid = static_cast<uint32_t>(::getauxval(AT_EUID));
  host.egid = static_cast<uint32_t>(::getauxval(AT_EGID));
  for (const unsigned long id : {AT_UID, AT_EUID, AT_GID, AT_EGID}) {
    if (::getauxval(id) != 0) host.other_ids = true;
  }
  host.in_user_namespace = in_user_namespace(host.proc_fd.get());
  TRY(probe_capabilities(host));
  host.may_mount = may_mount(host);
  TRY(probe_cgroups(host));
  return host;
}

}  // namespace amphora::setup
