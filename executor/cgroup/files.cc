// SPDX-License-Identifier: Apache-2.0
// Reading and writing cgroup files. See files.h.
#include "executor/cgroup/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"

namespace amphora::cgroup {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxFile = size_t{4} << 20;

/// What the kernel may have meant; empty if the errno speaks for itself.
std::string hint_for(const std::string& dir, std::string_view file, int err) {
  const bool cpuset = file.starts_with("cpuset.");
  if (cpuset && (err == EINVAL || err == EACCES || err == ERANGE)) {
    return "the values must be online on this host and a subset of the parent cgroup's";
  }
  if (cpuset && err == EBUSY) {
    return "a child cgroup or a running task still needs what this would take away";
  }
  if (file == "cpu.max" && err == EINVAL) {
    return "the quota must be at least 1000 and not below cpu.max.burst, the period 1000 to "
           "1000000";
  }
  if (file == "cpu.max.burst" && err == EINVAL) return "it must not be above the quota of cpu.max";
  if (file.starts_with("cpu.rt_") && err == EINVAL) {
    return "the parent cgroup has too little real-time budget";
  }
  const bool memory = file == "memory.limit_in_bytes" || file == "memory.memsw.limit_in_bytes";
  if (memory && err == EBUSY) {
    const auto usage = read_number(dir, "memory.usage_in_bytes");
    const auto peak = read_number(dir, "memory.max_usage_in_bytes");
    return fmt::format("current usage {}, peak usage {}", usage.value_or(0), peak.value_or(0));
  }
  if (file == "memory.memsw.limit_in_bytes" && err == ENOENT) {
    return "this kernel does no swap accounting";
  }
  if (memory && err == EINVAL) return "memory+swap must not be below memory";
  if (file == "cgroup.procs" || file == "tasks") {
    if (err == ENOSPC) return "the cpuset has no cpus or no mems";
    if (err == EBUSY)
      return "on cgroup v2 a cgroup with controllers in its children holds no process";
    if (err == EOPNOTSUPP) return "the cgroup is threaded or its type is \"domain invalid\"";
  }
  if (file == "cgroup.subtree_control" && err == EBUSY) {
    return "this cgroup holds processes of its own; move them to a child first";
  }
  return {};
}

UniqueFd open_quietly(const std::string& path, int flags) noexcept {
  const auto how = static_cast<uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC));
  int fd = -1;
  do {
    fd = sys::openat2(AT_FDCWD, path.c_str(), how, 0, RESOLVE_NO_SYMLINKS);
  } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
  // COMPAT(seccomp profiles without openat2): the path holds no symlink by construction.
  if (fd < 0 && errno == ENOSYS) fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW);
  return UniqueFd(fd);
}

std::string join(const std::string& dir, std::string_view file) {
  std::string path;
  path.reserve(dir.size() + 1 + file.size());
  path.append(dir).append("/").append(file);
  return path;
}

Result<void> walk_level(const std::string& dir, int depth,
                        const std::function<Result<void>(const std::string&)>& visit) {
  if (depth > kMaxDepth) return fail(Errc::kSystem, dir + ": nested too deeply");
  TRY(visit(dir));
  struct stat info{};
  // cgroupfs counts its sub-directories in st_nlink: most cgroups are spared the readdir.
  if (::stat(dir.c_str(), &info) != 0 || info.st_nlink == 2) return {};
  TRY_ASSIGN(const std::vector<std::string> names, children(dir));
  for (const std::string& name : names) TRY(walk_level(join(dir, name), depth + 1, visit));
  return {};
}

}  // namespace

Result<UniqueFd> open_file(const std::string& dir, std::string_view file, int flags) {
  const std::string path = join(dir, file);
  UniqueFd fd = open_quietly(path, flags);
  if (!fd) return fail_errno(errno, "open " + path);
  return fd;
}

bool has_file(const std::string& dir, std::string_view file) noexcept {
  return ::access(join(dir, file).c_str(), F_OK) == 0;
}

