// SPDX-License-Identifier: Apache-2.0
//! Modules beside the main one: instances of the same store, each with its own memory, and with one WASI for all:
//! descriptors, arguments and environment are the process's. Which ones there are and in what order the
//! compiler has decided (link.rs); here it is seen that they fit.

use amphora_abi::{Failure, Outcome, bundle};
use wasmtime::{Extern, ExternType, FuncType, Instance, Linker, Module, Store};

pub struct Library {
    /// The file's: "math.wasm".
    name: String,
    module: Module,
}

impl Library {
    pub fn new(name: String, module: Module) -> Library {
        Library { name, module }
    }
    fn module_name(&self) -> &str {
        bundle::module_name(&self.name)
    }
}

fn show(kind: &ExternType) -> String {
    match kind {
        ExternType::Func(function) => function.to_string(),
        ExternType::Global(global) => format!("(global {})", global.content()),
        ExternType::Table(_) => "(table)".to_owned(),
        ExternType::Memory(_) => "(memory)".to_owned(),
        ExternType::Tag(_) => "(tag)".to_owned(),
    }
}

/// Sizes of tables and memories are compared when the guest is instantiated.
fn fits(has: &ExternType, wants: &ExternType) -> bool {
    match (has, wants) {
        (ExternType::Func(has), ExternType::Func(wants)) => FuncType::matches(has, wants),
        (ExternType::Global(has), ExternType::Global(wants)) => {
            has.mutability() == wants.mutability() && has.content().matches(wants.content())
        }
        (ExternType::Table(_), ExternType::Table(_))
        | (ExternType::Memory(_), ExternType::Memory(_))
        | (ExternType::Tag(_), ExternType::Tag(_)) => true,
        _ => false,
    }
}

/// For load: what `module` imports is there, in one of `libraries` or in `offered`. The store is anyone's.
pub fn check<T: 'static>(
    name: &str,
    module: &Module,
    libraries: &[Library],
    offered: &Linker<T>,
    store: &mut Store<T>,
) -> Outcome<()> {
    for import in module.imports() {
        let (from, field, wants) = (import.module(), import.name(), import.ty());
        let asked = format!("{name} imports {from}::{field}");
        let library = libraries.iter().find(|library| library.module_name() == from);
        let has = match library {
            Some(library) => library.module.get_export(field),
            None => offered.get_by_import(&mut *store, &import).map(|found| found.ty(&*store)),
        };
        let owner = library.map_or("this engine", |library| library.name.as_str());
        match has {
            Some(has) if fits(&has, &wants) => {}
            Some(has) => {
                let text = format!("{asked} as {}, and {owner} has {}", show(&wants), show(&has));
                return Err(Failure::invalid(text));
            }
            None => {
                return Err(Failure::invalid(format!(
                    "unknown import: {asked}, which {owner} does not export"
                )));
            }
        }
    }
    Ok(())
}

/// Libraries first, in order; one that is a reactor is initialized before anybody can call it. Their
/// `_start` is nobody's.
pub async fn instantiate<T: Send + 'static>(
    offered: &Linker<T>,
    store: &mut Store<T>,
    main: &Module,
    libraries: &[Library],
) -> wasmtime::Result<Instance> {
    let mut linker = offered.clone();
    for library in libraries {
        let instance = linker.instantiate_async(&mut *store, &library.module).await?;
        if let Some(Extern::Func(initialize)) = instance.get_export(&mut *store, "_initialize") {
            initialize.typed::<(), ()>(&*store)?.call_async(&mut *store, ()).await?;
        }
        linker.instance(&mut *store, library.module_name(), instance)?;
    }
    linker.instantiate_async(&mut *store, main).await
}
