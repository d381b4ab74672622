// SPDX-License-Identifier: Apache-2.0
// Loading an engine's shared object (wasm/include/amphora/engine.h) into this process. Its file is
// opened on a detached read-only clone of its directory's mount, so that nothing that can reach our
// mappings (/proc/1/map_files) can write it.
#pragma once

#include <cstddef>

#include "amphora/engine.h"

namespace amphora::wasm {

/// dlopens `directory`/libamphora-`role`-`name`.so (role: "engine" or "compiler") and asks for its
/// table. Null on failure, with one line in `text`.
const amphora_engine* load_engine(const char* directory, const char* role, const char* name,
                                  char* text, size_t capacity) noexcept;

/// The exit code of a process whose engine call failed with `result` (AMPHORA_ERR_*).
int exit_code_of(int result) noexcept;

}  // namespace amphora::wasm
