// SPDX-License-Identifier: Apache-2.0
//! wasmtime's configuration, for both objects: whatever changes the machine code is decided here, so
//! that the runtime takes what the compiler makes. Bump `REVISION` with every change that an artifact
//! could feel: it is part of the cache key.

use crate::options::{FEATURES, Options};
use wasmtime::Config;

pub const REVISION: u32 = 2;

/// A fiber has room for the host's frames on top of the wasm stack. Only address space until it is used.
const HOST_STACK: usize = 512 << 10;

/// Without options no epoch and no fuel: a container's process can always be killed, and checks in every
/// loop cost a third of the speed. No shared memory, since wasmtime has no wasi-threads to use it with.
pub fn build(options: &Options) -> Config {
    let mut config = Config::new();
    config
        // wasm backtraces walk frame pointers; without .eh_frame nothing is registered at load time.
        .native_unwind_info(false)
        .max_wasm_stack(options.stack)
        .async_stack_size(options.stack + HOST_STACK)
        .consume_fuel(options.code.fuel)
        .epoch_interruption(options.code.tick)
        .coredump_on_trap(options.coredump.is_some());
    for (feature, on) in &options.code.features {
        FEATURES[*feature].1(&mut config, *on);
    }
    config
}
