// SPDX-License-Identifier: Apache-2.0
// What the client (wasm/zygote) and the wasm host's zygote (wasm/host/zygote) say to each other over
// a SOCK_SEQPACKET pair: one Hello after the engine has started, then Request and Reply in turn. Plain
// structs with fixed sizes; descriptors by SCM_RIGHTS. Both ends are built together, kProtocol says so.
#pragma once

#include <cstdint>

namespace amphora::wasm {

inline constexpr uint32_t kProtocol = 1;
/// SCM_RIGHTS takes at most 253 descriptors a message; a round number below it.
inline constexpr uint32_t kFdsPerMessage = 250;
/// More descriptors than any plan has; a bound on what the zygote will collect.
inline constexpr uint32_t kMaxFds = 16384;

/// Zygote to client, once. `text` says why when `ok` is 0.
struct Hello {
  uint32_t protocol;
  uint32_t ok;
  uint32_t capabilities;  ///< AMPHORA_CAP_*
  char engine[32];
  char version[32];
  char text[448];
};

/// Client to zygote. Descriptors in order: a sealed memfd with the plan blob, the status socket,
/// the cgroup directory and the pid namespace (if flagged), then the plan's own;
/// the first kFdsPerMessage come with the Request, the rest in one-byte messages.
struct Request {
  uint32_t protocol;
  uint32_t fd_count;  ///< all of them
  uint64_t clone_flags;
  uint32_t plan_size;
  uint16_t has_cgroup;
  uint16_t has_pid_namespace;
};

/// Zygote to client, with the clone's pidfd unless err is set.
struct Reply {
  int32_t pid;
  int32_t err;
  char call[32];  ///< what failed
};

}  // namespace amphora::wasm
