// SPDX-License-Identifier: Apache-2.0
//! The engine with nothing of ours around it: what `./dev bench` holds containers against. `amphora-bare run
//! ARTIFACT` runs a module's `_start` to its end; `amphora-bare serve ARTIFACT ADDRESS` answers HTTP/1.1 by a
//! wasi:http component, an instance from a pool for each request. Artifacts are those of the cache, so that
//! both sides run the same machine code.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker as ComponentLinker, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Linker, Module, PoolingAllocationConfig, Result,
    Store,
};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// What an artifact has to agree with.
fn config() -> Config {
    amphora_abi::config::build(&amphora_abi::options::Options::default())
}

async fn run(path: &str) -> Result<()> {
    let engine = Engine::new(&config())?;
    let mut linker = Linker::<WasiP1Ctx>::new(&engine);
    p1::add_to_linker_async(&mut linker, |wasi| wasi)?;
    // SAFETY: from our own cache.
    let module = unsafe { Module::deserialize_file(&engine, path) }?;
    let wasi = WasiCtx::builder().inherit_stdio().build_p1();
    let mut store = Store::new(&engine, wasi);
    let instance = linker.instantiate_async(&mut store, &module).await?;
    instance.get_typed_func::<(), ()>(&mut store, "_start")?.call_async(&mut store, ()).await
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
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

type Answer = Response<HyperOutgoingBody>;

async fn answer(handler: Arc<ProxyPre<State>>, request: Request<Incoming>) -> Result<Answer> {
    let state = State {
        wasi: WasiCtx::builder().inherit_stdio().build(),
        http: WasiHttpCtx::new(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(handler.engine(), state);
    let (sender, receiver) = oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let task = tokio::spawn(async move {
        let proxy = handler.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
    });
    match receiver.await {
        Ok(response) => Ok(response?),
        Err(_) => {
            task.await??;
            Err(wasmtime::format_err!("no response"))
        }
    }
}

async fn connection(handler: Arc<ProxyPre<State>>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(handler.clone(), request));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve(path: &str, address: &str) -> Result<()> {
    let mut config = config();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(320)
        .total_core_instances(2048)
        .total_memories(640)
        .total_tables(1280)
        .total_stacks(640);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    let mut linker = ComponentLinker::<State>::new(&engine);
    p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    // SAFETY: from our own cache.
    let component = unsafe { Component::deserialize_file(&engine, path) }?;
    let handler = Arc::new(ProxyPre::new(linker.instantiate_pre(&component)?)?);
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(handler.clone(), stream));
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [_, "run", path] => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(path))
        }
        [_, "serve", path, address] => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(serve(path, address))
        }
        _ => Err(wasmtime::format_err!("usage: amphora-bare run ARTIFACT | serve ARTIFACT ADDRESS")),
    }
}
