// SPDX-License-Identifier: Apache-2.0
//! What a guest is given through WASI, the same for modules and components.

use crate::guest::Guest;
use crate::{preopen, stdio};
use amphora_abi::{Failure, Outcome};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

pub fn builder(guest: &Guest) -> Outcome<WasiCtxBuilder> {
    let mut builder = WasiCtx::builder();
    // Blocking the one thread there is blocks only the guest, and keeps tokio from starting others.
    builder.allow_blocking_current_thread(true);
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
    preopen::add(&mut builder, &guest.preopens)?;
    Ok(builder)
}

/// One thread: this one. Made in `run`, since it holds descriptors.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(|error| Failure::io("start the event loop", &error))
}
