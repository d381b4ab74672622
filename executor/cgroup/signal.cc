// SPDX-License-Identifier: Apache-2.0
// Signals to the processes of a cgroup. See signal.h.
#include "executor/cgroup/signal.h"

#include <errno.h>
#include <signal.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/base/sys.h"
#include "executor/cgroup/files.h"

namespace amphora::cgroup {

Result<size_t> signal_all(const std::string& dir, int signal) {
  // A few hundred descriptors at a time, so that a container's number of processes never meets ours
  // of descriptors.
  constexpr size_t kBatch = 256;
  TRY_ASSIGN(const std::vector<pid_t> first, list_pids(dir));
  size_t reached = 0;
  for (size_t from = 0; from < first.size(); from += kBatch) {
    std::vector<std::pair<pid_t, UniqueFd>> held;
    const size_t to = std::min(first.size(), from + kBatch);
    for (size_t at = from; at < to; ++at) {
      UniqueFd fd(sys::pidfd_open(first[at], 0));
      if (fd) held.emplace_back(first[at], std::move(fd));
    }
    // A pid that is still listed after its pidfd was opened is the process of that pidfd: had it
    // been reused by a stranger in between, the stranger would have to be in this cgroup.
    TRY_ASSIGN(std::vector<pid_t> second, list_pids(dir));
    std::sort(second.begin(), second.end());
    for (const auto& [pid, fd] : held) {
      if (!std::binary_search(second.begin(), second.end(), pid)) continue;
      if (sys::pidfd_send_signal(fd.get(), signal) == 0) {
        ++reached;
      } else if (errno != ESRCH) {
        return fail_errno(errno, fmt::format("send signal {} to process {}", signal, pid));
      }
    }
  }
  return reached;
}

Result<void> kill_until_empty(const std::string& dir, int64_t deadline_ms) {
  for (int pause = 1;; pause = std::min(pause * 2, 50)) {
    TRY_ASSIGN(const size_t reached, signal_all(dir, SIGKILL));
    TRY_ASSIGN(const std::vector<pid_t> left, list_pids(dir));
    if (left.empty()) return {};
    if (now_ms() >= deadline_ms) {
      return fail(Errc::kSystem,
                  fmt::format("cgroup {}: {} process(es) survive SIGKILL ({} reached)", dir,
                              left.size(), reached));
    }
    sleep_ms(pause);
  }
}

}  // namespace amphora::cgroup
