// SPDX-License-Identifier: Apache-2.0
//! What a guest is given through WASI, the same for modules and components.

use crate::guest::Guest;
use crate::{preopen, stdio};
use amphora_abi::{Failure, Outcome, raw};
use std::time::Duration;
use wasmtime::{Engine, Store};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

fn empty() -> WasiCtxBuilder {
    let mut builder = WasiCtx::builder();
    // Blocking the one thread there is blocks only the guest, and keeps tokio from starting others.
    builder.allow_blocking_current_thread(true);
    builder
}

/// The guest's directories, opened once and shared by all its instances: a copy is a few counters.
pub fn files(guest: &Guest) -> Outcome<WasiFilesystemCtx> {
    let mut builder = empty();
    preopen::add(&mut builder, &guest.preopens)?;
    Ok(builder.build().filesystem().clone())
}

/// All but the files.
pub fn builder(guest: &Guest) -> WasiCtxBuilder {
    let mut builder = empty();
    builder.args(&guest.args).envs(&guest.env);
    let [stdin, stdout, stderr] = guest.stdio;
    if stdin >= 0 {
        builder.stdin(stdio::Input::new(stdin));
    }
    if stdout >= 0 {
        builder.stdout(stdio::Output::new(stdout));
    }
    if stderr >= 0 {
        builder.stderr(stdio::Output::new(stderr));
    }
    // The container's network namespace is the policy.
    builder.inherit_network().allow_ip_name_lookup(true).allow_tcp(true).allow_udp(true);
    // The host names the working directory first; preview 1 has no other way to say it, 0.2 has.
    if let Some(first) = guest.preopens.first().filter(|first| first.name.starts_with('/')) {
        builder.initial_cwd(&first.name);
    }
    builder
}

/// One thread: this one. Made in `run`, since it holds descriptors.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(|error| Failure::io("start the event loop", &error))
}

/// Options `fuel` and `tick` of a new store.
pub fn measure<T: 'static>(store: &mut Store<T>, guest: &Guest) -> Outcome<()> {
    if let Some(fuel) = guest.options.fuel {
        let set = store.set_fuel(fuel);
        set.map_err(|error| Failure::caused(raw::ERR_SYSTEM, "give the guest its fuel", &error))?;
    }
    if guest.options.tick.is_some() {
        store.epoch_deadline_async_yield_and_update(1);
    }
    Ok(())
}

/// With option `tick` a thread of its own says when a busy guest has to let others have its thread.
pub fn start_ticking(engine: &Engine, tick: Option<Duration>) -> Outcome<()> {
    let Some(tick) = tick else { return Ok(()) };
    let engine = engine.clone();
    let clock = move || {
        loop {
            std::thread::sleep(tick);
            engine.increment_epoch();
        }
    };
    let started = std::thread::Builder::new().stack_size(64 << 10).spawn(clock);
    started.map(drop).map_err(|error| Failure::io("start the thread that ticks", &error))
}
