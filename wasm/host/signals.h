// SPDX-License-Identifier: Apache-2.0
// Signals of a process that runs a guest: as PID 1 of a pid namespace default actions do not apply
// (pid_namespaces(7)), so what would end an ordinary process is made to end this one, however busy the
// guest is.
#pragma once

#include "amphora/engine.h"

namespace amphora::wasm {

/// Installs the handlers; just before the starter hears that the guest runs. Signals for which the engine has handlers of its
/// own (it finds traps by SIGSEGV) stay the engine's.
void install_signal_handlers(const amphora_engine& engine) noexcept;

}  // namespace amphora::wasm
