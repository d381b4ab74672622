// SPDX-License-Identifier: Apache-2.0
//! Components into one: every import that this engine does not have is taken from the one library that
//! exports it, of that library in turn, and the exports are main's. An instance of each library is shared
//! by all who import from it. Imports of WASI stay.

use crate::imports;
use crate::link::{Part, names};
use amphora_abi::{Failure, Outcome};
use std::borrow::Cow;
use wasm_compose::graph::{
    Component, ComponentId, CompositionGraph, EncodeOptions, ExportIndex, ImportIndex, InstanceId,
};
use wasmparser::{Validator, WasmFeatures};

/// 0 is main.
struct Composer<'a, 'b> {
    main: &'b Part<'a>,
    libraries: &'b [Part<'a>],
    graph: CompositionGraph<'a>,
    /// Nothing for a library that is a module.
    ids: Vec<Option<ComponentId>>,
    instances: Vec<Option<InstanceId>>,
    /// Those whose imports are being looked at.
    open: Vec<usize>,
    /// One for all: types are compared between components of the same validator only.
    validator: Validator,
}

struct Wanted {
    index: ImportIndex,
    name: String,
}

pub fn compose(main: &Part, libraries: &[Part]) -> Outcome<Vec<u8>> {
    let mut composer = Composer {
        main,
        libraries,
        graph: CompositionGraph::new(),
        ids: Vec::new(),
        instances: vec![None; libraries.len() + 1],
        open: Vec::new(),
        validator: Validator::new_with_features(WasmFeatures::all()),
    };
    for at in 0..=libraries.len() {
        let part = composer.part(at);
        let bytes = part.binary()?;
        let id = if imports::is_component(&bytes) { Some(composer.add(at, bytes)?) } else { None };
        composer.ids.push(id);
    }
    let export = Some(composer.instantiate(0)?);
    let options = EncodeOptions { export, define_components: true, validate: false };
    composer.graph.encode(options).map_err(|error| Failure::invalid(format!("link: {error:#}")))
}

/// "a:b/c@1.2.3" and "a:b/c@1.4.0", or "@0.2.1" and "@0.2.6": what may stand for another by the rules of versions.
fn track(name: &str) -> (&str, &str) {
    let Some((name, version)) = name.split_once('@') else { return (name, "") };
    let mut dots = version.match_indices('.').map(|(at, _)| at);
    let (first, second) = (dots.next(), dots.next());
    let end = if version.starts_with("0.") { second } else { first };
    (name, end.map_or(version, |end| &version[..end]))
}

impl<'a, 'b> Composer<'a, 'b> {
    fn part(&self, at: usize) -> &'b Part<'a> {
        if at == 0 { self.main } else { &self.libraries[at - 1] }
    }

    fn add(&mut self, at: usize, bytes: Cow<'a, [u8]>) -> Outcome<ComponentId> {
        let part = self.part(at);
        let blame = |error: anyhow::Error| part.blame(Failure::invalid(format!("{error:#}")));
        // Two libraries may have one name; the graph's are its own business.
        let name = format!("part{at}");
        let component = Component::from_bytes(&mut self.validator, name, bytes).map_err(blame)?;
        self.graph
            .add_component(component)
            .map_err(|error| Failure::invalid(format!("link: {error:#}")))
    }

