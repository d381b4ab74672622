// SPDX-License-Identifier: Apache-2.0
//! stdin, stdout and stderr by descriptor, whatever it is: file, FIFO, tty, socket, /dev/null. The
//! descriptors are the host's and stay open for the life of the process. O_NONBLOCK is never set: the
//! open file may be shared with other processes. Instead a read waits until poll(2) says that it will
//! not block, so that a guest can wait for stdin and a timer at once, and writes block, as they do for
//! a native process.

use bytes::Bytes;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bounds what one call of a guest makes us allocate.
const CHUNK: usize = 64 << 10;

struct Borrowed(RawFd);

impl AsRawFd for Borrowed {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: asks only.
    unsafe { libc::isatty(fd) == 1 }
}

/// Waits for the events, at most `timeout` milliseconds (-1: for ever). Errors and hang-ups count as
/// ready: the read or write that follows then tells.
fn poll(fd: RawFd, events: i16, timeout: c_int) -> bool {
    let mut one = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one struct, valid for the call.
    unsafe { libc::poll(&mut one, 1, timeout) != 0 }
}

fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    let n = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn write_all(fd: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for its length.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if let Ok(n) = usize::try_from(n) {
            bytes = &bytes[n..];
            continue;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            // Somebody else made the open file non-blocking.
            io::ErrorKind::WouldBlock => {
                poll(fd, libc::POLLOUT, -1);
            }
            _ => return Err(error),
        }
    }
    Ok(())
}

fn stream_error(error: io::Error) -> StreamError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => StreamError::Closed,
        _ => StreamError::LastOperationFailed(error.into()),
    }
}

struct Source {
    fd: RawFd,
    /// Made when a read has to wait for the first time; none for what epoll does not take.
    watch: OnceLock<Option<AsyncFd<Borrowed>>>,
}

impl Source {
    fn readable(&self) -> bool {
        poll(self.fd, libc::POLLIN, 0)
    }
    fn watch(&self) -> Option<&AsyncFd<Borrowed>> {
        let make = || {
            // SAFETY: the host keeps the guest's stdin open until the process ends.
            unsafe { AsyncFd::register_with_interest(Borrowed(self.fd), Interest::READABLE) }.ok()
        };
        self.watch.get_or_init(make).as_ref()
    }
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.readable() {
                return Poll::Ready(());
            }
            let Some(watch) = self.watch() else {
                poll(self.fd, libc::POLLIN, -1);
                continue;
            };
            match ready!(watch.poll_read_ready(context)) {
                // Readiness is remembered from an earlier edge: look again before trusting it.
                Ok(mut guard) if !self.readable() => guard.clear_ready(),
                _ => return Poll::Ready(()),
            }
        }
    }
}

#[derive(Clone)]
pub struct Input(Arc<Source>);

impl Input {
    pub fn new(fd: RawFd) -> Input {
        Input(Arc::new(Source { fd, watch: OnceLock::new() }))
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        is_terminal(self.0.fd)
    }
}

impl StdinStream for Input {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| self.0.poll_readable(context)).await
    }
}

#[async_trait::async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 || !self.0.readable() {
            return Ok(Bytes::new());
        }
        let mut buffer = vec![0; size.min(CHUNK)];
        match read(self.0.fd, &mut buffer) {
            Ok(0) => Err(StreamError::Closed),
            Ok(n) => {
                buffer.truncate(n);
                Ok(buffer.into())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(Bytes::new()),
                _ => Err(stream_error(error)),
            },
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_readable(context));
            match read(self.0.fd, buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

#[derive(Clone)]
pub struct Output(RawFd);

impl Output {
    pub fn new(fd: RawFd) -> Output {
        Output(fd)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        is_terminal(self.0)
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        write_all(self.0, &bytes).map_err(stream_error)
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(write_all(self.0, buffer).map(|()| buffer.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
