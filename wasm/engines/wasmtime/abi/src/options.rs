// SPDX-License-Identifier: Apache-2.0
//! The options of a container, checked by name and value. Those that change what the compiler makes are
//! in `Code`, and so in the cache key (key.rs); the others concern the running guest only.

use crate::error::{Failure, Outcome, one_line};
use crate::raw;
use std::ffi::{CStr, c_char};
use std::time::Duration;

/// WebAssembly proposals that can be switched, and what switches them; docs/wasm.md lists them.
pub const FEATURES: [(&str, fn(&mut wasmtime::Config, bool)); 11] = [
    ("custom-page-sizes", |config, on| {
        config.wasm_custom_page_sizes(on);
    }),
    ("exceptions", |config, on| {
        config.wasm_exceptions(on);
    }),
    ("extended-const", |config, on| {
        config.wasm_extended_const(on);
    }),
    ("gc", |config, on| {
        config.wasm_function_references(on).wasm_gc(on);
    }),
    ("memory64", |config, on| {
        config.wasm_memory64(on);
    }),
    ("multi-memory", |config, on| {
        config.wasm_multi_memory(on);
    }),
    ("relaxed-simd", |config, on| {
        config.wasm_relaxed_simd(on);
    }),
    ("simd", |config, on| {
        config.wasm_simd(on);
    }),
    ("tail-call", |config, on| {
        config.wasm_tail_call(on);
    }),
    ("threads", |config, on| {
        config.wasm_threads(on).shared_memory(on);
    }),
    ("wide-arithmetic", |config, on| {
        config.wasm_wide_arithmetic(on);
    }),
];

/// What an artifact depends on beside the module.
#[derive(Debug, Default, PartialEq, Clone)]
pub struct Code {
    /// `fuel` was given: the code counts what it does.
    pub fuel: bool,
    /// `tick` was given: the code looks at a clock in every loop.
    pub tick: bool,
    /// Index into FEATURES, and on or off; sorted, each once.
    pub features: Vec<(usize, bool)>,
}

#[derive(Debug, PartialEq, Clone)]
pub struct Options {
    pub code: Code,
    /// `backtrace`: on or off. Off: a trap is reported in one line.
    pub backtrace: bool,
    /// `coredump`: a path in the container; a trap writes the guest's memory and frames there.
    pub coredump: Option<String>,
    /// `fuel`: how much a guest may do, in wasmtime's units (about one an instruction).
    pub fuel: Option<u64>,
    /// `memory-max`: bytes of linear memory in all; 0 means no limit.
    pub memory_max: u64,
    /// `stack`: bytes of the wasm stack.
    pub stack: usize,
    /// `tick`: how often a busy request of an HTTP server lets others have its thread.
    pub tick: Option<Duration>,
    pub http: Http,
}

/// Of an HTTP server.
#[derive(Debug, PartialEq, Clone)]
pub struct Http {
    /// `http-timeout`: until a request's response begins; none for 0.
    pub timeout: Option<Duration>,
    /// `http-instances`: requests that are answered at the same time.
    pub instances: u32,
    /// `http-drain`: for the requests that run when it is to end.
    pub drain: Duration,
    /// `http-threads`: 0 means one for each CPU.
    pub threads: usize,
}

/// Like a native process's.
const DEFAULT_STACK: usize = 8 << 20;
/// Below, the host's own frames would not be worth the name of a limit; above, a fiber for each request
/// would reserve too much.
const STACK_RANGE: std::ops::RangeInclusive<usize> = 64 << 10..=256 << 20;

impl Default for Options {
    fn default() -> Options {
        Options {
            code: Code::default(),
            backtrace: true,
            coredump: None,
            fuel: None,
            memory_max: 0,
            stack: DEFAULT_STACK,
            tick: None,
            http: Http {
                timeout: Some(Duration::from_secs(60)),
                instances: 256,
                drain: Duration::from_secs(9),
                threads: 0,
            },
        }
    }
}

const KNOWN: &str = "known options: backtrace (on, off), coredump (a path in the container), \
    features (names with + or -), fuel (a number), http-drain (seconds), http-instances (a number), \
    http-threads (a number), http-timeout (seconds), memory-max (bytes), stack (bytes), \
    tick (milliseconds)";

/// `+gc,-simd relaxed-simd`: a sign may be left out and means on.
fn features(value: &str) -> Result<Vec<(usize, bool)>, String> {
    let mut found: Vec<(usize, bool)> = Vec::new();
    for word in value.split([' ', ',']).filter(|word| !word.is_empty()) {
        let on = !word.starts_with('-');
        let name = word.trim_start_matches(['+', '-']);
        let Some(index) = FEATURES.iter().position(|(known, _)| *known == name) else {
            let known: Vec<&str> = FEATURES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "option features: unknown feature {}; known features: {}",
                one_line(name),
                known.join(", ")
            ));
        };
        found.retain(|(other, _)| *other != index);
        found.push((index, on));
    }
    found.sort_unstable();
    Ok(found)
}

