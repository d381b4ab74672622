// SPDX-License-Identifier: Apache-2.0
//! What both shared objects say to amphora-wasm: the C structs of wasm/include/amphora/engine.h, error
//! texts, options, the one wasmtime configuration, the cache key and the form of linked artifacts. Nothing here runs or compiles a
//! guest. A change of `engine.h` is a change of `raw.rs`, and of nothing else.

pub mod bundle;
pub mod config;
pub mod error;
pub mod key;
pub mod options;
pub mod raw;

pub use error::{Failure, Outcome, guard};
pub use options::Options;

/// The wasmtime that is linked in; `key.rs` has the test that compares it with Cargo.lock.
pub const WASMTIME_VERSION: &std::ffi::CStr = c"48.0.8";
pub const ENGINE_NAME: &std::ffi::CStr = c"wasmtime";
