// SPDX-License-Identifier: Apache-2.0
// The walls around the compile process, which reads bytes made by a stranger with parsers of a
// stranger: namespaces of its own with nothing in them, an unprivileged user, limits, and a list of
// the system calls that computing needs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace amphora::wasm {

struct Confinement {
  uint64_t memory = 0;       ///< RLIMIT_DATA in bytes; 0: the cgroup's business alone
  uint64_t cpu_seconds = 0;  ///< RLIMIT_CPU
};

/// Confines this single-threaded process for good. Everything it needs from files is open or mapped
/// already. False with one line in `text`.
bool confine(const Confinement& limits, char* text, size_t capacity) noexcept;

}  // namespace amphora::wasm