Result<std::string> read_value(const std::string& dir, std::string_view file,
                               std::vector<UniqueFd>* keep) {
  TRY_ASSIGN(UniqueFd fd, open_file(dir, file, O_RDONLY));
  // The kernel writes such a file as one record: a read that did not fill the buffer has it all, and
  // the second read for the end of file is saved.
  char buffer[4096];
  ssize_t n = -1;
  do n = ::read(fd.get(), buffer, sizeof buffer);
  while (n < 0 && errno == EINTR);
  if (n < 0) return fail_errno(errno, "read " + join(dir, file));
  std::string text(buffer, static_cast<size_t>(n));
  if (text.size() < sizeof buffer) {
    if (keep != nullptr) keep->push_back(std::move(fd));
    return text;
  }
  auto rest = read_all(fd.get(), kMaxFile);
  if (!rest) return std::unexpected(std::move(rest).error().context(join(dir, file)));
  return text + *rest;
}

Result<std::string> read_list(const std::string& dir, std::string_view file) {
  TRY_ASSIGN(const UniqueFd fd, open_file(dir, file, O_RDONLY));
  auto text = read_all(fd.get(), kMaxFile);
  if (!text) return std::unexpected(std::move(text).error().context(join(dir, file)));
  return text;
}

bool parse_number(std::string_view text, uint64_t& value) noexcept {
  text = trim(text);
  if (text == "max") {
    value = UINT64_MAX;
    return true;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

Result<uint64_t> read_number(const std::string& dir, std::string_view file) {
  TRY_ASSIGN(const std::string text, read_value(dir, file));
  uint64_t value = 0;
  if (!parse_number(text, value)) {
    return fail(Errc::kSystem, fmt::format("{}/{}: not a number: {}", dir, file, trim(text)));
  }
  return value;
}

Result<void> write_value(const std::string& dir, std::string_view file, std::string_view value,
                         std::vector<UniqueFd>* keep) {
  UniqueFd fd = open_quietly(join(dir, file), O_WRONLY);
  ssize_t n = -1;
  if (fd) {
    do n = ::write(fd.get(), value.data(), value.size());
    while (n < 0 && errno == EINTR);
  }
  if (n >= 0 && static_cast<size_t>(n) == value.size()) {
    if (keep != nullptr) keep->push_back(std::move(fd));
    return {};
  }
  const int err = n < 0 ? errno : EIO;
  Error error = Error::from_errno(err, fmt::format("write {} = {} in {}", file, value, dir));
  const std::string hint = hint_for(dir, file, err);
  if (!hint.empty()) return std::unexpected(std::move(error).hint(hint));
  return std::unexpected(std::move(error));
}

Result<void> write_pid(const std::string& dir, std::string_view file, pid_t pid) {
  const std::string text = fmt::format_int(pid).str();
  for (int attempt = 0;; ++attempt) {
    auto written = write_value(dir, file, text);
    if (written || written.error().sys_errno() != EINVAL || attempt == 5) return written;
    sleep_ms(30);
  }
}

Result<void> make_dirs(const std::string& mount, const std::string& path,
                       std::vector<std::string>& made) {
  const std::string full = path == "/" ? mount : mount + path;
  if (::mkdir(full.c_str(), 0755) == 0) {
    made.push_back(full);
    return {};
  }
  if (errno == EEXIST) return {};
  if (errno != ENOENT) return fail_errno(errno, "make cgroup " + full);
  for (size_t at = mount.size() + 1; at != std::string::npos;) {
    at = full.find('/', at);
    const std::string level = full.substr(0, at);
    if (::mkdir(level.c_str(), 0755) == 0) {
      made.push_back(level);
    } else if (errno != EEXIST) {
      return fail_errno(errno, "make cgroup " + level);
    }
    if (at != std::string::npos) ++at;
  }
  return {};
}

Result<std::vector<std::string>> children(const std::string& dir) {
  std::vector<std::string> names;
  UniqueFd fd = open_quietly(dir, O_RDONLY | O_DIRECTORY);
  if (!fd) {
    if (errno == ENOENT) return names;
    return fail_errno(errno, "open " + dir);
  }
  DIR* stream = ::fdopendir(fd.get());
  if (stream == nullptr) return fail_errno(errno, "list " + dir);
  fd.release();  // now the stream's
  while (const struct dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(stream);
  return names;
}

bool is_gone(const Error& error) noexcept {
  return error.sys_errno() == ENOENT || error.sys_errno() == ENODEV;
}

Result<void> walk(const std::string& dir,
                  const std::function<Result<void>(const std::string&)>& visit) {
  return walk_level(dir, 0, visit);
}

Result<void> remove_tree(const std::string& dir, int64_t deadline_ms) {
  for (int pause = 1;; pause = std::min(pause * 2, 64)) {
    if (::rmdir(dir.c_str()) == 0 || errno == ENOENT) return {};
    const int err = errno;
    if (err != EBUSY && err != ENOTEMPTY) return fail_errno(err, "remove cgroup " + dir);
    TRY_ASSIGN(const std::vector<std::string> below, children(dir));
    for (const std::string& name : below) TRY(remove_tree(join(dir, name), deadline_ms));
    if (!below.empty() && (::rmdir(dir.c_str()) == 0 || errno == ENOENT)) return {};
    if (now_ms() >= deadline_ms) {
      Error error = Error::from_errno(err, "remove cgroup " + dir);
      const auto pids = list_pids(dir);
      if (pids && !pids->empty()) {
        return std::unexpected(std::move(error).hint(
            fmt::format("container's cgroup is not empty: {} process(es) found", pids->size())));
      }
      return std::unexpected(std::move(error));
    }
    sleep_ms(pause);
  }
}

Result<std::vector<pid_t>> list_pids(const std::string& dir) {
  std::vector<pid_t> pids;
  TRY(walk(dir, [&](const std::string& level) -> Result<void> {
    auto text = read_list(level, "cgroup.procs");
    if (!text) {
      const int err = text.error().sys_errno();
      // Gone meanwhile; or a threaded cgroup, whose processes its domain lists.
      if (err == ENOENT || err == ENODEV || err == EOPNOTSUPP) return {};
      return std::unexpected(std::move(text).error());
    }
    const char* at = text->data();
    const char* end = at + text->size();
    while (at < end) {
      pid_t pid = 0;
      const auto [next, error] = std::from_chars(at, end, pid);
      if (error == std::errc() && pid > 0) pids.push_back(pid);
      at = std::find(next, end, '\n');
      if (at < end) ++at;
    }
    return {};
  }));
  return pids;
}

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

uint64_t keyed_number(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ' ') continue;
    uint64_t value = 0;
    return parse_number(line.substr(key.size() + 1), value) ? value : 0;
  }
  return 0;
}

int64_t now_ms() noexcept {
  struct timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(int ms) noexcept {
  struct timespec left{ms / 1000, (ms % 1000) * 1000000L};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

Result<void> Writer::write(const std::string& dir, std::string_view file, std::string_view value) {
  std::string before;
  if (updating()) {
    if (auto text = read_value(dir, file)) before = trim(*text);
  }
  TRY(write_value(dir, file, value));
  if (!before.empty() && before != value) {
    old_.push_back({dir, std::string(file), std::move(before)});
  }
  return {};
}

Result<void> Writer::write_keyed(const std::string& dir, std::string_view file,
                                 std::string_view key, std::string_view value,
                                 std::string_view reset) {
  const std::string prefix = std::string(key) + " ";
  std::string before;
  if (updating()) {
    before = prefix + std::string(reset);
    if (auto text = read_value(dir, file)) {
      std::string_view rest = *text;
      while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        if (line.starts_with(prefix)) before = line;
      }
    }
  }
  TRY(write_value(dir, file, prefix + std::string(value)));
  if (!before.empty()) old_.push_back({dir, std::string(file), std::move(before)});
  return {};
}

Result<void> Writer::write_shown(const std::string& dir, std::string_view file,
                                 std::string_view key, uint64_t value) {
  uint64_t before = value;
  if (updating()) {
    if (auto text = read_value(dir, file)) before = keyed_number(*text, key);
  }
  TRY(write_value(dir, file, std::to_string(value)));
  if (before != value) old_.push_back({dir, std::string(file), std::to_string(before)});
  return {};
}

std::string Writer::roll_back() {
  std::string failed;
  for (auto entry = old_.rbegin(); entry != old_.rend(); ++entry) {
    if (auto written = write_value(entry->dir, entry->file, entry->value); !written) {
      failed += (failed.empty() ? "" : ", ") + written.error().what();
    }
  }
  old_.clear();
  return failed;
}

}  // namespace amphora::cgroup
