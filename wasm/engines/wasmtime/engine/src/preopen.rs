// SPDX-License-Identifier: Apache-2.0
//! Directories by descriptor. wasmtime-wasi opens a preopened directory by path only, so the process
//! steps into each one and gives it as ".": no name is resolved, nothing can be swapped underneath.
//! The process's working directory means nothing to the guest, so it stays in the last one. Once a process, on
//! its one thread: a server's instances share the directories of its start.
//!
//! Preview 1 of WASI has no working directory; a guest's libc makes one up from names and order, so
//! both are kept as given. Tried: wasi-libc (C, Rust) drops a leading "/" and "./", takes the longest
//! name that begins the path and of equals the last one: with "/" and "." alone the last serves every
//! path, relative or not. Go starts in PWD if that is set, else in the first name, which must not be
//! "." ("Bad file number" for relative paths), and looks for the longest name of the absolute path.

use crate::guest::Preopen;
use amphora_abi::{Failure, Outcome};
use std::io;
use std::os::fd::RawFd;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

fn enter(fd: RawFd) -> io::Result<()> {
    // SAFETY: fchdir takes any number and says whether it is a directory.
    match unsafe { libc::fchdir(fd) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub fn add(builder: &mut WasiCtxBuilder, preopens: &[Preopen]) -> Outcome<()> {
    preopens.iter().try_for_each(|one| {
        let fail = |text: String| Failure::system(format!("preopen {}: {text}", one.name));
        enter(one.fd).map_err(|error| fail(error.to_string()))?;
        let access = if one.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder
            .preopened_dir(".", &one.name, access)
            .map_err(|error| fail(format!("{error:#}")))?;
        Ok(())
    })
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
