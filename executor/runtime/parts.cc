// SPDX-License-Identifier: Apache-2.0
// Shared parts of the lifecycle verbs. See parts.h.
#include "executor/runtime/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "detect/detect.h"
#include "detect/verdict.h"
#include "executor/base/directories.h"
#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/process.h"
#include "executor/init/step.h"
#include "executor/oci/spec.h"
#include "executor/oci/state.h"
#include "executor/runtime/passwd.h"
#include "executor/setup/launch.h"
#include "executor/setup/make_plan.h"
#include "executor/store/store.h"

namespace amphora::runtime {
namespace {

constexpr size_t kPasswdLimit = 1 << 20;
constexpr size_t kConfigLimit = 16 << 20;
constexpr int kDeathTimeoutMs = 10000;

/// The address of a socket in a held directory: its own path may be longer than sun_path.
struct sockaddr_un address_of(const Entry& entry) {
  struct sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", entry.dir_fd(),
                kStartSocket);
  return address;
}

Result<UniqueFd> open_passwd(int rootfs_fd, const oci::Spec& spec) {
  for (const oci::Mount& mount : spec.mounts) {
    if (path::clean("/" + mount.destination) == "/etc/passwd" && mount.source.starts_with('/')) {
      return open_at(AT_FDCWD, mount.source, O_RDONLY | O_NONBLOCK);
    }
  }
  return open_in_root(rootfs_fd, "/etc/passwd", O_RDONLY | O_NONBLOCK);
}

/// A regular file of that size, in one read where the kernel gives it so.
Result<std::string> read_sized(int fd, off_t size, size_t limit) {
  std::string text(static_cast<size_t>(std::clamp<off_t>(size, 0, static_cast<off_t>(limit))),
                   '\0');
  size_t used = 0;
  while (used < text.size()) {
    const ssize_t n = ::read(fd, text.data() + used, text.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "read");
    if (n == 0) break;
    used += static_cast<size_t>(n);
  }
  text.resize(used);
  return text;
}

/// The path of an open directory as the kernel knows it: absolute, without links.
Result<std::string> path_of(int fd) {
  char target[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t n = ::readlink(link.c_str(), target, sizeof target);
  if (n <= 0 || static_cast<size_t>(n) == sizeof target)
    return fail_errno(errno, "readlink " + link);
  return std::string(target, static_cast<size_t>(n));
}

}  // namespace

namespace {

/// A destination that is written as the host sees it, below the root's own path, is what lies there in the
/// container: runc strips it lexically, and configurations rely on it.
void strip_root(std::vector<oci::Mount>& mounts, const std::string& rootfs) {
  if (rootfs == "/") return;
  for (oci::Mount& mount : mounts) {
    const std::string destination = path::clean(mount.destination);
    if (!path::is_below(destination, rootfs)) continue;
    mount.destination = path::clean("/" + destination.substr(rootfs.size()));
  }
}

}  // namespace

Result<Bundle> open_bundle(const std::string& path, const std::string& rootfs_override) {
  Bundle bundle;
  auto dir = open_at(AT_FDCWD, path.empty() ? "." : path, O_RDONLY | O_DIRECTORY);
  if (!dir) return std::unexpected(std::move(dir).error().context("bundle"));
  bundle.dir = std::move(*dir);
  TRY_ASSIGN(bundle.path, path_of(bundle.dir.get()));
  auto config = read_record_at(bundle.dir.get(), kConfigCopy, kConfigLimit, &bundle.spent);
  if (!config) {
    return std::unexpected(std::move(config).error().context("bundle " + bundle.path));
  }
  bundle.config = std::move(*config);
  auto spec = oci::parse_spec(bundle.config);
  if (!spec) return std::unexpected(std::move(spec).error().context(bundle.path + "/config.json"));
  bundle.spec = std::move(*spec);
  const std::string& root = rootfs_override.empty() ? bundle.spec.root.path : rootfs_override;
  bundle.rootfs = root.starts_with('/') ? path::clean(root) : path::join(bundle.path, root);
  strip_root(bundle.spec.mounts, bundle.rootfs);
  if (!bundle.spec.process) {
    return fail(Errc::kInvalid, bundle.path + "/config.json: process is missing");
  }
  return bundle;
}

Result<UniqueFd> open_rootfs(const std::string& path) {
  auto fd = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (fd) return fd;
  struct stat st{};
  if (::lstat(path.c_str(), &st) == 0 && S_ISLNK(st.st_mode)) {
    return fail(Errc::kInvalid, "root.path: " + path + " is a symbolic link");
  }
  return std::unexpected(std::move(fd).error().context("rootfs"));
}

oci::State first_state(const std::string& id, const Bundle& bundle,
                       const detect::Verdict& verdict) {
  oci::State state;
  state.id = id;
  state.bundle = bundle.path;
  state.rootfs = bundle.rootfs;
  state.created = now_rfc3339();
  state.oci_version = bundle.spec.oci_version;
  state.kind = detect::to_string(verdict.kind);
  state.reason = verdict.reason;
  state.cgroups_path = bundle.spec.linux_.cgroups_path;
  state.own_pid_namespace = setup::has_new(bundle.spec, oci::NamespaceKind::kPid);
  state.poststop = bundle.spec.hooks.poststop;
  state.annotations = bundle.spec.annotations;
  // How it was decided, for who asks `state` (docs/detection.md); the spec cannot say otherwise.
  state.annotations[std::string(detect::kKindAnnotation)] = state.kind;
  state.annotations[std::string(detect::kReasonAnnotation)] = state.reason;
  return state;
}

Result<void> keep_config(const Entry& entry, const std::string& config,
                         std::vector<UniqueFd>& spent) {
  TRY_ASSIGN(UniqueFd fd,
             open_at(entry.dir_fd(), kConfigCopy, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY(write_all(fd.get(), config));
  spent.push_back(std::move(fd));
  return {};
}

oci::Status status_of(const Entry& entry, const oci::State& state) {
  if (state.pid == 0) return state.exit_code ? oci::Status::kStopped : oci::Status::kCreating;
  if (!find_process(state.pid, state.start_time)) return oci::Status::kStopped;
  struct stat st{};
  const bool waiting = ::fstatat(entry.dir_fd(), kStartSocket, &st, AT_SYMLINK_NOFOLLOW) == 0;
  return waiting ? oci::Status::kCreated : oci::Status::kRunning;
}

void add_home(oci::Process& process, int rootfs_fd, const oci::Spec& spec) {
  // The last one counts, as for every variable; an empty one is none.
  const auto is_home = [](const std::string& entry) { return entry.starts_with("HOME="); };
  const auto last = std::find_if(process.env.rbegin(), process.env.rend(), is_home);
  if (last != process.env.rend() && *last != "HOME=") return;
  std::erase_if(process.env, is_home);
  std::string home = "/";
  if (const auto file = open_passwd(rootfs_fd, spec)) {
    struct stat st{};
    if (::fstat(file->get(), &st) == 0 && S_ISREG(st.st_mode)) {
      if (const auto text = read_sized(file->get(), st.st_size, kPasswdLimit)) {
        home = home_in(*text, process.user.uid);
      }
    }
  }
  process.env.push_back("HOME=" + home);
}

Result<UniqueFd> listen_for_start(const Entry& entry) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "make the start socket");
  const struct sockaddr_un address = address_of(entry);
  if (::bind(socket.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) !=
          0 ||
      ::listen(socket.get(), 1) != 0) {
    return fail_errno(errno, "bind the start socket of container " + entry.id());
  }
  return socket;
}

Result<void> release_start(const Entry& entry, const Process& init) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "make a socket");
  const struct sockaddr_un address = address_of(entry);
  if (::connect(socket.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) !=
      0) {
    const int err = errno;
    if (err == ENOENT || err == ECONNREFUSED) {
      return fail(Errc::kPrecondition, "cannot start a container that has stopped");
    }
    return fail_errno(err, "start container " + entry.id());
  }
  ::unlinkat(entry.dir_fd(), kStartSocket, 0);
  struct pollfd polls[2] = {{socket.get(), POLLIN, 0}, {init.pidfd.get(), POLLIN, 0}};
  while (::poll(polls, 2, -1) < 0) {
    if (errno != EINTR) return fail_errno(errno, "wait for container " + entry.id());
  }
  // Its death alone: whatever it said before is in the socket.
  char buffer[sizeof(init::Message) + init::kFailureTextMax];
  const ssize_t n = ::recv(socket.get(), buffer, sizeof buffer,
                           (polls[0].revents & POLLIN) != 0 ? 0 : MSG_DONTWAIT);
  if (n < static_cast<ssize_t>(sizeof(init::Message))) return {};
  return std::unexpected(setup::failure_of({buffer, static_cast<size_t>(n)}));
}

