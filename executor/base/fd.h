// SPDX-License-Identifier: Apache-2.0
// UniqueFd, the only owner of descriptors, and the few helpers everybody needs around them: opening
// beneath a root, reading and writing small files, passing descriptors over a socket. Every
// descriptor is close-on-exec from birth. Not here: system call wrappers (sys.h), path algebra.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"

namespace amphora {

/// Owns one descriptor; closes it on destruction. Move only; -1 is "none".
class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

/// openat with O_CLOEXEC added. The error names the path.
Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, unsigned mode = 0);
/// Opens `path` as if `root_fd` were "/": symlinks, ".." and absolute paths stay inside
/// (openat2 RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS). For paths that a container controls.
Result<UniqueFd> open_in_root(int root_fd, const std::string& path, int flags, unsigned mode = 0);
/// Opens `path` strictly beneath `dir_fd` without following any symlink.
Result<UniqueFd> open_beneath(int dir_fd, const std::string& path, int flags, unsigned mode = 0);

/// Reads a whole small file; more than `limit` bytes is an error.
Result<std::string> read_file_at(int dir_fd, const std::string& path, size_t limit = 1 << 20);
/// Reads a file that was written in one go (a record of procfs, our own state, a JSON text, of which
/// a part does not parse): a read that leaves room has it all, and the one for the end is saved.
/// With `keep` the descriptor goes there, to be closed with others (sys::close_all).
Result<std::string> read_record_at(int dir_fd, const std::string& path, size_t limit = 1 << 20,
                                   std::vector<UniqueFd>* keep = nullptr);
/// Reads to end of file from `fd`; more than `limit` bytes is an error.
Result<std::string> read_all(int fd, size_t limit = 1 << 20);
/// Writes `data` in one write call to an existing file (cgroupfs, procfs: no O_CREAT, no O_TRUNC).
Result<void> write_file_at(int dir_fd, const std::string& path, std::string_view data);
/// Writes everything, retrying short writes.
Result<void> write_all(int fd, std::string_view data);
/// Creates or replaces `name` in `dir_fd` atomically (temporary file, then rename).
/// `keep` as for read_record_at.
Result<void> replace_file_at(int dir_fd, const std::string& name, std::string_view data,
                             unsigned mode = 0600, std::vector<UniqueFd>* keep = nullptr);
/// The same in two steps: the temporary file (replacement_name), and what puts it in place, or removes it
/// when that fails.
std::string replacement_name(const std::string& name);
Result<UniqueFd> open_replacement_at(int dir_fd, const std::string& name, unsigned mode);
Result<void> put_replacement_at(int dir_fd, const std::string& name, UniqueFd fd,
                                std::string_view data, std::vector<UniqueFd>* keep = nullptr);

/// Sends `data` with up to 250 descriptors in one message (SCM_RIGHTS, MSG_NOSIGNAL).
Result<void> send_with_fds(int socket, std::string_view data, std::span<const int> fds);
struct Received {
  std::string data;           ///< empty at end of stream
  std::vector<UniqueFd> fds;  ///< close-on-exec
};
/// Receives one message of up to `limit` bytes with its descriptors.
Result<Received> receive_with_fds(int socket, size_t limit = 1 << 16);

/// dup with close-on-exec.
Result<UniqueFd> duplicate(int fd);

}  // namespace amphora
