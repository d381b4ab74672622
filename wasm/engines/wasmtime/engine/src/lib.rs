// SPDX-License-Identifier: Apache-2.0
//! libamphora-engine-wasmtime.so: runs what the compiler object made, one guest per process. This file
//! is the exported table and the state between prepare, load and run; how modules, components and
//! HTTP handlers are linked and run is in their own files.
//!
//! The process is a clone of a zygote in which only `prepare` ran. So: no thread is started; `prepare`
//! keeps no descriptor, `load` none but a duplicate of the artifact's; and what belongs to one
//! container (random state, descriptors, the tokio runtime, an HTTP server's threads) is made in `run`.

mod artifact;
mod call;
mod component;
mod fault;
mod guest;
mod http;
mod libraries;
mod limits;
mod module;
mod preopen;
mod stdio;
mod wasi;

use amphora_abi::{
    ENGINE_NAME, Failure, Options, Outcome, WASMTIME_VERSION, config, error, guard, raw,
};
use artifact::Code;
use guest::Guest;
use std::ffi::c_int;
use std::sync::{Mutex, OnceLock};
use wasmtime::{Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Plain memory, shared with all clones by copy-on-write.
struct Prepared {
    engine: Engine,
    modules: wasmtime::Linker<module::State>,
    components: wasmtime::component::Linker<component::State>,
    handlers: fault::Handlers,
}

enum Loaded {
    Module(module::Ready),
    Component(component::Ready),
}

/// For containers without options that wasmtime wants to know when it starts.
static PREPARED: OnceLock<Prepared> = OnceLock::new();
static LOADED: Mutex<Option<(&'static Prepared, Loaded)>> = Mutex::new(None);

/// Where the memory of a server's instances comes from.
#[derive(Clone, Copy)]
enum Memory {
    OnDemand,
    /// Kept and used again, for that many instances.
    Pool(u32),
}

fn prepare_for(options: &Options, memory: Memory) -> Outcome<&'static Prepared> {
    let make = || {
        make_prepared(options, memory).map_err(|e| Failure::caused(raw::ERR_SYSTEM, "start wasmtime", &e))
    };
    if options.is_plain() && matches!(memory, Memory::OnDemand) {
        if let Some(prepared) = PREPARED.get() {
            return Ok(prepared);
        }
        let made = make()?;
        return Ok(PREPARED.get_or_init(|| made));
    }
    // One guest, to the end of the process.
    Ok(Box::leak(Box::new(make()?)))
}

fn make_prepared(options: &Options, memory: Memory) -> wasmtime::Result<Prepared> {
    let mut config = config::build(options);
    artifact::configure(&mut config);
    if let Memory::Pool(instances) = memory {
        config.allocation_strategy(pool(instances));
    }
    let engine = Engine::new(&config)?;
    Ok(Prepared {
        modules: module::linker(&engine)?,
        components: component::linker(&engine)?,
        handlers: fault::Handlers::current(),
        engine,
    })
}

/// A component has a few core instances, mostly one memory and one table.
fn pool(instances: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    // A place is given back a moment before its instance has gone.
    let instances = instances.saturating_add(64);
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .total_stacks(instances.saturating_mul(2));
    InstanceAllocationStrategy::Pooling(pool)
}

unsafe extern "C" fn prepare(options: *const raw::Config, error: *mut raw::Error) -> c_int {
    unsafe {
        guard(error, || {
            error::keep_panics_quiet();
            prepare_for(&Options::read(options)?, Memory::OnDemand).map(|_| ())
        })
    }
}

fn load_guest(guest: &Guest, listen: &dyn Fn() -> Outcome<()>) -> Outcome<()> {
    let mut prepared = prepare_for(&guest.options, Memory::OnDemand)?;
    let loaded = match artifact::open(&prepared.engine, guest.artifact_fd)? {
        Code::Module(code) => Loaded::Module(module::load(prepared, &code, guest)?),
        Code::Linked(parts) => Loaded::Module(module::load_linked(prepared, parts, guest)?),
        Code::Component(code) => {
            let mut ready = component::load(prepared, &code, guest)?;
            if matches!(ready, component::Ready::Http(_)) {
                listen()?;
                if let Some((pooled, again)) = in_a_pool(guest) {
                    (prepared, ready) = (pooled, again);
                }
            }
            Loaded::Component(ready)
        }
    };
    *LOADED.lock().map_err(|_| Failure::system("the engine broke down earlier"))? =
        Some((prepared, loaded));
    Ok(())
}

/// Each request gets an instance of its own; from a pool it costs half. A component that is too large
/// for the pool's defaults, or a process without the address space, does without.
fn in_a_pool(guest: &Guest) -> Option<(&'static Prepared, component::Ready)> {
    let prepared = prepare_for(&guest.options, Memory::Pool(guest.options.http.instances)).ok()?;
    match artifact::open(&prepared.engine, guest.artifact_fd).ok()? {
        Code::Component(code) => Some((prepared, component::load(prepared, &code, guest).ok()?)),
        Code::Module(_) | Code::Linked(_) => None,
    }
}

unsafe extern "C" fn load(guest: *const raw::Guest, error: *mut raw::Error) -> c_int {
    unsafe {
        guard(error, || {
            let copy = Guest::read(guest)?;
            load_guest(&copy, &|| guest::listen(guest))
        })
    }
}

unsafe extern "C" fn run(
    guest: *const raw::Guest,
    exit_code: *mut c_int,
    error: *mut raw::Error,
) -> c_int {
    unsafe {
        guard(error, || {
            let guest = Guest::read(guest)?;
            let loaded = LOADED.lock().ok().and_then(|mut slot| slot.take());
            let (prepared, loaded) =
                loaded.ok_or_else(|| Failure::system("run: nothing is loaded"))?;
            prepared.handlers.restore();
            wasi::start_ticking(&prepared.engine, guest.options.tick)?;
            let code = match loaded {
                Loaded::Module(ready) => module::run(prepared, ready, &guest),
                Loaded::Component(ready) => component::run(prepared, ready, guest),
            }?;
            *exit_code = code;
            Ok(())
        })
    }
}

extern "C" fn capabilities() -> u32 {
    raw::CAP_MODULES | raw::CAP_COMPONENTS | raw::CAP_HTTP | raw::CAP_SOCKETS
}

unsafe extern "C" fn cache_key(options: *const raw::Config) -> u64 {
    let code = unsafe { Options::read(options) }.map(|options| options.code);
    amphora_abi::key::cache_key(&code.unwrap_or_default())
}

static TABLE: raw::Engine = raw::Engine {
    size: size_of::<raw::Engine>(),
    abi_version: raw::ABI,
    name: ENGINE_NAME.as_ptr(),
    version: WASMTIME_VERSION.as_ptr(),
    capabilities,
    layer_types: None,
    prepare,
    compile: None,
    check: None,
    load,
    run,
    cache_key,
    interrupt: Some(http::interrupt),
    link: None,
};

#[unsafe(no_mangle)]
pub extern "C" fn amphora_engine_entry() -> *const raw::Engine {
    &TABLE
}
