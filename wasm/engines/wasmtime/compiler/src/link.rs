// SPDX-License-Identifier: Apache-2.0
//! One artifact of a main module or component and of the libraries beside it; docs/images.md has the rules.
//! Modules are compiled one by one into a bundle, and the running object instantiates them side by side.
//! Components are composed into one (compose.rs).

use crate::imports::{self, Import};
use crate::{binary, compose, elsewhere, engine, invalid};
use amphora_abi::{Failure, Options, Outcome, bundle};
use std::borrow::Cow;

/// `name` is a file's or a layer's, "math.wasm"; a library that is text is parsed when it is wanted.
pub struct Part<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

impl<'a> Part<'a> {
    pub fn binary(&self) -> Outcome<Cow<'a, [u8]>> {
        binary(self.bytes).map_err(|failure| self.blame(failure))
    }
    pub fn blame(&self, failure: Failure) -> Failure {
        Failure::new(failure.code, format!("{}: {}", self.name, failure.text))
    }
}

pub fn names(parts: &[Part]) -> String {
    if parts.is_empty() {
        return "there is nothing beside it".to_owned();
    }
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    format!("looked at: {}", names.join(", "))
}

pub fn link(
    main: &Part,
    libraries: &[Part],
    options: &Options,
    parallel: bool,
) -> Outcome<Vec<u8>> {
    let start = main.binary()?;
    if imports::is_component(&start) {
        let composed = compose::compose(main, libraries)?;
        return engine(options, parallel)?.precompile_component(&composed).map_err(invalid);
    }
    let mut order =
        Order { libraries, state: vec![State::Unseen; libraries.len()], sorted: Vec::new() };
    order.visit(main, &start)?;
    let engine = engine(options, parallel)?;
    let mut compiled = Vec::new();
    for (part, binary) in order.sorted.iter().map(|(index, binary)| (&libraries[*index], binary)) {
        elsewhere(binary).map_err(|failure| part.blame(failure))?;
        let code = engine.precompile_module(binary).map_err(|error| part.blame(invalid(error)))?;
        compiled.push((part.name, code));
    }
    compiled.push((main.name, engine.precompile_module(&start).map_err(invalid)?));
    let parts: Vec<bundle::Part> =
        compiled.iter().map(|(name, code)| (*name, code.as_slice())).collect();
    Ok(bundle::write(&parts))
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unseen,
    /// It is one of those whose imports are being looked at.
    Open,
    Done,
}

/// Libraries before those who import from them; those that nobody imports from are left out.
struct Order<'a, 'b> {
    libraries: &'b [Part<'a>],
    state: Vec<State>,
    sorted: Vec<(usize, Cow<'a, [u8]>)>,
}

impl<'a> Order<'a, '_> {
    fn visit(&mut self, part: &Part, binary: &[u8]) -> Outcome<()> {
        for import in imports::missing(binary) {
            let index = self.find(part, &import)?;
            let library = &self.libraries[index];
            match self.state[index] {
                State::Done => {}
                State::Open => {
                    let text = format!(
                        "{} imports {}: modules import from each other in a circle",
                        part.name,
                        import.text()
                    );
                    return Err(Failure::invalid(text));
                }
                State::Unseen => {
                    self.state[index] = State::Open;
                    let binary = library.binary()?;
                    if imports::is_component(&binary) {
                        let text = format!(
                            "module {} imports {}, and {} is a component",
                            part.name,
                            import.text(),
                            library.name
                        );
                        return Err(Failure::invalid(text));
                    }
                    self.visit(library, &binary)?;
                    self.state[index] = State::Done;
                    self.sorted.push((index, binary));
                }
            }
        }
        Ok(())
    }

    fn find(&self, part: &Part, import: &Import) -> Outcome<usize> {
        let named = |index: &usize| bundle::module_name(self.libraries[*index].name) == import.from;
        let mut found = (0..self.libraries.len()).filter(named);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(Failure::invalid(format!(
                "{} imports {}, and two libraries are called {}",
                part.name,
                import.text(),
                import.from
            ))),
            (None, _) => Err(Failure::invalid(format!(
                "unknown import: {} imports {}, and there is no library {}.wasm ({})",
                part.name,
                import.text(),
                import.from,
                names(self.libraries)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = r#"(module (import "math" "add" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (func (export "_start")))"#;
    const MATH: &str = r#"(module (import "base" "one" (global i32))
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;
    const BASE: &str = r#"(module (global (export "one") i32 (i32.const 1)))"#;

    fn part<'a>(name: &'a str, text: &'a str) -> Part<'a> {
        Part { name, bytes: text.as_bytes() }
    }

    fn reason(libraries: &[Part]) -> String {
        link(&part("app.wasm", MAIN), libraries, &Options::default(), false).unwrap_err().text
    }

    #[test]
    fn only_what_is_imported_and_each_after_what_it_imports() {
        let libraries =
            [part("other.wasm", "no WebAssembly"), part("math.wasm", MATH), part("base.wat", BASE)];
        let file = link(&part("app.wasm", MAIN), &libraries, &Options::default(), false).unwrap();
        let names: Vec<String> =
            bundle::read(&file).unwrap().unwrap().into_iter().map(|place| place.name).collect();
        assert_eq!(names, ["base.wat", "math.wasm", "app.wasm"]);
    }

    #[test]
    fn what_is_missing_is_named_and_where_it_was_looked_for() {
        assert_eq!(
            reason(&[part("math.wasm", MATH), part("a.wasm", BASE)]),
            "unknown import: math.wasm imports base::one, and there is no library base.wasm (looked at: math.wasm, a.wasm)"
        );
        assert!(reason(&[]).ends_with("(there is nothing beside it)"), "{}", reason(&[]));
    }

    #[test]
    fn circles_doubles_and_other_kinds_are_errors() {
        let circle = r#"(module (import "math" "add" (func)))"#;
        assert_eq!(
            reason(&[part("math.wasm", MATH), part("base.wasm", circle)]),
            "base.wasm imports math::add: modules import from each other in a circle"
        );
        let double = reason(&[part("math.wasm", BASE), part("math.wat", BASE)]);
        assert_eq!(double, "app.wasm imports math::add, and two libraries are called math");
        let kind = reason(&[part("math.wasm", "(component)")]);
        assert_eq!(kind, "module app.wasm imports math::add, and math.wasm is a component");
        let broken = reason(&[part("math.wasm", "(modul)")]);
        assert!(broken.starts_with("math.wasm: "), "{broken}");
        let threads = part("math.wasm", r#"(import "wasi" "thread-spawn" (func))"#);
        assert!(reason(&[threads]).contains("no library wasi.wasm"));
    }
}
