// SPDX-License-Identifier: Apache-2.0
//! From a descriptor to code, by file mappings: pages are shared by all containers that map the same
//! file. No path is used, since the container's /proc may be absent, or anything.

use amphora_abi::{Failure, Outcome, bundle, raw};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use wasmtime::component::Component;
use wasmtime::{Config, CustomCodeMemory, Engine, Module, Precompiled};

pub enum Code {
    Module(Module),
    /// Libraries before those who import from them, the main module last; each with its file's name.
    Linked(Vec<(String, Module)>),
    Component(Component),
}

/// Makes code executable in mappings that are ours: wasmtime has no way to load a component from an
/// open file but "memory that somebody else mapped".
struct CodePages;

impl CodePages {
    fn protect(start: *const u8, length: usize, protection: i32) -> wasmtime::Result<()> {
        // SAFETY: wasmtime names pages of a mapping made for this code and used for nothing else.
        match unsafe { libc::mprotect(start.cast_mut().cast(), length, protection) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().into()),
        }
    }
}

impl CustomCodeMemory for CodePages {
    fn required_alignment(&self) -> usize {
        // SAFETY: no memory is touched.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    }
    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        CodePages::protect(start, length, libc::PROT_READ | libc::PROT_EXEC)
    }
    fn unpublish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        CodePages::protect(start, length, libc::PROT_READ)
    }
}

pub fn configure(config: &mut Config) {
    config.with_custom_code_memory(Some(Arc::new(CodePages)));
}

/// A private, read-only view of the whole file.
fn map(fd: RawFd) -> io::Result<NonNull<[u8]>> {
    // SAFETY: the descriptor stays the host's: the File is never dropped.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if size == 0 {
        return Err(io::Error::other("the file is empty"));
    }
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let start = unsafe {
        libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at 0"))?;
    Ok(NonNull::slice_from_raw_parts(start, size))
}

/// A descriptor of our own for a borrowed one.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl makes a descriptor that has no other owner.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(copy)) }
    }
}

pub fn open(engine: &Engine, fd: RawFd) -> Outcome<Code> {
    let view = map(fd).map_err(|error| Failure::io("map the artifact", &error))?;
    let refused =
        |error: wasmtime::Error| Failure::caused(raw::ERR_INVALID, "load the artifact", &error);
    // SAFETY: the host verified that the compiler object wrote this file and that nobody can change
    // it; the mapping lives as long as the process, unless it is unmapped right here.
    unsafe {
        match Engine::detect_precompiled(view.as_ref()) {
            Some(Precompiled::Component) => {
                Component::deserialize_raw(engine, view).map(Code::Component).map_err(refused)
            }
            Some(Precompiled::Module) => {
                libc::munmap(view.as_ptr().cast(), view.len());
                // The image of the linear memory is mapped from the file itself when the guest is
                // instantiated, so wasmtime keeps a descriptor.
                let keep =
                    duplicate(fd).map_err(|error| Failure::io("keep the artifact", &error))?;
                Module::deserialize_open_file(engine, keep.into())
                    .map(Code::Module)
                    .map_err(refused)
            }
            None => match bundle::read(view.as_ref())? {
                Some(places) => linked(engine, view, &places).map(Code::Linked),
                None => Err(Failure::invalid("load the artifact: not made by this engine's compiler")),
            },
        }
    }
}

/// # Safety
/// `view` is mapped as long as the process lives.
unsafe fn linked(
    engine: &Engine,
    view: NonNull<[u8]>,
    places: &[bundle::Place],
) -> Outcome<Vec<(String, Module)>> {
    let open = |place: &bundle::Place| {
        // SAFETY: bundle::read has seen that the place lies within the view, at a page of it.
        let module = unsafe {
            let start = view.cast::<u8>().add(place.offset);
            Module::deserialize_raw(engine, NonNull::slice_from_raw_parts(start, place.size))
        };
        module.map(|module| (place.name.clone(), module)).map_err(|error| {
            Failure::caused(raw::ERR_INVALID, &format!("load the artifact: {}", place.name), &error)
        })
    };
    places.iter().map(open).collect()
}
