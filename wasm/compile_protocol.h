// SPDX-License-Identifier: Apache-2.0
// What the client (wasm/compiler) and `amphora-wasm compile` agree on: descriptor numbers, what is
// written to the output, exit codes. Both ends are built together.
#pragma once

#include <cstdint>

namespace amphora::wasm {

/// Descriptors of the compile process. Standard error is a pipe for one line of text.
enum CompileFd : int {
  kModuleFd = 3,   ///< the guest's bytes, immutable
  kOutputFd = 4,   ///< pipe: the artifact, or an Identity
  kGoFd = 5,       ///< pipe: one byte when the process has been placed in its cgroup
  kLibraryFd = 6,  ///< the first of as many as there are words "--library NAME", immutable
};
/// Libraries that may be linked to one guest; detect/ and content/ look at no more.
inline constexpr unsigned kMaxLibraries = 64;
/// Exit codes beside AMPHORA_OK and AMPHORA_ERR_* of engine.h.
enum CompileExit : int {
  kCompileBroken = 125,  ///< our own failure: no compiler, cannot be limited
};

/// What an engine's artifacts depend on beside the module.
struct Identity {
  uint32_t size;
  uint32_t capabilities;
  uint64_t cache_key;
  char engine[32];
  char version[32];
  char layer_types[320];  ///< of images, beside those that mean WebAssembly to all; blanks between
};

}  // namespace amphora::wasm
