// SPDX-License-Identifier: Apache-2.0
//! Core modules with WASI preview 1, alone or with libraries (libraries.rs).

use crate::guest::Guest;
use crate::libraries::{self, Library};
use crate::limits::{Budget, Limits};
use crate::{Prepared, call, fault, preopen, wasi};
use amphora_abi::{Failure, Outcome, raw};
use std::ffi::c_int;
use wasmtime::{
    Engine, ExternType, FuncType, Instance, InstancePre, Linker, Module, Store, UnknownImportError,
    Val, ValType,
};
use wasmtime_wasi::{I32Exit, WasiCtx};
use wasmtime_wasi::p1::{self, WasiP1Ctx};

pub struct State {
    wasi: WasiP1Ctx,
    limits: Limits,
}

enum Code {
    Alone(InstancePre<State>),
    Linked(Module, Vec<Library>),
}

pub struct Ready {
    code: Code,
    entry: String,
    /// For an entry with parameters.
    arguments: Vec<Val>,
    gives: Gives,
    /// A reactor (a library, no `_start`) wants this called first.
    initialize: bool,
}

/// What an entry's results are for.
enum Gives {
    Nothing,
    /// One i32 of an entry without parameters.
    ExitCode,
    /// Lines on stdout.
    Values(usize),
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
    ready(module, Code::Alone(instance), guest)
}

/// `parts`: as Code::Linked has them.
pub fn load_linked(
    prepared: &Prepared,
    mut parts: Vec<(String, Module)>,
    guest: &Guest,
) -> Outcome<Ready> {
    preopen::check(&guest.preopens)?;
    let (name, main) = parts.pop().ok_or_else(|| Failure::system("a linked artifact of nothing"))?;
    let state =
        State { wasi: WasiCtx::builder().build_p1(), limits: Budget::new(u64::MAX).limits() };
    let mut nowhere = Store::new(&prepared.engine, state);
    let mut libraries: Vec<Library> = Vec::new();
    for (name, module) in parts {
        libraries::check(&name, &module, &libraries, &prepared.modules, &mut nowhere)?;
        libraries.push(Library::new(name, module));
    }
    libraries::check(&name, &main, &libraries, &prepared.modules, &mut nowhere)?;
    ready(&main, Code::Linked(main.clone(), libraries), guest)
}

fn ready(module: &Module, code: Code, guest: &Guest) -> Outcome<Ready> {
    let entry = guest.entry.clone().unwrap_or_else(|| "_start".to_owned());
    let function = function(module, &entry)?;
    let (arguments, gives) = plan(&function, &entry, guest)?;
    let has = |name| matches!(module.get_export(name), Some(ExternType::Func(_)));
    let initialize = entry != "_initialize" && has("_initialize") && !has("_start");
    Ok(Ready { code, entry, arguments, gives, initialize })
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

fn function(module: &Module, entry: &str) -> Outcome<FuncType> {
    match module.get_export(entry) {
        Some(ExternType::Func(function)) => Ok(function),
        Some(_) => Err(Failure::invalid(format!("export {entry} is not a function"))),
        None => Err(Failure::not_found(format!("the module exports no function {entry}"))),
    }
}

fn plan(function: &FuncType, entry: &str, guest: &Guest) -> Outcome<(Vec<Val>, Gives)> {
    let shape = format!("export {entry} of type {function}");
    let kinds: Vec<ValType> = function.params().collect();
    // A program's own entry is told its arguments by WASI and has none.
    let is_start = guest.entry.is_none();
    let numbers = kinds.iter().all(call::can_core) && function.results().all(|r| call::can_core(&r));
    if !numbers || (is_start && !kinds.is_empty()) {
        return Err(Failure::invalid(format!(
            "{shape}: {}",
            if is_start { "a program's entry takes nothing" } else { "only numbers can be given and shown" }
        )));
    }
    let mut results = function.results();
    let gives = match (kinds.len(), results.next(), results.next()) {
        (_, None, _) => Gives::Nothing,
        (0, Some(ValType::I32), None) => Gives::ExitCode,
        _ => Gives::Values(function.results().len()),
    };
    if kinds.is_empty() {
        return Ok((Vec::new(), gives));
    }
    let words = call::words(&guest.args, kinds.len(), &shape)?;
    let values = words.iter().zip(&kinds).map(|(word, kind)| call::core_value(word, kind, &shape));
    Ok((values.collect::<Outcome<_>>()?, gives))
}

async fn start(
    instance: &Instance,
    store: &mut Store<State>,
    ready: &Ready,
    guest: &Guest,
) -> wasmtime::Result<c_int> {
    if ready.initialize {
        let initialize = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")?;
        initialize.call_async(&mut *store, ()).await?;
    }
    let entry = instance
        .get_func(&mut *store, &ready.entry)
        .ok_or_else(|| wasmtime::format_err!("export {} has gone", ready.entry))?;
    let count = match ready.gives {
        Gives::Nothing => 0,
        Gives::ExitCode => 1,
        Gives::Values(count) => count,
    };
    let mut results = vec![Val::I32(0); count];
    entry.call_async(&mut *store, &ready.arguments, &mut results).await?;
    match (&ready.gives, results.first()) {
        (Gives::ExitCode, Some(Val::I32(code))) => return Ok(*code),
        (Gives::Values(_), _) => {
            let lines: String = results.iter().map(|value| call::show_core(value) + "\n").collect();
            fault::write_all(guest.stdio[1], lines.as_bytes());
        }
        _ => {}
    }
    Ok(0)
}

pub fn run(prepared: &Prepared, ready: Ready, guest: &Guest) -> Outcome<c_int> {
    let mut wasi = wasi::builder(guest);
    preopen::add(&mut wasi, &guest.preopens)?;
    let state = State {
        wasi: wasi.build_p1(),
        limits: Budget::new(guest.memory_limit).limits(),
    };
    let mut store = Store::new(&prepared.engine, state);
    store.limiter(|state| &mut state.limits);
    wasi::measure(&mut store, guest)?;
    let ended = wasi::runtime()?.block_on(async {
        let instance = match &ready.code {
            Code::Alone(alone) => alone.instantiate_async(&mut store).await,
            Code::Linked(main, libraries) => {
                libraries::instantiate(&prepared.modules, &mut store, main, libraries).await
            }
        };
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) if fault::is_trap(&error) => return Ok(Err(error)),
            Err(error) => return Err(Failure::caused(raw::ERR_SYSTEM, "instantiate", &error)),
        };
        Ok(start(&instance, &mut store, &ready, guest).await)
    })?;
    ended.or_else(|error| {
        fault::dump(&error, &mut store, guest, "");
        fault::verdict(&error, guest.stdio[2], guest.options.backtrace)
    })
}
