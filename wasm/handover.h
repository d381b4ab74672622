// SPDX-License-Identifier: Apache-2.0
// Handover: what the wasm executor says to the wasm host about one guest (arguments, environment,
// entry, options), as bytes that travel beside the frozen plan. Both ends are built together; the
// reader still trusts no length. Shared by wasm/ and wasm/host/, so nothing of executor/ here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace amphora::wasm {

/// One guest. Descriptors travel apart: the last ones of the plan, in the order of HandoverFd.
struct Handover {
  std::string path;      ///< of the module inside the container, for messages
  std::string function;  ///< export to run; empty: the engine's default
  std::string cwd;       ///< absolute
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::vector<std::string> options;  ///< key, value, key, value
  std::vector<std::string>
      preopens;          ///< path, name, "ro" or "rw", ...; looked at with kPreopensGiven
  std::string listen;    ///< address of an HTTP server; empty: not said
  uint32_t backlog = 0;  ///< of it; 0: not said
  uint32_t flags = 0;    ///< HandoverFlag
  uint64_t memory_limit = 0;
};

/// What the kernel makes up: not part of what a guest sees unless it is asked for.
inline constexpr std::string_view kKernelFiles[] = {"/proc", "/sys"};
/// Whether a directory is one of them or below; by its name, as the view has no others.
inline bool is_of_kernel_files(std::string_view path) noexcept {
  for (const std::string_view top : kKernelFiles) {
    if (path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/'))
      return true;
  }
  return false;
}

enum HandoverFlag : uint32_t {
  kPreopensGiven = 1,  ///< the guest gets `preopens` and nothing else of the container's files
};

/// Descriptors of a handover.
enum HandoverFd : uint32_t { kArtifactFd = 0, kHandoverFds = 1 };

/// The same in place: pointers into the encoded bytes. The tables end with a null.
struct HandoverView {
  const char* path = nullptr;
  const char* function = nullptr;
  const char* cwd = nullptr;
  std::vector<const char*> args;
  std::vector<const char*> env;
  std::vector<const char*> options;
  std::vector<const char*> preopens;
  const char* listen = nullptr;
  uint32_t backlog = 0;
  uint32_t flags = 0;
  uint64_t memory_limit = 0;
};

/// Strings must not contain NUL (the spec's cannot: execve's could not either); what follows one is
/// cut off.
std::string encode(const Handover& handover);
/// False when the bytes are not exactly one handover of this version.
bool decode(std::string_view bytes, HandoverView* view);

}  // namespace amphora::wasm