std::string now_rfc3339() {
  struct timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  // Not gmtime_r: it reads the host's time zone file first.
  const std::chrono::sys_seconds seconds{std::chrono::seconds(now.tv_sec)};
  const auto days = std::chrono::floor<std::chrono::days>(seconds);
  const std::chrono::year_month_day date{days};
  const std::chrono::hh_mm_ss time{seconds - days};
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%09ldZ",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()),
                static_cast<int>(time.minutes().count()), static_cast<int>(time.seconds().count()),
                now.tv_nsec);
  return text;
}

Result<void> write_pid_file(const std::string& path, pid_t pid) {
  const std::string dir(path::dir_name(path));
  TRY_ASSIGN(const UniqueFd fd, open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY));
  auto written =
      replace_file_at(fd.get(), std::string(path::base_name(path)), std::to_string(pid), 0644);
  if (!written) return std::unexpected(std::move(written).error().context("pid file " + path));
  return {};
}

bool wait_for_end(const Process& process) {
  struct pollfd poll{process.pidfd.get(), POLLIN, 0};
  return ::poll(&poll, 1, kDeathTimeoutMs) > 0;
}

Result<UniqueFd> open_directory(const std::string& path) {
  TRY(make_directories(path, 0700, 0700));
  return open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

}  // namespace amphora::runtime
