// SPDX-License-Identifier: Apache-2.0
//! wasi:http/incoming-handler: HTTP/1.1 and HTTP/2 without TLS on the listening socket the host gives,
//! a fresh instance for every request, a thread for every CPU. A request ends in an error status and the
//! guest's stderr says why; only the socket itself failing ends the server.

use crate::artifact::duplicate;
use crate::component::{self, State};
use crate::guest::Guest;
use crate::limits::Budget;
use crate::{fault, wasi};
use amphora_abi::{Failure, Outcome};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::convert::Infallible;
use std::ffi::c_int;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot, watch};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// More wait in the socket's backlog.
const CONNECTIONS: usize = 1024;
/// What begins an HTTP/2 connection whose client knows in advance that we speak it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// For a request's head, and for the next request of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Whether the client of an HTTP/2 connection is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
const STREAMS: u32 = 200;
/// A descriptor or memory shortage passes when a connection ends; until then accept is not retried
/// at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_THREADS: usize = 16;

/// An eventfd while a server runs, else -1.
static DRAIN: AtomicI32 = AtomicI32::new(-1);

/// The signal that asked the server to end.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// Called in a signal handler. A server stops accepting and ends when its requests have ended; any
/// other guest knows nothing of signals, so that the process ends as the signal alone would end it.
pub extern "C" fn interrupt(signal: c_int) {
    let drain = DRAIN.load(SeqCst);
    // SAFETY: write and _exit are async-signal-safe.
    unsafe {
        if drain < 0 {
            libc::_exit(128 + signal);
        }
        ASKED.store(signal, SeqCst);
        let one = 1u64;
        libc::write(drain, (&raw const one).cast(), size_of::<u64>());
    }
}

struct Server {
    handler: ProxyPre<State>,
    guest: Guest,
    budget: Budget,
    files: WasiFilesystemCtx,
    connections: Semaphore,
    instances: Arc<Semaphore>,
    requests: AtomicU64,
}

enum First<A, B> {
    A(A),
    B(B),
}

/// Whichever is ready first; the other is dropped.
async fn first<A: Future, B: Future>(a: A, b: B) -> First<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|context| {
        if let Poll::Ready(value) = a.as_mut().poll(context) {
            return Poll::Ready(First::A(value));
        }
        b.as_mut().poll(context).map(First::B)
    })
    .await
}

/// One thread where there is one CPU, or where no other can be had (RLIMIT_NPROC, the cgroup's pids.max).
fn runtime(wanted: usize) -> Outcome<Runtime> {
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let threads = if wanted == 0 { cpus.min(MAX_THREADS) } else { wanted };
    // tokio panics when it gets no thread.
    let can = |_| std::thread::Builder::new().spawn(|| ()).is_ok_and(|thread| thread.join().is_ok());
    if threads < 2 || !(0..threads).all(can) {
        return wasi::runtime();
    }
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.map_err(|error| Failure::io("start the event loop", &error))
}

pub fn run(
    handler: ProxyPre<State>,
    guest: Guest,
    budget: Budget,
    files: WasiFilesystemCtx,
) -> Outcome<c_int> {
    let runtime = runtime(guest.options.http.threads)?;
    let code = runtime.block_on(serve(handler, guest, budget, files));
    // A request that would not end does not hold up the end.
    runtime.shutdown_background();
    code
}

