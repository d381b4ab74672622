// SPDX-License-Identifier: Apache-2.0
//! libamphora-compiler-wasmtime.so: makes artifacts and checks modules, in the limited process of
//! `amphora-wasm compile` only. The bytes are a stranger's. It cannot run anything: load and run of
//! its table say so, and no WASI is linked in.

mod compose;
mod imports;
mod link;

use amphora_abi::{
    ENGINE_NAME, Failure, Options, Outcome, WASMTIME_VERSION, config, error, guard, raw,
};
use imports::Import;
use link::Part;
use std::borrow::Cow;
use std::ffi::{CStr, c_int};
use std::io;
use wasmtime::Engine;

/// Threads of the compile process at most; each costs memory within the same limit.
const THREADS: usize = 4;

fn engine(options: &Options, parallel: bool) -> Outcome<Engine> {
    let mut config = config::build(options);
    config.parallel_compilation(parallel);
    Engine::new(&config)
        .map_err(|e| Failure::caused(raw::ERR_SYSTEM, "start wasmtime's compiler", &e))
}

/// Where threads are forbidden, or there is one CPU, everything runs on this one.
fn start_threads() -> bool {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(THREADS);
    threads > 1 && rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().is_ok()
}

/// Text becomes a binary; what starts like a binary is left to the validator.
fn binary(input: &[u8]) -> Outcome<Cow<'_, [u8]>> {
    if input.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(input));
    }
    let text = std::str::from_utf8(input)
        .map_err(|_| Failure::invalid("neither a WebAssembly binary nor text: not UTF-8"))?;
    // An empty text is a module to the parser, but no file of blanks was meant as one.
    if !text.contains('(') {
        return Err(Failure::invalid("neither a WebAssembly binary nor text: no \"(\" in it"));
    }
    wat::parse_str(text).map(Cow::Owned).map_err(|error| Failure::invalid(text_error(&error)))
}

/// The parser's report is a message, a place and, for short lines, a picture of the line, which is
/// left out: "MESSAGE at <anon>:1:700" or "MESSAGE\n     --> <anon>:2:4\n...".
fn text_error(error: &wat::Error) -> String {
    let report = error.to_string();
    let Some((message, rest)) = report.split_once("<anon>:") else { return report };
    let message = message.trim_end_matches("--> ").trim_end().trim_end_matches(" at");
    let place = rest.split_whitespace().next().unwrap_or_default();
    match place.split_once(':') {
        Some((line, column)) => format!("{message} (line {line}, column {column})"),
        None => message.to_owned(),
    }
}

fn invalid(error: wasmtime::Error) -> Failure {
    let causes: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
    Failure::invalid(causes.join(": "))
}

/// wasi-threads were removed from wasmtime; the host asks an engine that has them, if one is installed.
fn elsewhere(binary: &[u8]) -> Outcome<()> {
    let threads = |import: &Import| import.from == "wasi" && import.name == "thread-spawn";
    if imports::is_component(binary) || !imports::all(binary).iter().any(threads) {
        return Ok(());
    }
    let text = "the module wants wasi-threads, which wasmtime does not have";
    Err(Failure::new(raw::ERR_THREADS, text))
}

fn artifact(input: &[u8], options: &Options, parallel: bool) -> Outcome<Vec<u8>> {
    let binary = binary(input)?;
    elsewhere(&binary)?;
    let missing = imports::missing(&binary);
    if !missing.is_empty() {
        return Err(imports::failure(&binary, &missing));
    }
    let engine = engine(options, parallel)?;
    if imports::is_component(&binary) {
        engine.precompile_component(&binary).map_err(invalid)
    } else {
        engine.precompile_module(&binary).map_err(invalid)
    }
}

/// Whether it is WebAssembly at all: with every proposal, whichever the container's options switch on.
fn is_valid(input: &[u8]) -> Outcome<()> {
    let binary = binary(input)?;
    let mut validator = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all());
    validator.validate_all(&binary).map(|_| ()).map_err(|e| Failure::invalid(e.to_string()))
}

fn write_all(fd: c_int, mut bytes: &[u8]) -> Outcome<()> {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for its length.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(Failure::io("write the artifact", &error));
                }
            }
        }
    }
    Ok(())
}

unsafe extern "C" fn prepare(options: *const raw::Config, error: *mut raw::Error) -> c_int {
    unsafe {
        guard(error, || {
            error::keep_panics_quiet();
            Options::read(options).map(|_| ())
        })
    }
}

unsafe extern "C" fn compile(
    input: raw::Bytes,
    out_fd: c_int,
    options: *const raw::Config,
    error: *mut raw::Error,
) -> c_int {
    unsafe {
        guard(error, || {
            error::keep_panics_quiet();
            let options = Options::read(options)?;
            write_all(out_fd, &artifact(input.as_slice(), &options, start_threads())?)
        })
    }
}

/// # Safety
/// `part` is as `engine.h` describes it.
unsafe fn read_part<'a>(part: &raw::Part) -> Outcome<Part<'a>> {
    let name = unsafe { CStr::from_ptr(part.name) }.to_str();
    let name = name.map_err(|_| Failure::invalid("the name of a library is not UTF-8"))?;
    Ok(Part { name, bytes: unsafe { part.bytes.as_slice() } })
}

