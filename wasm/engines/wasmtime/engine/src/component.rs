// SPDX-License-Identifier: Apache-2.0
//! Components: commands of WASI 0.2 and 0.3, exported functions by name, and HTTP handlers (http.rs).

use crate::guest::Guest;
use crate::limits::{Budget, Limits};
use crate::{Prepared, call, fault, http, preopen, wasi};
use amphora_abi::{Failure, Outcome, raw};
use std::ffi::c_int;
use wasmtime::component::{
    Component, ComponentExportIndex, InstancePre, Linker, ResourceTable, Type, Val, types,
};
use wasmtime::{Engine, Store};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
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

/// An exported function, found, and what it is to be called with.
pub struct Call {
    instance: InstancePre<State>,
    function: ComponentExportIndex,
    arguments: Vec<Val>,
    results: usize,
}

pub enum Ready {
    Command(p2::bindings::CommandPre<State>),
    Command3(p3::bindings::CommandPre<State>),
    Http(ProxyPre<State>),
    Call(Call),
}

pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    // With exit-with-code of 0.2.12: guests that know it have exit codes, the others only 0 and 1.
    p2::add_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

const RUN: &str = "wasi:cli/run";
const HANDLER: &str = "wasi:http/incoming-handler";

pub fn load(prepared: &Prepared, component: &Component, guest: &Guest) -> Outcome<Ready> {
    preopen::check(&guest.preopens)?;
    let linked = prepared.components.instantiate_pre(component);
    let instance =
        linked.map_err(|error| Failure::caused(raw::ERR_INVALID, "link the component", &error))?;
    // "wasi:cli/run@0.2.0" is the interface "wasi:cli/run" of some version.
    let entry = guest.entry.as_deref().map(|name| name.split('@').next().unwrap_or(name));
    match entry {
        None | Some("_start") => command(&instance).or_else(|| handler(&instance)).ok_or_else(none),
        Some(RUN) => command(&instance).ok_or_else(none),
        Some(HANDLER) => handler(&instance).ok_or_else(none),
        Some(_) => {
            find_call(component, instance, guest.entry.as_deref().unwrap_or_default(), &guest.args)
        }
    }
}

fn none() -> Failure {
    Failure::not_found(format!("the component exports neither {RUN} nor {HANDLER}"))
}

fn command(instance: &InstancePre<State>) -> Option<Ready> {
    if let Ok(command) = p2::bindings::CommandPre::new(instance.clone()) {
        return Some(Ready::Command(command));
    }
    p3::bindings::CommandPre::new(instance.clone()).ok().map(Ready::Command3)
}

fn handler(instance: &InstancePre<State>) -> Option<Ready> {
    ProxyPre::new(instance.clone()).ok().map(Ready::Http)
}

/// `name`, or `interface#name` for a function of an exported interface.
fn find_call(
    component: &Component,
    instance: InstancePre<State>,
    entry: &str,
    args: &[String],
) -> Outcome<Ready> {
    let (interface, name) = match entry.rsplit_once('#') {
        Some((interface, name)) => (component.get_export_index(None, interface), name),
        None => (None, entry),
    };
    let missing = || Failure::not_found(format!("the component exports no function {entry}"));
    if entry.contains('#') && interface.is_none() {
        return Err(missing());
    }
    let (item, function) = component.get_export(interface.as_ref(), name).ok_or_else(missing)?;
    let types::ComponentItem::ComponentFunc(kind) = item else {
        return Err(Failure::invalid(format!("export {entry} is not a function")));
    };
    let kinds: Vec<(String, Type)> =
        kind.params().map(|(name, kind)| (name.to_owned(), kind)).collect();
    let shape: Vec<String> = kinds
        .iter()
        .map(|(name, kind)| format!("{name}: {}", call::name_of(kind).unwrap_or("?")))
        .collect();
    let shape = format!("export {entry} ({})", shape.join(", "));
    if kinds.iter().any(|(_, kind)| call::name_of(kind).is_none()) {
        let text = "only numbers, booleans, characters and strings can be given";
        return Err(Failure::unsupported(format!("{shape}: {text}")));
    }
    let words = if kinds.is_empty() { &[] } else { call::words(args, kinds.len(), &shape)? };
    let values = words.iter().zip(&kinds).map(|(word, (_, kind))| call::value(word, kind, &shape));
    let arguments = values.collect::<Outcome<Vec<Val>>>()?;
    Ok(Ready::Call(Call { instance, function, arguments, results: kind.results().len() }))
}

