// SPDX-License-Identifier: Apache-2.0
// Operations on a directory of the unified hierarchy. See unified.h.
#include "executor/cgroup/unified.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/cgroup/files.h"
#include "executor/cgroup/stats.h"
#include "executor/oci/spec.h"

namespace amphora::cgroup {
namespace {

constexpr int kFreezeTimeoutMs = 10000;

/// Waits until `key` in cgroup.events is `value`. The kernel wakes pollers of that file with POLLPRI
/// whenever it changes, so there is no need to ask again and again.
Result<bool> wait_event(const std::string& dir, std::string_view key, uint64_t value,
                        int64_t deadline_ms) {
  TRY_ASSIGN(const UniqueFd fd, open_file(dir, "cgroup.events", O_RDONLY));
  for (;;) {
    char text[256];
    const ssize_t n = ::pread(fd.get(), text, sizeof text, 0);
    if (n < 0 && errno == ENODEV) return true;  // removed meanwhile: nothing is in it
    if (n < 0) return fail_errno(errno, "read cgroup.events in " + dir);
    if (keyed_number({text, static_cast<size_t>(n)}, key) == value) return true;
    const int64_t left = deadline_ms - now_ms();
    if (left <= 0) return false;
    struct pollfd wait{fd.get(), POLLPRI, 0};
    if (::poll(&wait, 1, static_cast<int>(std::min<int64_t>(left, 60000))) < 0 && errno != EINTR) {
      return fail_errno(errno, "poll cgroup.events in " + dir);
    }
  }
}

Result<void> enable_in(const std::string& dir, const std::vector<std::string>& controllers) {
  std::string all;
  for (const std::string& controller : controllers) {
    all.append(all.empty() ? "+" : " +").append(controller);
  }
  auto joint = write_value(dir, "cgroup.subtree_control", all);
  if (joint || controllers.size() == 1) return joint;
  Result<void> result;
  for (const std::string& controller : controllers) {
    auto one = write_value(dir, "cgroup.subtree_control", "+" + controller);
    if (!one) result = std::move(one);
  }
  return result;
}

}  // namespace

Result<std::vector<std::string>> unified_controllers(const std::string& mount) {
  TRY_ASSIGN(const std::string text, read_value(mount, "cgroup.controllers"));
  std::vector<std::string> names;
  std::string_view rest = trim(text);
  while (!rest.empty()) {
    const size_t space = rest.find(' ');
    if (space != 0) names.emplace_back(rest.substr(0, space));
    rest.remove_prefix(space == std::string_view::npos ? rest.size() : space + 1);
  }
  return names;
}

Result<void> enable_controllers(const std::string& mount, const std::string& path,
                                const std::vector<std::string>& controllers) {
  if (controllers.empty() || path == "/") return {};
  Result<void> result;
  for (size_t at = 0; at != std::string::npos; at = path.find('/', at + 1)) {
    auto enabled = enable_in(mount + path.substr(0, at), controllers);
    if (!enabled) result = std::move(enabled);
  }
  return result;
}

Result<bool> kill_unified(const std::string& dir) {
  auto written = write_value(dir, "cgroup.kill", "1");
  if (written) return true;
  const int err = written.error().sys_errno();
  if (err == ENODEV) return true;
  // ENOENT: an older kernel; EOPNOTSUPP: a threaded cgroup.
  if (err == ENOENT || err == EOPNOTSUPP) return false;
  return std::unexpected(std::move(written).error());
}

Result<bool> wait_empty(const std::string& dir, int64_t deadline_ms) {
  auto empty = wait_event(dir, "populated", 0, deadline_ms);
  if (!empty && empty.error().sys_errno() == ENOENT) return true;
  return empty;
}

Result<void> freeze_unified(const std::string& dir, bool frozen) {
  TRY(write_value(dir, "cgroup.freeze", frozen ? "1" : "0"));
  TRY_ASSIGN(const bool done,
             wait_event(dir, "frozen", frozen ? 1 : 0, now_ms() + kFreezeTimeoutMs));
  if (done) return {};
  if (frozen) static_cast<void>(write_value(dir, "cgroup.freeze", "0"));
  return fail(Errc::kSystem, fmt::format("cgroup {}: not {} within {} s", dir,
                                         frozen ? "frozen" : "thawed", kFreezeTimeoutMs / 1000));
}

Result<bool> is_frozen_unified(const std::string& dir) {
  TRY_ASSIGN(const uint64_t frozen, read_number(dir, "cgroup.freeze"));
  return frozen == 1;
}

Result<UniqueFd> watch_memory_events(const std::string& dir) {
  UniqueFd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd) return fail_errno(errno, "make an inotify descriptor");
  const std::string file = dir + "/memory.events";
  if (::inotify_add_watch(fd.get(), file.c_str(), IN_MODIFY) < 0) {
    if (errno == ENOENT) {
      return fail(Errc::kUnsupported,
                  "cannot watch for OOM: controller memory is not available on this host");
    }
    return fail_errno(errno, "watch " + file);
  }
  return fd;
}

Result<void> check_page_size(const std::string& page_size) {
  const std::string_view text = page_size;
  const size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos ||
      (text.substr(digits) != "KB" && text.substr(digits) != "MB" && text.substr(digits) != "GB")) {
    return fail(Errc::kInvalid,
                fmt::format("hugepage size \"{}\": not like 64KB, 2MB or 1GB", text));
  }
  return {};
}

Result<void> write_hugetlb_unified(const std::string& dir,
                                   const std::vector<oci::HugepageLimit>& limits, Writer& writer) {
  for (const oci::HugepageLimit& limit : limits) {
    TRY(check_page_size(limit.page_size));
    const std::string value = fmt::format_int(limit.limit).str();
    const auto sizes = page_sizes();
    if (std::find(sizes.begin(), sizes.end(), limit.page_size) == sizes.end()) {
      return fail(Errc::kUnsupported, fmt::format("hugepage size {}: this kernel has {}",
                                                  limit.page_size, fmt::join(sizes, ", ")));
    }
    const std::string reserved = fmt::format("hugetlb.{}.rsvd.max", limit.page_size);
    if (has_file(dir, reserved)) TRY(writer.write(dir, reserved, value));
    TRY(writer.write(dir, fmt::format("hugetlb.{}.max", limit.page_size), value));
  }
  return {};
}

}  // namespace amphora::cgroup