    fn component(&self, at: usize) -> Option<&Component<'a>> {
        self.ids[at].and_then(|id| self.graph.get_component(id))
    }

    /// With everything that it imports instantiated before it.
    fn instantiate(&mut self, at: usize) -> Outcome<InstanceId> {
        if let Some(instance) = self.instances[at] {
            return Ok(instance);
        }
        let id =
            self.ids[at].ok_or_else(|| Failure::system("link: a module among the components"))?;
        let broken = |error: anyhow::Error| Failure::invalid(format!("link: {error:#}"));
        self.open.push(at);
        let mut sources = Vec::new();
        for wanted in self.wanted(at) {
            let (from, export) = self.find(at, &wanted)?;
            if self.open.contains(&from) {
                let text = format!(
                    "{} imports {} from {}: components import from each other in a circle",
                    self.part(at).name,
                    wanted.name,
                    self.part(from).name
                );
                return Err(Failure::invalid(text));
            }
            sources.push((self.instantiate(from)?, from, export, wanted));
        }
        self.open.pop();
        let instance = self.graph.instantiate(id).map_err(broken)?;
        for (source, from, export, wanted) in sources {
            let connected = self.graph.connect(source, Some(export), instance, wanted.index);
            connected.map_err(|error| {
                let text = format!(
                    "{} imports {} from {}: {error:#}",
                    self.part(at).name,
                    wanted.name,
                    self.part(from).name
                );
                Failure::invalid(text)
            })?;
        }
        self.instances[at] = Some(instance);
        Ok(instance)
    }

    fn wanted(&self, at: usize) -> Vec<Wanted> {
        let Some(component) = self.component(at) else { return Vec::new() };
        let wanted = component.imports().filter(|(_, name, _)| !imports::is_own_interface(name));
        wanted.map(|(index, name, _)| Wanted { index, name: name.to_owned() }).collect()
    }

    /// Its export of that name, or of another version that may stand for it.
    fn export(&self, at: usize, name: &str) -> Option<ExportIndex> {
        let component = self.component(at)?;
        if let Some((index, _, _)) = component.export_by_name(name) {
            return Some(index);
        }
        component
            .exports()
            .find(|(_, export, _, _)| track(export) == track(name))
            .map(|(index, ..)| index)
    }

    /// Who exports it. Main is among them, for the sake of the error about circles; the importer is not.
    fn find(&self, importer: usize, wanted: &Wanted) -> Outcome<(usize, ExportIndex)> {
        let mut found = (0..self.ids.len())
            .filter(|at| *at != importer)
            .filter_map(|at| self.export(at, &wanted.name).map(|export| (at, export)));
        let name = self.part(importer).name;
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some((one, _)), Some((other, _))) => Err(Failure::invalid(format!(
                "{name} imports {}, which both {} and {} export",
                wanted.name,
                self.part(one).name,
                self.part(other).name
            ))),
            (None, _) => Err(Failure::invalid(format!(
                "unknown import: {name} imports {}, which no library exports ({})",
                wanted.name,
                names(self.libraries)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part<'a>(name: &'a str, text: &'a str) -> Part<'a> {
        Part { name, bytes: text.as_bytes() }
    }

    /// A component that exports `export` by calling what it imports, if it imports something.
    fn forwards(import: &str, export: &str) -> String {
        let given = if import.is_empty() {
            "(core module $m (func (export \"f\"))) (core instance $m (instantiate $m)) (func $f (canon lift (core func $m \"f\")))".to_owned()
        } else {
            format!(
                "(import \"{import}\" (instance $i (export \"f\" (func)))) (alias export $i \"f\" (func $f))"
            )
        };
        format!(
            "(component {given} (instance $o (export \"f\" (func $f))) (export \"{export}\" (instance $o)))"
        )
    }

    fn reason(main: &str, libraries: &[Part]) -> String {
        compose(&part("app.wasm", main), libraries).unwrap_err().text
    }

    #[test]
    fn a_chain_becomes_one_component_without_imports() {
        let (main, middle, last) = (
            forwards("t:t/a@1.0.0", "t:t/main"),
            forwards("t:t/b@0.2.1", "t:t/a@1.1.0"),
            forwards("", "t:t/b@0.2.6"),
        );
        let libraries = [
            part("unused.wasm", "(module)"),
            part("last.wasm", &last),
            part("middle.wasm", &middle),
        ];
        let composed = compose(&part("app.wasm", &main), &libraries).unwrap();
        assert!(imports::all(&composed).is_empty());
        Validator::new_with_features(WasmFeatures::all()).validate_all(&composed).unwrap();
    }

    #[test]
    fn versions_stand_for_each_other_as_semver_has_it() {
        assert_eq!(track("a:b/c@1.2.3"), track("a:b/c@1.9.0"));
        assert_eq!(track("a:b/c@0.2.3"), track("a:b/c@0.2.9"));
        assert_ne!(track("a:b/c@0.2.3"), track("a:b/c@0.3.0"));
        assert_ne!(track("a:b/c@2.0.0"), track("a:b/c@1.0.0"));
        assert_ne!(track("a:b/c"), track("a:b/c@1.0.0"));
    }

    #[test]
    fn missing_double_circular_and_wrong_ones_are_named() {
        let main = forwards("t:t/a", "t:t/main");
        assert_eq!(
            reason(&main, &[part("x.wasm", "(component)"), part("y.wasm", "(module)")]),
            "unknown import: app.wasm imports t:t/a, which no library exports (looked at: x.wasm, y.wasm)"
        );
        let a = forwards("", "t:t/a");
        let double = reason(&main, &[part("x.wasm", &a), part("y.wasm", &a)]);
        assert_eq!(double, "app.wasm imports t:t/a, which both x.wasm and y.wasm export");
        let back = forwards("t:t/main", "t:t/a");
        assert_eq!(
            reason(&main, &[part("x.wasm", &back)]),
            "x.wasm imports t:t/main from app.wasm: components import from each other in a circle"
        );
        let other = "(component (instance $o) (export \"t:t/a\" (instance $o)))";
        let wrong = reason(&main, &[part("x.wasm", other)]);
        assert!(
            wrong.starts_with("app.wasm imports t:t/a from x.wasm: ")
                && wrong.contains("not compatible"),
            "{wrong}"
        );
        assert!(reason(&main, &[part("x.wasm", "\u{7f}ELF")]).starts_with("x.wasm: neither"));
    }
}
