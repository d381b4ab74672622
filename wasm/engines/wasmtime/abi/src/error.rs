// SPDX-License-Identifier: Apache-2.0
//! Failures as the interface wants them: a code and one line of text. `guard` is the only door between
//! C and Rust: it keeps panics inside and writes the text into the caller's buffer.

use crate::raw;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

#[derive(Debug)]
pub struct Failure {
    pub code: c_int,
    pub text: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(code: c_int, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }
    pub fn invalid(text: impl Into<String>) -> Failure {
        Failure::new(raw::ERR_INVALID, text)
    }
    pub fn not_found(text: impl Into<String>) -> Failure {
        Failure::new(raw::ERR_NOT_FOUND, text)
    }
    pub fn unsupported(text: impl Into<String>) -> Failure {
        Failure::new(raw::ERR_UNSUPPORTED, text)
    }
    pub fn system(text: impl Into<String>) -> Failure {
        Failure::new(raw::ERR_SYSTEM, text)
    }
    /// `what: first cause: second cause`, the way the rest of amphora words its errors.
    pub fn caused(code: c_int, what: &str, error: &wasmtime::Error) -> Failure {
        let causes: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
        Failure::new(code, format!("{what}: {}", causes.join(": ")))
    }
    pub fn io(what: &str, error: &std::io::Error) -> Failure {
        Failure::system(format!("{what}: {error}"))
    }
}

/// One line: newlines and other control characters of a guest's names never reach a log.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// Copies the text with its NUL, cut at a character so that it stays UTF-8.
///
/// # Safety
/// `error` is NULL or points to a buffer of the capacity it names.
unsafe fn write_text(error: *mut raw::Error, text: &str) {
    let Some(error) = (unsafe { error.as_ref() }) else { return };
    if error.text.is_null() || error.capacity == 0 {
        return;
    }
    let line = one_line(text).replace('\0', "");
    let mut length = line.len().min(error.capacity - 1);
    while !line.is_char_boundary(length) {
        length -= 1;
    }
    unsafe {
        std::ptr::copy_nonoverlapping(line.as_ptr(), error.text.cast::<u8>(), length);
        *error.text.add(length) = 0;
    }
}

static PANIC: Mutex<String> = Mutex::new(String::new());

/// Rust's own hook would print on descriptor 2, which is the tenant's or nobody's here.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut text) = PANIC.lock() {
            *text = info.to_string();
        }
    }));
}

/// Runs `body`, turns a failure or a panic into code and text.
///
/// # Safety
/// As `write_text`.
pub unsafe fn guard(error: *mut raw::Error, body: impl FnOnce() -> Outcome<()>) -> c_int {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let text = PANIC.lock().map(|text| text.clone()).unwrap_or_default();
        Err(Failure::system(format!("the engine panicked: {text}")))
    });
    match outcome {
        Ok(()) => raw::OK,
        Err(failure) => {
            unsafe { write_text(error, &failure.text) };
            failure.code
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(capacity: usize, body: impl FnOnce() -> Outcome<()>) -> (c_int, String) {
        let mut buffer = vec![b'x' as std::ffi::c_char; capacity.max(1)];
        let mut error = raw::Error { text: buffer.as_mut_ptr(), capacity };
        let code = unsafe { guard(&mut error, body) };
        let bytes: Vec<u8> = buffer.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
        (code, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn text_is_one_line() {
        let (code, text) = text_of(100, || Err(Failure::invalid("a\n  b\t\x1b[2Jc")));
        assert_eq!((code, text.as_str()), (raw::ERR_INVALID, "a b [2Jc"));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(text_of(4, || Err(Failure::system("a\u{e9}\u{e9}"))).1, "a\u{e9}");
    }

    #[test]
    fn panic_becomes_a_failure() {
        keep_panics_quiet();
        let (code, text) = text_of(200, || panic!("broken inside"));
        let _ = std::panic::take_hook();
        assert_eq!(code, raw::ERR_SYSTEM);
        assert!(text.contains("the engine panicked") && text.contains("broken inside"), "{text}");
    }

    #[test]
    fn no_buffer_is_no_crash() {
        let code = unsafe { guard(std::ptr::null_mut(), || Err(Failure::not_found("x"))) };
        assert_eq!(code, raw::ERR_NOT_FOUND);
    }
}
