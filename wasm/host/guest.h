// SPDX-License-Identifier: Apache-2.0
// One guest in its own process: from the frozen plan to the guest's exit code.
#pragma once

#include "amphora/engine.h"
#include "executor/init/init.h"
#include "wasm/host/libc_clone.h"

namespace amphora::wasm {

/// Walks the plan (its first kHandOver carries the Handover), loads the guest, lets the walk go on to
/// ready and start, runs the guest and ends the process.
/// SAFETY: called in a fresh clone of the single-threaded zygote, whose libc is whole.
[[noreturn]] void run_guest(const amphora_engine& engine, const init::View& view,
                            const LibcThread& thread, int status_fd) noexcept;

}  // namespace amphora::wasm
