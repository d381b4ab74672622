// SPDX-License-Identifier: Apache-2.0
//! Directories by descriptor. wasmtime-wasi opens a preopened directory by path only, so the process
//! steps into each one and gives it as ".": no name is resolved, nothing can be swapped underneath.
//! The process's working directory means nothing to the guest; a server's threads take turns.
//!
//! Preview 1 of WASI has no working directory; a guest's libc makes one up from names and order, so
//! both are kept as given. Tried: wasi-libc (C, Rust) drops a leading "/" and "./", takes the longest
//! name that begins the path and of equals the last one: with "/" and "." alone the last serves every
//! path, relative or not. Go starts in PWD if that is set, else in the first name, which must not be
//! "." ("Bad file number" for relative paths), and looks for the longest name of the absolute path.

use crate::guest::Preopen;
use amphora_abi::{Failure, Outcome};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

fn enter(fd: RawFd) -> io::Result<()> {
    // SAFETY: fchdir takes any number and says whether it is a directory.
    match unsafe { libc::fchdir(fd) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn here() -> io::Result<OwnedFd> {
    // SAFETY: the path is a constant; the new descriptor has no other owner.
    unsafe {
        let fd = libc::open(c".".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Held by who has moved the working directory.
static MOVED: Mutex<()> = Mutex::new(());

pub fn add(builder: &mut WasiCtxBuilder, preopens: &[Preopen]) -> Outcome<()> {
    if preopens.is_empty() {
        return Ok(());
    }
    let _turn = MOVED.lock().unwrap_or_else(PoisonError::into_inner);
    let before = here().map_err(|error| Failure::io("open the working directory", &error))?;
    let added = preopens.iter().try_for_each(|one| {
        let fail = |text: String| Failure::system(format!("preopen {}: {text}", one.name));
        enter(one.fd).map_err(|error| fail(error.to_string()))?;
        let access = if one.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder
            .preopened_dir(".", &one.name, access)
            .map_err(|error| fail(format!("{error:#}")))?;
        Ok(())
    });
    enter(before.as_raw_fd())
        .map_err(|error| Failure::io("return to the working directory", &error))?;
    added
}

/// For load: a wrong descriptor is an error of create and not of start.
pub fn check(preopens: &[Preopen]) -> Outcome<()> {
    for one in preopens {
        // SAFETY: fstat fills the struct or fails.
        let mode = unsafe {
            let mut stat = std::mem::zeroed::<libc::stat>();
            if libc::fstat(one.fd, &mut stat) != 0 {
                let error = io::Error::last_os_error();
                return Err(Failure::io(&format!("preopen {}", one.name), &error));
            }
            stat.st_mode
        };
        if mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Failure::system(format!("preopen {}: not a directory", one.name)));
        }
    }
    Ok(())
}