async fn serve(
    handler: ProxyPre<State>,
    guest: Guest,
    budget: Budget,
    files: WasiFilesystemCtx,
) -> Outcome<c_int> {
    let fail = |error: io::Error| Failure::io("serve HTTP", &error);
    let listener = listener(guest.listen_fd).map_err(fail)?;
    let drain = eventfd().map_err(fail)?;
    let time = guest.options.http.drain;
    let server = Arc::new(Server {
        handler,
        budget,
        files,
        connections: Semaphore::new(CONNECTIONS),
        instances: Arc::new(Semaphore::new(guest.options.http.instances as usize)),
        requests: AtomicU64::new(0),
        guest,
    });
    let (stop, stopping) = watch::channel(false);
    loop {
        match first(drain.readable(), accept(&server, &listener)).await {
            First::A(_) => break,
            First::B(Ok(stream)) => {
                tokio::spawn(connection(server.clone(), stream, stopping.clone()));
            }
            First::B(Err(_)) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    let _ = stop.send(true);
    drop(stopping);
    match tokio::time::timeout(time, stop.closed()).await {
        Ok(()) => Ok(0),
        Err(_) => {
            let text = format!("amphora-wasm: requests still run after {} s\n", time.as_secs());
            fault::write_all(server.guest.stdio[2], text.as_bytes());
            Ok(128 + ASKED.load(SeqCst))
        }
    }
}

async fn accept(server: &Server, listener: &TcpListener) -> io::Result<TcpStream> {
    let _free = server.connections.acquire().await.map_err(io::Error::other)?;
    Ok(listener.accept().await?.0)
}

/// Of a duplicate: tokio closes what it is given, and the host's stays the host's.
fn listener(fd: RawFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(duplicate(fd)?);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn eventfd() -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: a new descriptor, without another owner.
    let owned = unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: it owns the descriptor.
    let watched = unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }?;
    DRAIN.store(watched.as_raw_fd(), SeqCst);
    Ok(watched)
}

/// Ends when the client does, or after the running requests when the server drains.
async fn connection(server: Arc<Server>, stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let Ok(_counted) = server.connections.acquire().await else { return };
    let _ = stream.set_nodelay(true);
    let http2 = match first(speaks_http2(&stream), stopping.wait_for(|stop| *stop)).await {
        First::A(http2) => http2,
        First::B(_) => return,
    };
    let service = service_fn(|request| answer(server.clone(), request));
    let io = TokioIo::new(stream);
    if http2 {
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .max_concurrent_streams(STREAMS)
            .serve_connection(io, service);
        let mut served = pin!(served);
        drive(served.as_mut(), &mut stopping, |served| served.graceful_shutdown()).await;
    } else {
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(io, service);
        let mut served = pin!(served);
        drive(served.as_mut(), &mut stopping, |served| served.graceful_shutdown()).await;
    }
}

async fn drive<C: Future>(
    mut served: Pin<&mut C>,
    stopping: &mut watch::Receiver<bool>,
    drain: impl FnOnce(Pin<&mut C>),
) {
    if let First::A(_) = first(served.as_mut(), stopping.wait_for(|stop| *stop)).await {
        return;
    }
    drain(served.as_mut());
    served.await;
}

async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut head = [0; HTTP2_PREFACE.len()];
    let look = async {
        loop {
            match stream.peek(&mut head).await {
                Ok(n) if n > 0 && head[..n] == HTTP2_PREFACE[..n] => {
                    if n == head.len() {
                        return true;
                    }
                    // peek does not wait for more than there is.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                _ => return false,
            }
        }
    };
    tokio::time::timeout(HEADER_TIMEOUT, look).await.unwrap_or(false)
}

/// What a client is told when the guest gives no answer, and what the guest's stderr is told.
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }
    fn broken(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

async fn answer(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<HyperOutgoingBody>, Infallible> {
    let stderr = server.guest.stdio[2];
    let number = server.requests.fetch_add(1, Relaxed);
    match in_time(server, request, number).await {
        Ok(response) => Ok(response),
        Err(refusal) => {
            if !refusal.text.is_empty() {
                let line = format!("amphora-wasm: request {number}: {}\n", refusal.text);
                fault::write_all(stderr, line.as_bytes());
            }
            let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
            let mut response = Response::new(body);
            *response.status_mut() = refusal.status;
            Ok(response)
        }
    }
}

async fn in_time(
    server: Arc<Server>,
    request: Request<Incoming>,
    number: u64,
) -> Result<Response<HyperOutgoingBody>, Refusal> {
    let Some(time) = server.guest.options.http.timeout else {
        return handle(server, request, number).await;
    };
    tokio::time::timeout(time, handle(server, request, number)).await.unwrap_or_else(|_| {
        let text = format!("no response within {} s", time.as_secs());
        Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, text))
    })
}

/// Ends its task when it is dropped, unless it was let go.
struct Task<T>(Option<tokio::task::JoinHandle<T>>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// The guest goes on after it gave its response: the body streams from its own task.
async fn handle(
    server: Arc<Server>,
    request: Request<Incoming>,
    number: u64,
) -> Result<Response<HyperOutgoingBody>, Refusal> {
    let broken = |error: wasmtime::Error| Refusal::broken(fault::reason(&error));
    let place = server.instances.clone().acquire_owned().await;
    let place = place.map_err(|error| Refusal::broken(error.to_string()))?;
    let engine = server.handler.engine();
    let mut store =
        component::store(engine, &server.guest, &server.budget, &server.files, Some(number))
            .map_err(|failure| Refusal::broken(failure.text))?;
    let (sender, receiver) = oneshot::channel();
    // A request that is none to the guest: HTTP/1.0 without a host.
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request);
    let request = request
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, fault::reason(&error)))?;
    let out = store.data_mut().http().new_response_outparam(sender).map_err(broken)?;
    let running = server.clone();
    let task = tokio::spawn(async move {
        let _place = place;
        let called = async {
            let proxy = running.handler.instantiate_async(&mut store).await?;
            proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
        };
        let called: wasmtime::Result<()> = called.await;
        if let Err(error) = &called {
            fault::dump(error, &mut store, &running.guest, &format!(".{number}"));
            if fault::is_trap(error) {
                fault::tell(error, running.guest.stdio[2], running.guest.options.backtrace);
                return Err(String::new());
            }
        }
        called.map_err(|error| fault::reason(&error))
    });
    let mut task = Task(Some(task));
    match receiver.await {
        Ok(Ok(response)) => {
            drop(task.0.take());
            Ok(response)
        }
        Ok(Err(code)) => Err(Refusal::broken(format!("the guest answered with an error: {code:?}"))),
        Err(_) => match task.0.take().ok_or_else(|| Refusal::broken("no task"))?.await {
            Ok(Ok(())) => Err(Refusal::broken("the guest ended without a response")),
            Ok(Err(text)) => Err(Refusal::broken(text)),
            Err(error) => Err(Refusal::broken(error.to_string())),
        },
    }
}
