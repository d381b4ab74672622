// SPDX-License-Identifier: Apache-2.0
// Reading and writing cgroup files: one value per write, error texts that name file, value and what
// the kernel may have meant, and a Writer that remembers old values so that an update can be undone.
// Directories are named by absolute paths made of a mount point and a cleaned path: cgroupfs has no
// symlinks, and every open refuses them (openat2), so such a name cannot lead out of the hierarchy
// and no descriptor has to be held per hierarchy and container.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"

namespace amphora::cgroup {

/// Opens `dir`/`file` (an absolute path, no symlink anywhere in it).
Result<UniqueFd> open_file(const std::string& dir, std::string_view file, int flags);
/// `keep` (also below) takes the descriptor instead of it being closed: several go in one call.
Result<std::string> read_value(const std::string& dir, std::string_view file,
                               std::vector<UniqueFd>* keep = nullptr);
/// The same for cgroup.procs and its like, which come in many records and short reads.
Result<std::string> read_list(const std::string& dir, std::string_view file);
/// A number, or UINT64_MAX for "max".
Result<uint64_t> read_number(const std::string& dir, std::string_view file);
/// One write of `value`. The error: "write memory.pids = 5 in /sys/...: errno text (hint)".
Result<void> write_value(const std::string& dir, std::string_view file, std::string_view value,
                         std::vector<UniqueFd>* keep = nullptr);
bool has_file(const std::string& dir, std::string_view file) noexcept;
/// Writes `pid` to `procs`; retries EINVAL, which a v2 kernel gives while a task is being forked.
Result<void> write_pid(const std::string& dir, std::string_view file, pid_t pid);

/// Makes `mount` + `path` with the missing levels above it. Appends what it made, outermost first,
/// to `made`; nothing appended means that it was there already.
Result<void> make_dirs(const std::string& mount, const std::string& path,
                       std::vector<std::string>& made);
/// The names of the child cgroups.
Result<std::vector<std::string>> children(const std::string& dir);
/// The cgroup that the failed call was about is not there, or was removed meanwhile (ENOENT, ENODEV).
bool is_gone(const Error& error) noexcept;
/// Calls `visit` for `dir` and every cgroup below it, parents first. Missing directories are no
/// error: cgroups come and go. At most kMaxDepth levels.
Result<void> walk(const std::string& dir,
                  const std::function<Result<void>(const std::string&)>& visit);
/// Removes `dir` and what is below, retrying EBUSY until `deadline_ms` (CLOCK_MONOTONIC).
Result<void> remove_tree(const std::string& dir, int64_t deadline_ms);

/// Pids in `dir` and below; those outside our pid namespace (0) left out.
Result<std::vector<pid_t>> list_pids(const std::string& dir);

/// The value after `key` in a text of "key value" lines; 0 when it is not there.
uint64_t keyed_number(std::string_view text, std::string_view key);
/// strtoull without its traps: the whole of `text` is a number, or "max".
bool parse_number(std::string_view text, uint64_t& value) noexcept;
std::string_view trim(std::string_view text) noexcept;

int64_t now_ms() noexcept;
void sleep_ms(int ms) noexcept;

/// Writes limits. In an update it reads each old value first and can put them all back.
class Writer {
 public:
  enum class Mode : uint8_t { kFresh, kUpdate };
  explicit Writer(Mode mode) : mode_(mode) {}

  bool updating() const noexcept { return mode_ == Mode::kUpdate; }
  Result<void> write(const std::string& dir, std::string_view file, std::string_view value);
  /// For files with a line per device ("8:0 1048576"): writes "key value"; undone with the line that
  /// was there, or with "key reset".
  Result<void> write_keyed(const std::string& dir, std::string_view file, std::string_view key,
                           std::string_view value, std::string_view reset);
  /// For a file that takes a number and shows it as one of several lines, after `key`.
  Result<void> write_shown(const std::string& dir, std::string_view file, std::string_view key,
                           uint64_t value);
  /// Puts the old values back, last first. Returns what could not be restored, empty if all could.
  std::string roll_back();

 private:
  struct Old {
    std::string dir, file, value;
  };
  Mode mode_;
  std::vector<Old> old_;
};

}  // namespace amphora::cgroup
