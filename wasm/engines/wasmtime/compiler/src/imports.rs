// SPDX-License-Identifier: Apache-2.0
//! What a module or component imports that this engine does not have itself. Whether a library has it is for
//! link.rs; whether what the engine has fits is for the linker of the running object.

use amphora_abi::{Failure, raw};
use wasmparser::{Parser, Payload};

/// Of modules: the one namespace that the running object defines.
const WASI: &str = "wasi_snapshot_preview1";
/// Of components: packages and interfaces that it defines, in whatever version.
const PACKAGES: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];
const INTERFACES: [&str; 2] = ["wasi:http/types", "wasi:http/outgoing-handler"];

#[derive(Debug, PartialEq, Clone)]
pub struct Import {
    /// A module's name for the other module; a component's whole import.
    pub from: String,
    /// Empty for a component's.
    pub name: String,
}

impl Import {
    /// As it stands in messages.
    pub fn text(&self) -> String {
        if self.name.is_empty() {
            self.from.clone()
        } else {
            format!("{}::{}", self.from, self.name)
        }
    }
}

pub fn is_component(binary: &[u8]) -> bool {
    Parser::is_component(binary)
}

pub fn is_own_interface(import: &str) -> bool {
    let name = import.split('@').next().unwrap_or(import);
    PACKAGES.iter().any(|package| name.starts_with(package)) || INTERFACES.contains(&name)
}

/// In the order of the binary. What is wrong with one is the compiler's to say: it ends the list.
pub fn all(binary: &[u8]) -> Vec<Import> {
    let mut found = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(binary) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            // The binary's own end is the last payload.
            Ok(Payload::End(_)) => depth -= 1,
            Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                for import in section.into_iter().flatten() {
                    found.push(Import { from: import.name.name.to_owned(), name: String::new() });
                }
            }
            Ok(Payload::ImportSection(section)) if depth == 0 => {
                for import in section.into_imports().flatten() {
                    found.push(Import {
                        from: import.module.to_owned(),
                        name: import.name.to_owned(),
                    });
                }
            }
            Err(_) => break,
            Ok(Payload::CodeSectionStart { .. }) if depth == 0 => break,
            Ok(_) => {}
        }
    }
    found
}

pub fn missing(binary: &[u8]) -> Vec<Import> {
    let component = is_component(binary);
    let own = |import: &Import| {
        if component { is_own_interface(&import.from) } else { import.from == WASI }
    };
    all(binary).into_iter().filter(|import| !own(import)).collect()
}

/// What compile says of a guest that has to be linked.
pub fn failure(binary: &[u8], missing: &[Import]) -> Failure {
    let (offer, to) = if is_component(binary) {
        ("interfaces of wasi:cli, clocks, filesystem, http, io, random and sockets", "components")
    } else {
        (WASI, "modules")
    };
    let first = missing.first().map(Import::text).unwrap_or_default();
    let others = match missing.len() {
        0 | 1 => String::new(),
        many => format!(" and {} more", many - 1),
    };
    let text = format!("unknown import: {first}{others}; this engine offers {offer} to {to}");
    Failure::new(raw::ERR_IMPORTS, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        missing(&wat::parse_str(source).unwrap()).iter().map(Import::text).collect()
    }

    #[test]
    fn of_a_module_all_but_wasi() {
        let source = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (import "math" "add" (func)) (import "env" "memory" (memory 1)) (func)"#;
        assert_eq!(texts(source), ["math::add", "env::memory"]);
    }

    #[test]
    fn of_a_component_its_own_and_not_those_of_what_is_in_it() {
        let source = r#"(component
            (core module (import "inner" "f" (func)))
            (component (import "nested" (func)))
            (import "wasi:cli/environment@0.2.3" (instance))
            (import "wasi:http/types@0.2.0" (instance))
            (import "wasi:http/incoming-handler@0.2.0" (instance))
            (import "wasi:climate/rain@0.2.0" (instance))
            (import "amphora:link/words@0.1.0" (instance)))"#;
        let found = [
            "wasi:http/incoming-handler@0.2.0",
            "wasi:climate/rain@0.2.0",
            "amphora:link/words@0.1.0",
        ];
        assert_eq!(texts(source), found);
    }

    #[test]
    fn a_torn_binary_is_somebody_elses_business() {
        assert!(missing(b"\0asm\x01\0\0\0\x02\x7f").is_empty());
        assert!(missing(b"").is_empty());
    }
}
