// SPDX-License-Identifier: Apache-2.0
//! wasi:http/incoming-handler: HTTP/1.1 and HTTP/2 without TLS on the listening socket the host gives,
//! a fresh instance for every request. A request ends in an error status and the guest's stderr says
//! why; only the socket itself failing ends the server.

use crate::artifact::duplicate;
use crate::component::{self, State};
use crate::fault;
use crate::guest::Guest;
use crate::limits::Budget;
use amphora_abi::{Failure, Outcome};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use std::convert::Infallible;
use std::ffi::c_int;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// More wait in the socket's backlog.
const CONNECTIONS: usize = 1024;
/// What begins an HTTP/2 connection whose client knows in advance that we speak it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A descriptor or memory shortage passes when a connection ends; until then accept is not retried
/// at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An eventfd while a server runs, else -1.
static DRAIN: AtomicI32 = AtomicI32::new(-1);

/// Called in a signal handler. A server stops accepting and ends when its requests have ended; any
/// other guest knows nothing of signals, so that the process ends as the signal alone would end it.
pub extern "C" fn interrupt(signal: c_int) {
    let drain = DRAIN.load(SeqCst);
    // SAFETY: write and _exit are async-signal-safe.
    unsafe {
        if drain < 0 {
            libc::_exit(128 + signal);
        }
        let one = 1u64;
        libc::write(drain, (&raw const one).cast(), size_of::<u64>());
    }
}

struct Server {
    handler: ProxyPre<State>,
    guest: Guest,
    budget: Budget,
    connections: Semaphore,
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

/// Tasks of one thread; hyper's HTTP/2 wants to be told how to start them.
#[derive(Clone)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

pub async fn serve(handler: ProxyPre<State>, guest: Guest, budget: Budget) -> Outcome<c_int> {
    let fail = |error: io::Error| Failure::io("serve HTTP", &error);
    let listener = listener(guest.listen_fd).map_err(fail)?;
    let drain = eventfd().map_err(fail)?;
    let connections = Semaphore::new(CONNECTIONS);
    let server = Arc::new(Server { handler, guest, budget, connections });
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
    stop.closed().await;
    Ok(0)
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
        let served = hyper::server::conn::http2::Builder::new(Spawn).serve_connection(io, service);
        let mut served = pin!(served);
        drive(served.as_mut(), &mut stopping, |served| served.graceful_shutdown()).await;
    } else {
        let served = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
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

async fn answer(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<HyperOutgoingBody>, Infallible> {
    let stderr = server.guest.stdio[2];
    match handle(server, request).await {
        Ok(response) => Ok(response),
        Err(text) => {
            fault::write_all(stderr, format!("amphora-wasm: {text}\n").as_bytes());
            let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(response)
        }
    }
}

/// The guest goes on after it gave its response: the body streams from its own task.
async fn handle(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<HyperOutgoingBody>, String> {
    let text = |error: wasmtime::Error| fault::reason(&error);
    let engine = server.handler.engine();
    let mut store =
        component::store(engine, &server.guest, &server.budget).map_err(|failure| failure.text)?;
    let (sender, receiver) = oneshot::channel();
    let request =
        store.data_mut().http().new_incoming_request(Scheme::Http, request).map_err(text)?;
    let out = store.data_mut().http().new_response_outparam(sender).map_err(text)?;
    let running = server.clone();
    let task = tokio::spawn(async move {
        let proxy = running.handler.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
    });
    match receiver.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(code)) => Err(format!("the guest answered with an error: {code:?}")),
        Err(_) => match task.await {
            Ok(Ok(())) => Err("the guest ended without a response".into()),
            Ok(Err(error)) => Err(fault::reason(&error)),
            Err(error) => Err(format!("request: {error}")),
        },
    }
}
