// SPDX-License-Identifier: Apache-2.0
//! wasmtime's configuration, for both objects: whatever changes the machine code is decided here, so
//! that the runtime takes what the compiler makes. Bump `REVISION` with every change that an artifact
//! could feel: it is part of the cache key.

use wasmtime::Config;

pub const REVISION: u32 = 1;

/// The wasm stack, like a native process's 8 MiB; the fiber has room for the host's frames on top.
/// Only address space until it is used.
const WASM_STACK: usize = 8 << 20;
const FIBER_STACK: usize = WASM_STACK + (512 << 10);

/// No epoch and no fuel: a container's process can always be killed, and checks in every loop cost a
/// third of the speed. No shared memory, since wasmtime has no wasi-threads to use it with.
pub fn common() -> Config {
    let mut config = Config::new();
    config
        // wasm backtraces walk frame pointers; without .eh_frame nothing is registered at load time.
        .native_unwind_info(false)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK);
    config
}
