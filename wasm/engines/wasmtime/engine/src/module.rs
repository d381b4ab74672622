// SPDX-License-Identifier: Apache-2.0
//! Core modules with WASI preview 1.

use crate::guest::Guest;
use crate::limits::{Budget, Limits};
use crate::{Prepared, fault, preopen, wasi};
use amphora_abi::{Failure, Outcome, raw};
use std::ffi::c_int;
use wasmtime::{
    Engine, ExternType, InstancePre, Linker, Module, Store, UnknownImportError, ValType,
};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1::{self, WasiP1Ctx};

pub struct State {
    wasi: WasiP1Ctx,
    limits: Limits,
}

pub struct Ready {
    instance: InstancePre<State>,
    entry: String,
    /// The entry gives an i32, which is then the exit code.
    gives_code: bool,
    /// A reactor (a library, no `_start`) wants this called first.
    initialize: bool,
}

/// The asynchronous functions on a current-thread runtime: the synchronous ones start threads.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |state: &mut State| &mut state.wasi)?;
    // wasmtime's own proc_exit traps on 126 and above; a container's exit codes go to 255, and a
    // program that ends with -1 is no trap.
    linker.allow_shadowing(true);
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "proc_exit",
        |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code & 0xff).into()) },
    )?;
    linker.allow_shadowing(false);
    Ok(linker)
}

pub fn load(prepared: &Prepared, module: &Module, guest: &Guest) -> Outcome<Ready> {
    preopen::check(&guest.preopens)?;
    let instance =
        prepared.modules.instantiate_pre(module).map_err(|error| link_failure(&error))?;
    let entry = guest.entry.clone().unwrap_or_else(|| "_start".to_owned());
    let gives_code = signature(module, &entry)?;
    let has = |name| matches!(module.get_export(name), Some(ExternType::Func(_)));
    let initialize = entry != "_initialize" && has("_initialize") && !has("_start");
    Ok(Ready { instance, entry, gives_code, initialize })
}

fn link_failure(error: &wasmtime::Error) -> Failure {
    match error.downcast_ref::<UnknownImportError>() {
        Some(unknown) => Failure::invalid(format!(
            "unknown import: {}::{}; this engine offers wasi_snapshot_preview1 to modules",
            unknown.module(),
            unknown.name()
        )),
        None => Failure::caused(raw::ERR_INVALID, "link", error),
    }
}

/// Whether the exported function gives an exit code.
fn signature(module: &Module, entry: &str) -> Outcome<bool> {
    let export = module.get_export(entry);
    let Some(ExternType::Func(function)) = export else {
        return Err(match export {
            Some(_) => Failure::invalid(format!("export {entry} is not a function")),
            None => Failure::not_found(format!("the module exports no function {entry}")),
        });
    };
    let mut results = function.results();
    match (function.params().len(), results.next(), results.next()) {
        (0, None, None) => Ok(false),
        (0, Some(ValType::I32), None) => Ok(true),
        _ => Err(Failure::invalid(format!(
            "export {entry} has type {function}; an entry takes nothing and gives nothing or an i32"
        ))),
    }
}

pub fn run(prepared: &Prepared, ready: Ready, guest: &Guest) -> Outcome<c_int> {
    let state = State {
        wasi: wasi::builder(guest)?.build_p1(),
        limits: Budget::new(guest.memory_limit).limits(),
    };
    let mut store = Store::new(&prepared.engine, state);
    store.limiter(|state| &mut state.limits);
    wasi::runtime()?.block_on(async {
        let instance = ready.instance.instantiate_async(&mut store).await;
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) if fault::is_trap(&error) => return verdict(&error, guest),
            Err(error) => return Err(Failure::caused(raw::ERR_SYSTEM, "instantiate", &error)),
        };
        let called = async {
            if ready.initialize {
                let initialize = instance.get_typed_func::<(), ()>(&mut store, "_initialize")?;
                initialize.call_async(&mut store, ()).await?;
            }
            if ready.gives_code {
                let entry = instance.get_typed_func::<(), i32>(&mut store, &ready.entry)?;
                entry.call_async(&mut store, ()).await
            } else {
                let entry = instance.get_typed_func::<(), ()>(&mut store, &ready.entry)?;
                entry.call_async(&mut store, ()).await.map(|()| 0)
            }
        };
        let called: wasmtime::Result<c_int> = called.await;
        called.or_else(|error| verdict(&error, guest))
    })
}

fn verdict(error: &wasmtime::Error, guest: &Guest) -> Outcome<c_int> {
    fault::verdict(error, guest.stdio[2], guest.options.backtrace)
}
