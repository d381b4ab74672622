// SPDX-License-Identifier: Apache-2.0
//! libamphora-engine-wasmtime.so: runs what the compiler object made, one guest per process. This file
//! is the exported table and the state between prepare, load and run; how modules, components and
//! HTTP handlers are linked and run is in their own files.
//!
//! The process is a clone of a zygote in which only `prepare` ran. So: no thread is started; `prepare`
//! keeps no descriptor, `load` none but a duplicate of the artifact's; and what belongs to one
//! container (random state, descriptors, the tokio runtime) is made in `run`.

mod artifact;
mod component;
mod fault;
mod guest;
mod http;
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
use wasmtime::Engine;

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

static PREPARED: OnceLock<Prepared> = OnceLock::new();
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

fn prepared() -> Outcome<&'static Prepared> {
    if let Some(prepared) = PREPARED.get() {
        return Ok(prepared);
    }
    let made =
        make_prepared().map_err(|e| Failure::caused(raw::ERR_SYSTEM, "start wasmtime", &e))?;
    Ok(PREPARED.get_or_init(|| made))
}

fn make_prepared() -> wasmtime::Result<Prepared> {
    let mut config = config::common();
    artifact::configure(&mut config);
    let engine = Engine::new(&config)?;
    Ok(Prepared {
        modules: module::linker(&engine)?,
        components: component::linker(&engine)?,
        handlers: fault::Handlers::current(),
        engine,
    })
}

unsafe extern "C" fn prepare(options: *const raw::Config, error: *mut raw::Error) -> c_int {
    unsafe {
        guard(error, || {
            error::keep_panics_quiet();
            Options::read(options)?;
            prepared().map(|_| ())
        })
    }
}

unsafe extern "C" fn load(guest: *const raw::Guest, error: *mut raw::Error) -> c_int {
    unsafe {
        guard(error, || {
            let guest = Guest::read(guest)?;
            let prepared = prepared()?;
            let loaded = match artifact::open(&prepared.engine, guest.artifact_fd)? {
                Code::Module(code) => Loaded::Module(module::load(prepared, &code, &guest)?),
                Code::Component(code) => {
                    Loaded::Component(component::load(prepared, &code, &guest)?)
                }
            };
            *LOADED.lock().map_err(|_| Failure::system("the engine broke down earlier"))? =
                Some(loaded);
            Ok(())
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
            let prepared = prepared()?;
            let loaded = LOADED.lock().ok().and_then(|mut slot| slot.take());
            let loaded = loaded.ok_or_else(|| Failure::system("run: nothing is loaded"))?;
            prepared.handlers.restore();
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

unsafe extern "C" fn cache_key(_options: *const raw::Config) -> u64 {
    amphora_abi::key::cache_key()
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
};

#[unsafe(no_mangle)]
pub extern "C" fn amphora_engine_entry() -> *const raw::Engine {
    &TABLE
}
