// SPDX-License-Identifier: Apache-2.0
//! The options of a container, checked by name and value. None of them changes what the compiler
//! makes; one that does must enter `key.rs`.

use crate::error::{Failure, Outcome, one_line};
use crate::raw;
use std::ffi::{CStr, c_char};

#[derive(Debug, PartialEq)]
pub struct Options {
    /// `backtrace`: on or off. Off: a trap is reported in one line.
    pub backtrace: bool,
    /// `memory-max`: bytes of linear memory in all; 0 means no limit.
    pub memory_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { backtrace: true, memory_max: 0 }
    }
}

const KNOWN: &str = "known options: backtrace (on, off), memory-max (bytes)";

impl Options {
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Outcome<Options> {
        let mut options = Options::default();
        for (key, value) in pairs {
            let bad =
                |want: &str| Failure::invalid(format!("option {key}: \"{value}\" is not {want}"));
            match key {
                "backtrace" => {
                    options.backtrace = match value {
                        "on" => true,
                        "off" => false,
                        _ => return Err(bad("on or off")),
                    }
                }
                "memory-max" => {
                    options.memory_max = value.parse().map_err(|_| bad("a number of bytes"))?;
                }
                _ => {
                    let key = one_line(key);
                    return Err(Failure::invalid(format!("unknown option {key}; {KNOWN}")));
                }
            }
        }
        Ok(options)
    }

    /// # Safety
    /// `config` is NULL or as `engine.h` describes it.
    pub unsafe fn read(config: *const raw::Config) -> Outcome<Options> {
        let Some(config) = (unsafe { config.as_ref() }) else { return Ok(Options::default()) };
        let words = unsafe { strings(config.options, "option") }?;
        if words.len() % 2 != 0 {
            return Err(Failure::invalid(format!(
                "option {} has no value",
                words[words.len() - 1]
            )));
        }
        Options::parse(words.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())))
    }
}

/// A NULL-terminated list. WASI's strings are Unicode, so other bytes are an error and never replaced.
///
/// # Safety
/// `list` is NULL or a NULL-terminated array of C strings.
pub unsafe fn strings(list: *const *const c_char, what: &str) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    if list.is_null() {
        return Ok(found);
    }
    loop {
        let entry = unsafe { *list.add(found.len()) };
        if entry.is_null() {
            return Ok(found);
        }
        let bytes = unsafe { CStr::from_ptr(entry) };
        let text = bytes.to_str().map_err(|_| {
            let shown = one_line(&bytes.to_string_lossy());
            Failure::invalid(format!(
                "{what} {} is not UTF-8, as WASI wants it: {shown}",
                found.len()
            ))
        })?;
        found.push(text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_key_lists_the_known_ones() {
        let failure = Options::parse([("fuel", "1")]).unwrap_err();
        assert_eq!(failure.code, raw::ERR_INVALID);
        assert_eq!(failure.text, format!("unknown option fuel; {KNOWN}"));
    }

    #[test]
    fn values_are_checked() {
        let good = Options::parse([("backtrace", "off"), ("memory-max", "65536")]).unwrap();
        assert_eq!(good, Options { backtrace: false, memory_max: 65536 });
        let bad = Options::parse([("memory-max", "64M")]).unwrap_err();
        assert_eq!(bad.text, "option memory-max: \"64M\" is not a number of bytes");
        let bad = Options::parse([("backtrace", "yes")]).unwrap_err();
        assert_eq!(bad.text, "option backtrace: \"yes\" is not on or off");
    }

    #[test]
    fn key_without_value_is_named() {
        let list = [c"backtrace".as_ptr(), std::ptr::null()];
        let config = raw::Config { size: size_of::<raw::Config>(), options: list.as_ptr() };
        let failure = unsafe { Options::read(&config) }.unwrap_err();
        assert_eq!(failure.text, "option backtrace has no value");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let list = [c"ok".as_ptr(), c"a\xff".as_ptr(), std::ptr::null()];
        let failure = unsafe { strings(list.as_ptr(), "argument") }.unwrap_err();
        assert_eq!(failure.text, "argument 1 is not UTF-8, as WASI wants it: a\u{fffd}");
    }
}
