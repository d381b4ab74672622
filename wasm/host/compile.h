// SPDX-License-Identifier: Apache-2.0
// `amphora-wasm compile`: module or text in, and libraries where it is to be linked, artifact out, once, in
// a process that can do nothing else (confine.h). With --check it only says whether the bytes are valid, with --identify what artifacts
// depend on.
#pragma once

#include <span>

#include "wasm/host/confine.h"

namespace amphora::wasm {

struct CompileOptions {
  enum class Task { kCompile, kCheck, kIdentify };
  Task task = Task::kCompile;
  const char* engine_dir = nullptr;
  const char* engine = nullptr;
  const char* const* options = nullptr;         ///< key, value, ..., null
  const char* name = "";                        ///< of the module, for an engine that links
  std::span<const char* const> libraries = {};  ///< their names, in the order of their descriptors
  Confinement limits;
};

/// The process's exit code (compile_protocol.h).
int compile(const CompileOptions& options) noexcept;

}  // namespace amphora::wasm
