// SPDX-License-Identifier: Apache-2.0
// See notify.h.
#include "executor/cli/notify.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/path.h"
#include "executor/base/process.h"
#include "executor/oci/spec.h"
#include "executor/runtime/runtime.h"

namespace amphora::cli {
namespace {

constexpr char kDirectory[] = "notify";
constexpr char kSocket[] = "notify/notify.sock";
constexpr char kInside[] = "/run/notify";
constexpr int kBarrierMs = 30000;

constexpr std::string_view kAllowed[] = {
    "READY=",          "STATUS=", "RELOADING=", "STOPPING=",
    "MONOTONIC_USEC=", "ERRNO=",  "WATCHDOG=",  "EXTEND_TIMEOUT_USEC="};

bool allowed(std::string_view line) {
  for (const std::string_view word : kAllowed) {
    if (line.starts_with(word)) return true;
  }
  return false;
}

}  // namespace

std::string passed_on(std::string_view message, bool& ready) {
  std::string out;
  while (!message.empty()) {
    const size_t end = message.find('\n');
    const std::string_view line = message.substr(0, end);
    message.remove_prefix(end == std::string_view::npos ? message.size() : end + 1);
    if (!allowed(line)) continue;
    if (line == "READY=1") ready = true;
    out.append(line).append("\n");
  }
  return out;
}

std::optional<Notify> Notify::from_environment() {
  const char* host = getenv("NOTIFY_SOCKET");
  if (host == nullptr || *host == 0) return std::nullopt;
  return Notify(host);
}

void Notify::add_to(CreateOptions& options, const std::string& root, const std::string& id,
                    bool bind_now) {
  oci::Mount mount;
  mount.destination = kInside;
  mount.source = path::join(path::join(root, id), kDirectory);
  mount.options = {"bind", "nosuid", "noexec", "nodev", "ro"};
  options.extra_mounts.push_back(std::move(mount));
  options.extra_env.push_back(std::string("NOTIFY_SOCKET=") + kInside + "/notify.sock");
  options.on_state_dir = [this, bind_now](int dir_fd) -> Result<void> {
    if (mkdirat(dir_fd, kDirectory, 0755) != 0) return fail_errno(errno, "make notify directory");
    if (!bind_now) return {};
    TRY_ASSIGN(const bool bound, bind(dir_fd));
    AMPHORA_CHECK(bound);
    return {};
  };
}

Result<bool> Notify::bind(int state_dir_fd) {
  const auto dir = open_beneath(state_dir_fd, kDirectory, O_PATH | O_DIRECTORY);
  if (!dir && dir.error().sys_errno() == ENOENT) return false;
  if (!dir) return std::unexpected(Error(dir.error()));
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_) return fail_errno(errno, "make the notify socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", state_dir_fd,
                kSocket);
  // SAFETY: the sockets interface takes every address family through this one type.
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      fchmodat(state_dir_fd, kSocket, 0777, 0) != 0) {
    return fail_errno(errno, "bind the notify socket");
  }
  return true;
}

Result<UniqueFd> Notify::connect_host() const {
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket for NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (host_.size() >= sizeof address.sun_path) {
    return fail_errno(ENAMETOOLONG, "NOTIFY_SOCKET " + host_);
  }
  std::memcpy(address.sun_path, host_.data(), host_.size());
  if (host_[0] == '@') address.sun_path[0] = 0;
  const auto size =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + host_.size() + (host_[0] != '@'));
  // SAFETY: as above.
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    return fail_errno(errno, "connect to NOTIFY_SOCKET " + host_);
  }
  return socket;
}

Result<bool> Notify::take(pid_t main_pid) {
  char buffer[4096];
  const ssize_t n = recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return ready_;
    return fail_errno(errno, "read the notify socket");
  }
  bool ready = false;
  const std::string text = passed_on({buffer, static_cast<size_t>(n)}, ready);
  if (text.empty()) return ready_;
  TRY_ASSIGN(const UniqueFd host, connect_host());
  // A service manager that went away, or a full queue, is no reason to end the container.
  static_cast<void>(send(host.get(), text.data(), text.size(), MSG_NOSIGNAL));
  if (ready && !ready_) {
    ready_ = true;
    if (main_pid != 0) {
      const std::string pid = "MAINPID=" + std::to_string(main_pid);
      static_cast<void>(send(host.get(), pid.data(), pid.size(), MSG_NOSIGNAL));
    }
  }
  return ready_;
}

/// The manager closes its end when it has handled all before it: only then may the sender go, or its
/// messages can no longer be told to be this service's.
Result<void> Notify::send_barrier() const {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
  const UniqueFd read_end(fds[0]);
  UniqueFd write_end(fds[1]);
  TRY_ASSIGN(const UniqueFd host, connect_host());
  const int sent[] = {write_end.get()};
  TRY(send_with_fds(host.get(), "BARRIER=1", sent));
  write_end.reset();
  pollfd polled{read_end.get(), 0, 0};  // HUP is always reported
  if (poll(&polled, 1, kBarrierMs) == 0) {
    return fail_errno(ETIMEDOUT, "wait for the barrier of NOTIFY_SOCKET " + host_);
  }
  return {};
}

Result<void> Notify::wait_ready(const Process& init) {
  for (;;) {
    pollfd polled[] = {{socket_.get(), POLLIN, 0}, {init.pidfd.get(), POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "poll");
    }
    if (polled[0].revents != 0) {
      TRY_ASSIGN(const bool ready, take(init.pid));
      if (ready) return send_barrier();
    } else if (polled[1].revents != 0) {
      return {};  // it ended without a word; whoever looks will see that
    }
  }
}

}  // namespace amphora::cli