/// A store of its own: one for a command, one for each request.
pub fn store(
    engine: &Engine,
    guest: &Guest,
    budget: &Budget,
    files: &WasiFilesystemCtx,
    request: Option<u64>,
) -> Outcome<Store<State>> {
    let mut wasi = wasi::builder(guest);
    if let Some(request) = request {
        wasi.env("REQUEST_ID", request.to_string());
    }
    let mut wasi = wasi.build();
    wasi.filesystem().clone_from(files);
    let state = State {
        wasi,
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
        limits: budget.limits(),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limits);
    wasi::measure(&mut store, guest)?;
    Ok(store)
}

type Ended = wasmtime::Result<Result<(), ()>>;

/// Results on stdout; an `err` on stderr, and exit code 1.
async fn invoke(call: &Call, store: &mut Store<State>, guest: &Guest) -> Ended {
    let instance = call.instance.instantiate_async(&mut *store).await?;
    let function = instance
        .get_func(&mut *store, call.function)
        .ok_or_else(|| wasmtime::format_err!("the export has gone"))?;
    let mut results = vec![Val::Bool(false); call.results];
    function.call_async(&mut *store, &call.arguments, &mut results).await?;
    for value in &results {
        let (fd, value) = match value {
            Val::Result(Ok(value)) => (guest.stdio[1], value.as_deref()),
            Val::Result(Err(value)) => {
                let text = value.as_deref().map(|value| call::show(value) + "\n");
                fault::write_all(guest.stdio[2], text.unwrap_or_default().as_bytes());
                return Ok(Err(()));
            }
            other => (guest.stdio[1], Some(other)),
        };
        let text = value.map(|value| call::show(value) + "\n").unwrap_or_default();
        fault::write_all(fd, text.as_bytes());
    }
    Ok(Ok(()))
}

async fn start(ready: &Ready, store: &mut Store<State>, guest: &Guest) -> Ended {
    match ready {
        Ready::Command(command) => {
            let command = command.instantiate_async(&mut *store).await?;
            command.wasi_cli_run().call_run(&mut *store).await
        }
        Ready::Command3(command) => {
            let command = command.instantiate_async(&mut *store).await?;
            let run = async move |accessor: &_| command.wasi_cli_run().call_run(accessor).await;
            store.run_concurrent(run).await?
        }
        Ready::Call(call) => invoke(call, store, guest).await,
        Ready::Http(_) => Ok(Err(())),
    }
}

pub fn run(prepared: &Prepared, ready: Ready, guest: Guest) -> Outcome<c_int> {
    let budget = Budget::new(guest.memory_limit);
    let files = wasi::files(&guest)?;
    let ready = match ready {
        Ready::Http(handler) => return http::run(handler, guest, budget, files),
        other => other,
    };
    let mut store = store(&prepared.engine, &guest, &budget, &files, None)?;
    match wasi::runtime()?.block_on(start(&ready, &mut store, &guest)) {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        Err(error) if fault::is_trap(&error) || error.is::<I32Exit>() => {
            fault::dump(&error, &mut store, &guest, "");
            fault::verdict(&error, guest.stdio[2], guest.options.backtrace)
        }
        Err(error) => Err(Failure::caused(raw::ERR_SYSTEM, "run the component", &error)),
    }
}
