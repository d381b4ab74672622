// SPDX-License-Identifier: Apache-2.0
//! Traps: the signal handlers that notice them, and the report for the guest's stderr.

use crate::guest::Guest;
use amphora_abi::{Failure, error::one_line, raw};
use std::ffi::c_int;
use std::fmt::Write;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use wasmtime::{Store, Trap, WasmBacktrace, WasmCoreDump};
use wasmtime_wasi::I32Exit;

/// Out-of-bounds accesses, divisions by zero and `unreachable` arrive as signals. wasmtime installs
/// its handlers once per process, in `prepare`; a container's set-up sets all signals to their
/// defaults, as an exec would, so they are put back before the guest runs.
pub struct Handlers([(c_int, libc::sigaction); 4]);

impl Handlers {
    pub fn current() -> Handlers {
        Handlers([libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS].map(|signal| {
            // SAFETY: sigaction only fills the struct.
            unsafe {
                let mut action = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut action);
                (signal, action)
            }
        }))
    }
    pub fn restore(&self) {
        for (signal, action) in
            self.0.iter().filter(|(_, action)| action.sa_sigaction != libc::SIG_DFL)
        {
            // SAFETY: the handlers are wasmtime's own, of an engine that is never dropped.
            unsafe { libc::sigaction(*signal, action, std::ptr::null_mut()) };
        }
    }
}

/// What the guest's end means: an exit code, or a trap, which is told on the guest's stderr.
pub fn verdict(
    error: &wasmtime::Error,
    guest_stderr: c_int,
    backtrace: bool,
) -> Result<c_int, Failure> {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Ok(exit.0);
    }
    tell(error, guest_stderr, backtrace);
    Err(Failure::new(raw::ERR_TRAP, reason(error)))
}

/// The report itself.
pub fn tell(error: &wasmtime::Error, guest_stderr: c_int, backtrace: bool) {
    let mut report = format!("amphora-wasm: {}\n", reason(error));
    if backtrace {
        frames(error, &mut report);
    }
    write_all(guest_stderr, report.as_bytes());
}

/// Option `coredump`: memory, globals and frames of the trapped guest, in the format of
/// tool-conventions' Coredump.md, to a new file in the container; `suffix` keeps those of several
/// requests apart. That it cannot be written is told and changes nothing.
pub fn dump<T: 'static>(error: &wasmtime::Error, store: &mut Store<T>, guest: &Guest, suffix: &str) {
    let Some(path) = &guest.options.coredump else { return };
    let Some(dump) = error.downcast_ref::<WasmCoreDump>() else { return };
    let path = format!("{path}{suffix}");
    let name = guest.args.first().map_or("guest", String::as_str);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, &dump.serialize(store, name)));
    let text = match written {
        Ok(()) => format!("amphora-wasm: coredump written to {path}\n"),
        Err(error) => format!("amphora-wasm: coredump {path}: {error}\n"),
    };
    write_all(guest.stdio[2], text.as_bytes());
}

/// The trap itself where there is one; else every cause but the backtrace's own lines.
pub fn reason(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return one_line(&trap.to_string());
    }
    let causes = error.chain().map(|cause| cause.to_string());
    let dumps = |text: &String| text.contains("wasm backtrace:") || text.contains("core dump");
    let told: Vec<String> = causes.filter(|text| !dumps(text)).collect();
    one_line(&told.join(": "))
}

/// Whether wasm code was running when the error came up.
pub fn is_trap(error: &wasmtime::Error) -> bool {
    error.is::<Trap>() || error.is::<WasmBacktrace>()
}

/// The names are the guest's, and so is the place they are written to.
fn frames(error: &wasmtime::Error, report: &mut String) {
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let _ = writeln!(report, "{backtrace}");
    }
}

pub fn write_all(fd: c_int, mut bytes: &[u8]) {
    while fd >= 0 && !bytes.is_empty() {
        // SAFETY: the slice is valid for its length.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {
            }
            Err(_) => return,
        }
    }
}
