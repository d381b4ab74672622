// SPDX-License-Identifier: Apache-2.0
// What execve(2) does to a native container's process and nobody does to a clone of the zygote:
// capability sets, name, command line and environment as seen in /proc, dumpability. Descriptors are
// the zygote's (close at birth) and guest's (close at the end) business.
#pragma once

#include <cstdint>

namespace amphora::wasm {

/// Capability sets in the kernel's order.
struct CapSets {
  uint64_t effective = 0, permitted = 0, inheritable = 0;
  bool operator==(const CapSets&) const = default;
};

/// capabilities(7), "Transformation of capabilities during execve", for a program without file
/// capabilities, never more than is permitted now (exec could give a uid 0 the whole bounding set back,
/// we cannot). `root` is the effective uid being 0 without SECBIT_NOROOT.
CapSets caps_after_exec(const CapSets& now, uint64_t bounding, uint64_t ambient,
                        bool root) noexcept;

/// Applies it to this process. 0 or errno, and in `*call` what failed.
int take_exec_capabilities(const char** call) noexcept;

/// Reads where this process keeps its command line; once in the zygote, while /proc is the host's.
void find_title() noexcept;

/// Sets comm, /proc/PID/cmdline and /proc/PID/environ. The tables end with a null; what they point to
/// must stay as long as the process. Failing is no failure: only `ps` shows the difference.
void set_title(const char* const* args, const char* const* env) noexcept;

}  // namespace amphora::wasm