impl Options {
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Outcome<Options> {
        let mut options = Options::default();
        for (key, value) in pairs {
            options.set(key, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Outcome<()> {
        let bad = |want: &str| Failure::invalid(format!("option {key}: \"{value}\" is not {want}"));
        let number = || value.parse::<u64>();
        let seconds = || number().map(Duration::from_secs).map_err(|_| bad("a number of seconds"));
        match key {
            "backtrace" => {
                self.backtrace = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(bad("on or off")),
                }
            }
            "coredump" if value.starts_with('/') => self.coredump = Some(value.to_owned()),
            "coredump" => return Err(bad("an absolute path")),
            "features" => self.code.features = features(value).map_err(Failure::invalid)?,
            "fuel" => {
                self.fuel = Some(number().map_err(|_| bad("a number"))?);
                self.code.fuel = true;
            }
            "http-drain" => self.http.drain = seconds()?,
            "http-instances" => {
                let count = value.parse().ok().filter(|count| (1..=10_000).contains(count));
                self.http.instances = count.ok_or_else(|| bad("a number from 1 to 10000"))?;
            }
            "http-threads" => {
                let count = value.parse().ok().filter(|count| *count <= 256);
                self.http.threads = count.ok_or_else(|| bad("a number up to 256"))?;
            }
            "http-timeout" => self.http.timeout = Some(seconds()?).filter(|time| !time.is_zero()),
            "memory-max" => self.memory_max = number().map_err(|_| bad("a number of bytes"))?,
            "stack" => {
                let size = value.parse().ok().filter(|size| STACK_RANGE.contains(size));
                self.stack = size.ok_or_else(|| bad("a number of bytes from 65536 to 268435456"))?;
            }
            "tick" => {
                let time = number().ok().filter(|time| (1..=60_000).contains(time));
                let time = time.ok_or_else(|| bad("a number of milliseconds from 1 to 60000"))?;
                self.tick = Some(Duration::from_millis(time));
                self.code.tick = true;
            }
            _ => {
                let key = one_line(key);
                let text = format!("unknown option {key}; {KNOWN}");
                return Err(Failure::new(raw::ERR_OPTION, text));
            }
        }
        Ok(())
    }

    /// Whether the engine that the zygote has started will do.
    pub fn is_plain(&self) -> bool {
        self.code == Code::default() && self.coredump.is_none() && self.stack == DEFAULT_STACK
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
        let failure = Options::parse([("colour", "1")]).unwrap_err();
        assert_eq!(failure.code, raw::ERR_OPTION);
        assert_eq!(failure.text, format!("unknown option colour; {KNOWN}"));
    }

    #[test]
    fn values_are_checked() {
        let good = Options::parse([("backtrace", "off"), ("memory-max", "65536")]).unwrap();
        assert_eq!((good.backtrace, good.memory_max), (false, 65536));
        assert!(good.is_plain());
        let bad = Options::parse([("memory-max", "64M")]).unwrap_err();
        assert_eq!(bad.text, "option memory-max: \"64M\" is not a number of bytes");
        let bad = Options::parse([("backtrace", "yes")]).unwrap_err();
        assert_eq!(bad.text, "option backtrace: \"yes\" is not on or off");
    }

    #[test]
    fn features_are_sorted_and_the_last_word_counts() {
        let code = |value| Options::parse([("features", value)]).unwrap().code;
        assert_eq!(code("simd, -gc"), code("-gc +simd"));
        assert_eq!(code("-gc +gc"), code("gc"));
        assert_ne!(code("-gc"), code("gc"));
        assert!(!Options::parse([("features", "-gc")]).unwrap().is_plain());
        let failure = Options::parse([("features", "+colour")]).unwrap_err();
        assert!(failure.text.starts_with("option features: unknown feature colour; known features: custom-page-sizes,"));
    }

    #[test]
    fn what_counts_in_the_code_is_part_of_it() {
        let options = Options::parse([("fuel", "1000"), ("tick", "10")]).unwrap();
        assert!(options.code.fuel && options.code.tick);
        assert_eq!(options.fuel, Some(1000));
        assert_eq!(options.tick, Some(Duration::from_millis(10)));
        for (key, value) in [("fuel", "much"), ("tick", "0"), ("stack", "1"), ("http-instances", "0")] {
            assert!(Options::parse([(key, value)]).is_err(), "{key} {value}");
        }
    }

    #[test]
    fn no_time_at_all_means_no_timeout() {
        assert_eq!(Options::parse([("http-timeout", "0")]).unwrap().http.timeout, None);
        let two = Options::parse([("http-timeout", "2")]).unwrap();
        assert_eq!(two.http.timeout, Some(Duration::from_secs(2)));
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
