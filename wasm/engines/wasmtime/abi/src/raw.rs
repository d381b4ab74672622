// SPDX-License-Identifier: Apache-2.0
//! wasm/include/amphora/engine.h, line by line. No logic; the layout is the contract.

use std::ffi::{c_char, c_int};

pub const ABI: u32 = 1;

pub const CAP_MODULES: u32 = 0x1;
pub const CAP_COMPONENTS: u32 = 0x2;
pub const CAP_WAT: u32 = 0x4;
pub const CAP_HTTP: u32 = 0x8;
pub const CAP_COMPILE: u32 = 0x10;
pub const CAP_SOCKETS: u32 = 0x40;
pub const CAP_LINK: u32 = 0x100;

pub const OK: c_int = 0;
pub const ERR_INVALID: c_int = 1;
pub const ERR_NOT_FOUND: c_int = 2;
pub const ERR_TRAP: c_int = 3;
pub const ERR_UNSUPPORTED: c_int = 4;
pub const ERR_SYSTEM: c_int = 5;
pub const ERR_THREADS: c_int = 6;
pub const ERR_OPTION: c_int = 7;
pub const ERR_IMPORTS: c_int = 8;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    pub data: *const u8,
    pub size: usize,
}

impl Bytes {
    /// # Safety
    /// `data` must point to `size` readable bytes, or `size` must be 0.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        unsafe { std::slice::from_raw_parts(self.data, self.size) }
    }
}

#[repr(C)]
pub struct Error {
    pub text: *mut c_char,
    pub capacity: usize,
}

#[repr(C)]
pub struct Config {
    pub size: usize,
    pub options: *const *const c_char,
}

#[repr(C)]
pub struct Part {
    pub name: *const c_char,
    pub bytes: Bytes,
}

#[repr(C)]
pub struct Preopen {
    pub fd: c_int,
    pub guest: *const c_char,
    pub read_only: u32,
}

#[repr(C)]
pub struct Guest {
    pub size: usize,
    pub artifact_fd: c_int,
    pub entry: *const c_char,
    pub args: *const *const c_char,
    pub env: *const *const c_char,
    pub preopens: *const Preopen,
    pub preopen_count: usize,
    pub stdio: [c_int; 3],
    pub listen_fd: c_int,
    pub memory_limit: u64,
    pub config: *const Config,
    pub listen: Option<Listen>,
}

pub type Listen = unsafe extern "C" fn(*const Guest, *mut Error) -> c_int;
pub type Prepare = unsafe extern "C" fn(*const Config, *mut Error) -> c_int;
pub type Compile = unsafe extern "C" fn(Bytes, c_int, *const Config, *mut Error) -> c_int;
pub type Check = unsafe extern "C" fn(Bytes, *mut Error) -> c_int;
pub type Link = unsafe extern "C" fn(
    *const Part,
    *const Part,
    usize,
    c_int,
    *const Config,
    *mut Error,
) -> c_int;
pub type Load = unsafe extern "C" fn(*const Guest, *mut Error) -> c_int;
pub type Run = unsafe extern "C" fn(*const Guest, *mut c_int, *mut Error) -> c_int;

#[repr(C)]
pub struct Engine {
    pub size: usize,
    pub abi_version: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub capabilities: extern "C" fn() -> u32,
    pub layer_types: Option<extern "C" fn() -> *const *const c_char>,
    pub prepare: Prepare,
    pub compile: Option<Compile>,
    pub check: Option<Check>,
    pub load: Load,
    pub run: Run,
    pub cache_key: unsafe extern "C" fn(*const Config) -> u64,
    pub interrupt: Option<extern "C" fn(c_int)>,
    pub link: Option<Link>,
}

// SAFETY: the pointers are to constants of the object itself.
unsafe impl Sync for Engine {}
