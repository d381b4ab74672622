// SPDX-License-Identifier: Apache-2.0
// Descriptors. See fd.h.
#include "executor/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <expected>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/resolve.h"
#include "executor/base/sys.h"

namespace amphora {
namespace {

/// resolve.h by libc's system calls.
struct LibcKernel {
  template <class... Args>
  static long call(long number, Args... args) noexcept {
    const long result = ::syscall(number, args...);
    return result < 0 ? -long{errno} : result;
  }
};

constexpr size_t kMaxFdsPerMessage = 250;  // SCM_MAX_FD is 253

Result<UniqueFd> open_resolved(int dir_fd, const std::string& path, int flags, unsigned mode,
                               uint64_t how) {
  const auto how_flags = static_cast<uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC));
  for (int attempt = 0;; ++attempt) {
    const int fd = sys::openat2(dir_fd, path.c_str(), how_flags, mode, how);
    if (fd >= 0) return UniqueFd(fd);
    // EAGAIN: a rename or mount raced with the walk (openat2(2)); bounded, as a racer can go on.
    if (errno == EINTR || (errno == EAGAIN && attempt < 128)) continue;
    if (openat2_is_blocked(-long{errno})) {
      const long found = ResolveByHand<LibcKernel>(dir_fd, how).open(path.c_str(), how_flags, mode);
      if (found >= 0) return UniqueFd(static_cast<int>(found));
      errno = static_cast<int>(-found);
    }
    return fail_errno(errno, "open " + path);
  }
}

}  // namespace

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, unsigned mode) {
  const int fd = ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return fail_errno(errno, "open " + path);
  return UniqueFd(fd);
}

Result<UniqueFd> open_in_root(int root_fd, const std::string& path, int flags, unsigned mode) {
  return open_resolved(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

Result<UniqueFd> open_beneath(int dir_fd, const std::string& path, int flags, unsigned mode) {
  return open_resolved(dir_fd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

Result<std::string> read_all(int fd, size_t limit) {
  std::string data;
  size_t used = 0;
  data.resize(4096);
  for (;;) {
    const ssize_t n = ::read(fd, data.data() + used, data.size() - used);
    if (n < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "read");
    }
    if (n == 0) break;
    used += static_cast<size_t>(n);
    if (used > limit) return fail(Errc::kInvalid, "read: more than the allowed size");
    if (used == data.size()) data.resize(data.size() * 4);
  }
  data.resize(used);
  return data;
}

Result<std::string> read_file_at(int dir_fd, const std::string& path, size_t limit) {
  TRY_ASSIGN(const UniqueFd fd, open_at(dir_fd, path, O_RDONLY));
  auto data = read_all(fd.get(), limit);
  if (!data) return std::unexpected(std::move(data).error().context(path));
  return data;
}

Result<std::string> read_record_at(int dir_fd, const std::string& path, size_t limit,
                                   std::vector<UniqueFd>* keep) {
  TRY_ASSIGN(UniqueFd fd, open_at(dir_fd, path, O_RDONLY));
  constexpr size_t kOnce = 16384;
  std::string data;
  int err = 0;
  // Not zeroed first: pages that nothing is read into are not touched.
  data.resize_and_overwrite(kOnce, [&](char* to, size_t size) {
    ssize_t n = -1;
    do n = ::read(fd.get(), to, size);
    while (n < 0 && errno == EINTR);
    err = n < 0 ? errno : 0;
    return n < 0 ? size_t{0} : static_cast<size_t>(n);
  });
  if (err != 0) return fail_errno(err, path + ": read");
  if (data.size() < kOnce) {
    if (keep != nullptr) keep->push_back(std::move(fd));
    return data;
  }
  auto rest = read_all(fd.get(), limit);
  if (!rest) return std::unexpected(std::move(rest).error().context(path));
  return data + *rest;
}

Result<void> write_file_at(int dir_fd, const std::string& path, std::string_view data) {
  TRY_ASSIGN(const UniqueFd fd, open_at(dir_fd, path, O_WRONLY));
  // One call: cgroupfs and procfs take a value per write.
  const ssize_t n = ::write(fd.get(), data.data(), data.size());
  if (n < 0) return fail_errno(errno, "write " + path);
  if (static_cast<size_t>(n) != data.size())
    return fail(Errc::kSystem, "write " + path + ": short");
  return {};
}

Result<void> write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "write");
    }
    data.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

std::string replacement_name(const std::string& name) { return "." + name + ".new"; }

Result<UniqueFd> open_replacement_at(int dir_fd, const std::string& name, unsigned mode) {
  const std::string temporary = replacement_name(name);
  UniqueFd fd(::openat(dir_fd, temporary.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!fd) return fail_errno(errno, "create " + temporary);
  return fd;
}

Result<void> replace_file_at(int dir_fd, const std::string& name, std::string_view data,
                             unsigned mode, std::vector<UniqueFd>* keep) {
  TRY_ASSIGN(UniqueFd fd, open_replacement_at(dir_fd, name, mode));
  return put_replacement_at(dir_fd, name, std::move(fd), data, keep);
}

Result<void> put_replacement_at(int dir_fd, const std::string& name, UniqueFd fd,
                                std::string_view data, std::vector<UniqueFd>* keep) {
  const std::string temporary = replacement_name(name);
  if (auto written = write_all(fd.get(), data); !written) {
    ::unlinkat(dir_fd, temporary.c_str(), 0);
    return std::unexpected(std::move(written).error().context(temporary));
  }
  if (::renameat(dir_fd, temporary.c_str(), dir_fd, name.c_str()) != 0) {
    const int err = errno;
    ::unlinkat(dir_fd, temporary.c_str(), 0);
    return fail_errno(err, "rename " + temporary + " to " + name);
  }
  if (keep != nullptr) keep->push_back(std::move(fd));
  return {};
}

Result<void> send_with_fds(int socket, std::string_view data, std::span<const int> fds) {
  AMPHORA_CHECK(fds.size() <= kMaxFdsPerMessage);
  struct iovec part{const_cast<char*>(data.data()), data.size()};
  alignas(struct cmsghdr) char control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
  struct msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    const ssize_t n = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (n >= 0) return {};
    if (errno != EINTR) return fail_errno(errno, "send a message");
  }
}

Result<Received> receive_with_fds(int socket, size_t limit) {
  Received received;
  received.data.resize(limit);
  struct iovec part{received.data.data(), limit};
  alignas(struct cmsghdr) char control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
  struct msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = 0;
  // A peer that ends with something of ours unread leaves ECONNRESET, told once and before what it
  // said last: that is still to be read (unix(7) queues; sock_error() clears).
  bool reset = false;
  do {
    n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset, true))));
  if (n < 0) return fail_errno(errno, "receive a message");
  for (struct cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  // unix(7): descriptors that this process has no numbers left for are dropped, and only this flag tells.
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return fail_errno(EMFILE, "receive the descriptors of a message");
  }
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return fail(Errc::kInternal, "receive a message: it was cut");
  }
  received.data.resize(static_cast<size_t>(n));
  return received;
}

Result<UniqueFd> duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return fail_errno(errno, "duplicate a descriptor");
  return UniqueFd(copy);
}

}  // namespace amphora
