// SPDX-License-Identifier: Apache-2.0
//! Components: commands of WASI 0.2 and 0.3, and HTTP handlers (http.rs).

use crate::guest::Guest;
use crate::limits::{Budget, Limits};
use crate::{Prepared, fault, http, preopen, wasi};
use amphora_abi::{Failure, Outcome, raw};
use std::ffi::c_int;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView, p2, p3};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    limits: Limits,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: Default::default() }
    }
}

pub enum Ready {
    Command(p2::bindings::CommandPre<State>),
    Command3(p3::bindings::CommandPre<State>),
    Http(ProxyPre<State>),
}

pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    p2::add_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

pub fn load(prepared: &Prepared, component: &Component, guest: &Guest) -> Outcome<Ready> {
    preopen::check(&guest.preopens)?;
    if let Some(entry) = &guest.entry {
        let text = format!("a component has no entry to choose, only modules have: {entry}");
        return Err(Failure::unsupported(text));
    }
    let linked = prepared.components.instantiate_pre(component);
    let instance =
        linked.map_err(|error| Failure::caused(raw::ERR_INVALID, "link the component", &error))?;
    choose(instance, guest.listen_fd >= 0)
}

/// A component that is both a command and a handler is what the host made room for.
fn choose(instance: InstancePre<State>, listening: bool) -> Outcome<Ready> {
    let handler = ProxyPre::new(instance.clone());
    match handler {
        Ok(handler) if listening => return Ok(Ready::Http(handler)),
        _ => {}
    }
    if let Ok(command) = p2::bindings::CommandPre::new(instance.clone()) {
        return Ok(Ready::Command(command));
    }
    if let Ok(command) = p3::bindings::CommandPre::new(instance) {
        return Ok(Ready::Command3(command));
    }
    Err(match handler {
        Ok(_) => Failure::invalid("the component serves HTTP, but no listening socket was given"),
        Err(_) => Failure::not_found(
            "the component exports neither wasi:cli/run nor wasi:http/incoming-handler",
        ),
    })
}

/// A store of its own: one for a command, one for each request.
pub fn store(engine: &Engine, guest: &Guest, budget: &Budget) -> Outcome<Store<State>> {
    let state = State {
        wasi: wasi::builder(guest)?.build(),
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
        limits: budget.limits(),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limits);
    Ok(store)
}

pub fn run(prepared: &Prepared, ready: Ready, guest: Guest) -> Outcome<c_int> {
    let runtime = wasi::runtime()?;
    let budget = Budget::new(guest.memory_limit);
    let stderr = guest.stdio[2];
    let backtrace = guest.options.backtrace;
    let ended = match ready {
        Ready::Http(handler) => return runtime.block_on(http::serve(handler, guest, budget)),
        Ready::Command(command) => {
            let mut store = store(&prepared.engine, &guest, &budget)?;
            runtime.block_on(async {
                let command = command.instantiate_async(&mut store).await?;
                command.wasi_cli_run().call_run(&mut store).await
            })
        }
        Ready::Command3(command) => {
            let mut store = store(&prepared.engine, &guest, &budget)?;
            runtime.block_on(async {
                let command = command.instantiate_async(&mut store).await?;
                let run = async move |accessor: &_| command.wasi_cli_run().call_run(accessor).await;
                store.run_concurrent(run).await?
            })
        }
    };
    match ended {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        Err(error) if fault::is_trap(&error) || error.is::<I32Exit>() => {
            fault::verdict(&error, stderr, backtrace)
        }
        Err(error) => Err(Failure::caused(raw::ERR_SYSTEM, "run the component", &error)),
    }
}