unsafe extern "C" fn link(
    main: *const raw::Part,
    libraries: *const raw::Part,
    count: usize,
    out_fd: c_int,
    options: *const raw::Config,
    error: *mut raw::Error,
) -> c_int {
    unsafe {
        guard(error, || {
            error::keep_panics_quiet();
            let options = Options::read(options)?;
            let main = read_part(&*main)?;
            let parts: Vec<Part> =
                (0..count).map(|at| read_part(&*libraries.add(at))).collect::<Outcome<_>>()?;
            write_all(out_fd, &link::link(&main, &parts, &options, start_threads())?)
        })
    }
}

unsafe extern "C" fn check(input: raw::Bytes, error: *mut raw::Error) -> c_int {
    unsafe {
        guard(error, || {
            error::keep_panics_quiet();
            is_valid(input.as_slice())
        })
    }
}

const NO_RUN: &str = "this object compiles; libamphora-engine-wasmtime.so runs";

unsafe extern "C" fn load(_: *const raw::Guest, error: *mut raw::Error) -> c_int {
    unsafe { guard(error, || Err(Failure::unsupported(NO_RUN))) }
}

unsafe extern "C" fn run(_: *const raw::Guest, _: *mut c_int, error: *mut raw::Error) -> c_int {
    unsafe { guard(error, || Err(Failure::unsupported(NO_RUN))) }
}

extern "C" fn capabilities() -> u32 {
    raw::CAP_MODULES | raw::CAP_COMPONENTS | raw::CAP_WAT | raw::CAP_COMPILE | raw::CAP_LINK
}

unsafe extern "C" fn cache_key(options: *const raw::Config) -> u64 {
    let code = unsafe { Options::read(options) }.map(|options| options.code);
    amphora_abi::key::cache_key(&code.unwrap_or_default())
}

static TABLE: raw::Engine = raw::Engine {
    size: size_of::<raw::Engine>(),
    abi_version: raw::ABI,
    name: ENGINE_NAME.as_ptr(),
    version: WASMTIME_VERSION.as_ptr(),
    capabilities,
    layer_types: None,
    prepare,
    compile: Some(compile),
    check: Some(check),
    load,
    run,
    cache_key,
    interrupt: None,
    link: Some(link),
};

#[unsafe(no_mangle)]
pub extern "C" fn amphora_engine_entry() -> *const raw::Engine {
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(input: &str) -> String {
        is_valid(input.as_bytes()).unwrap_err().text
    }

    #[test]
    fn smallest_text_is_valid_and_blanks_are_not() {
        assert!(is_valid(b"(func)").is_ok());
        assert_eq!(reason("  \n"), "neither a WebAssembly binary nor text: no \"(\" in it");
    }

    #[test]
    fn text_errors_name_the_place() {
        assert_eq!(reason("(module\n  (fnuc))"), "expected valid module field (line 2, column 4)");
    }

    #[test]
    fn types_are_validated() {
        let text = reason("(func (result i32) i64.const 1)");
        assert!(text.contains("type mismatch: expected i32, found i64"), "{text}");
    }

    #[test]
    fn binaries_and_components() {
        assert!(is_valid(b"\0asm\x01\0\0\0").is_ok());
        assert!(is_valid(b"\0asm\x0d\0\x01\0").is_ok());
        assert!(is_valid(b"(component (core module (func)))").is_ok());
        let torn = is_valid(b"\0asm\x01\0\0\0\x01\x7f").unwrap_err().text;
        assert!(torn.contains("unexpected end"), "{torn}");
        assert_eq!(
            is_valid(b"\x7fELF\xff").unwrap_err().text,
            "neither a WebAssembly binary nor text: not UTF-8"
        );
    }

    #[test]
    fn long_lines_have_a_place_too() {
        let text = format!("{}(fnuc)", " ".repeat(600));
        assert_eq!(reason(&text), "expected valid module field (line 1, column 602)");
    }

    #[test]
    fn deep_nesting_is_no_crash() {
        let blocks = format!("(func {}{})", "(block ".repeat(200_000), ")".repeat(200_000));
        assert!(is_valid(blocks.as_bytes()).is_ok());
        let components = format!("{}{}", "(component ".repeat(200_000), ")".repeat(200_000));
        assert!(reason(&components).contains("nesting too deep"), "{}", reason(&components));
    }

    #[test]
    fn threads_are_another_engines() {
        let text = br#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#;
        let failure = artifact(text, &Options::default(), false).unwrap_err();
        assert_eq!(failure.code, raw::ERR_THREADS);
    }

    #[test]
    fn what_has_to_be_linked_is_said_with_its_import() {
        let missing = |text: &str| artifact(text.as_bytes(), &Options::default(), false).unwrap_err();
        let module = missing(r#"(import "math" "add" (func)) (import "math" "sub" (func))"#);
        assert_eq!(module.code, raw::ERR_IMPORTS);
        assert_eq!(module.text, "unknown import: math::add and 1 more; this engine offers wasi_snapshot_preview1 to modules");
        let component = missing(r#"(component (import "a:b/c@1.0.0" (instance)))"#);
        assert_eq!(component.code, raw::ERR_IMPORTS);
        assert!(component.text.starts_with("unknown import: a:b/c@1.0.0; this engine offers interfaces of wasi:cli,"), "{}", component.text);
    }

    #[test]
    fn modules_and_components_become_their_kind_of_artifact() {
        use wasmtime::Precompiled::{Component, Module};
        let plain = Options::default();
        let module = artifact(b"(module (func (export \"_start\")))", &plain, false).unwrap();
        assert!(matches!(Engine::detect_precompiled(&module), Some(Module)));
        let component = artifact(b"(component)", &plain, false).unwrap();
        assert!(matches!(Engine::detect_precompiled(&component), Some(Component)));
    }
}
