// SPDX-License-Identifier: Apache-2.0
//! An export called by its name with the container's arguments: words in, values to the function, its
//! results on stdout, one a line. Both worlds: core modules (numbers) and components (numbers, strings,
//! booleans, characters in; whatever can be written down out).

use amphora_abi::{Failure, Outcome, error::one_line};
use wasmtime::component::{self, Type};
use wasmtime::{Val, ValType};

/// What the container's words are for: `args[0]` is the entry itself.
pub fn words<'a>(args: &'a [String], wanted: usize, shape: &str) -> Outcome<&'a [String]> {
    let words = args.get(1..).unwrap_or_default();
    if words.len() == wanted {
        return Ok(words);
    }
    Err(Failure::invalid(format!("{shape} wants {wanted} arguments, {} were given", words.len())))
}

fn bad(word: &str, want: &str, shape: &str) -> Failure {
    Failure::invalid(format!("{shape}: \"{}\" is no {want}", one_line(word)))
}

/// Unsigned spellings of a signed type are taken too: a core module's i32 has no sign of its own.
fn integer<S: std::str::FromStr, U: std::str::FromStr>(word: &str, wrap: fn(U) -> S) -> Option<S> {
    word.parse::<S>().ok().or_else(|| word.parse::<U>().ok().map(wrap))
}

pub fn core_value(word: &str, kind: &ValType, shape: &str) -> Outcome<Val> {
    let value = match kind {
        ValType::I32 => integer(word, u32::cast_signed).map(Val::I32),
        ValType::I64 => integer(word, u64::cast_signed).map(Val::I64),
        ValType::F32 => word.parse::<f32>().ok().map(|value| Val::F32(value.to_bits())),
        ValType::F64 => word.parse::<f64>().ok().map(|value| Val::F64(value.to_bits())),
        _ => None,
    };
    value.ok_or_else(|| bad(word, &kind.to_string(), shape))
}

pub fn can_core(kind: &ValType) -> bool {
    matches!(kind, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64)
}

pub fn show_core(value: &Val) -> String {
    match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        other => format!("{other:?}"),
    }
}

/// The name of a type that a word can be; none for the others.
pub fn name_of(kind: &Type) -> Option<&'static str> {
    Some(match kind {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        _ => return None,
    })
}

pub fn value(word: &str, kind: &Type, shape: &str) -> Outcome<component::Val> {
    use component::Val;
    let value = match kind {
        Type::Bool => word.parse().ok().map(Val::Bool),
        Type::S8 => word.parse().ok().map(Val::S8),
        Type::U8 => word.parse().ok().map(Val::U8),
        Type::S16 => word.parse().ok().map(Val::S16),
        Type::U16 => word.parse().ok().map(Val::U16),
        Type::S32 => word.parse().ok().map(Val::S32),
        Type::U32 => word.parse().ok().map(Val::U32),
        Type::S64 => word.parse().ok().map(Val::S64),
        Type::U64 => word.parse().ok().map(Val::U64),
        Type::Float32 => word.parse().ok().map(Val::Float32),
        Type::Float64 => word.parse().ok().map(Val::Float64),
        Type::Char => word.parse().ok().map(Val::Char),
        Type::String => Some(Val::String(word.to_owned())),
        _ => None,
    };
    value.ok_or_else(|| bad(word, name_of(kind).unwrap_or("value of its type"), shape))
}

fn list<'a>(values: impl IntoIterator<Item = &'a component::Val>) -> String {
    values.into_iter().map(show).collect::<Vec<_>>().join(", ")
}

fn payload(name: &str, value: &Option<Box<component::Val>>) -> String {
    match value {
        Some(value) => format!("{name}({})", show(value)),
        None => name.to_owned(),
    }
}

/// A string as it is; what is made of others in the notation of WIT's own value language.
pub fn show(value: &component::Val) -> String {
    use component::Val;
    match value {
        Val::Bool(value) => value.to_string(),
        Val::S8(value) => value.to_string(),
        Val::U8(value) => value.to_string(),
        Val::S16(value) => value.to_string(),
        Val::U16(value) => value.to_string(),
        Val::S32(value) => value.to_string(),
        Val::U32(value) => value.to_string(),
        Val::S64(value) => value.to_string(),
        Val::U64(value) => value.to_string(),
        Val::Float32(value) => value.to_string(),
        Val::Float64(value) => value.to_string(),
        Val::Char(value) => value.to_string(),
        Val::String(value) => value.clone(),
        Val::List(values) => format!("[{}]", list(values)),
        Val::Tuple(values) => format!("({})", list(values)),
        Val::Record(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", show(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Val::Variant(name, value) => payload(name, value),
        Val::Enum(name) => name.clone(),
        Val::Option(None) => "none".to_owned(),
        Val::Option(value) => payload("some", value),
        Val::Result(Ok(value)) => payload("ok", value),
        Val::Result(Err(value)) => payload("err", value),
        Val::Flags(names) => format!("{{{}}}", names.join(", ")),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_numbers() {
        let one = |word, kind: ValType| core_value(word, &kind, "export f").map(|v| show_core(&v));
        assert_eq!(one("-3", ValType::I32).unwrap(), "-3");
        assert_eq!(one("4294967295", ValType::I32).unwrap(), "-1");
        assert_eq!(one("2.5", ValType::F64).unwrap(), "2.5");
        assert_eq!(one("x", ValType::I32).unwrap_err().text, "export f: \"x\" is no i32");
        assert!(one("4294967296", ValType::I32).is_err());
    }

    #[test]
    fn values_are_written_down() {
        use component::Val;
        let pair = Val::Tuple(vec![Val::U8(1), Val::String("a".into())]);
        assert_eq!(show(&Val::List(vec![pair.clone(), pair])), "[(1, a), (1, a)]");
        assert_eq!(show(&Val::Result(Err(Some(Box::new(Val::Enum("no".into())))))), "err(no)");
        assert_eq!(show(&Val::Option(None)), "none");
    }

    #[test]
    fn number_of_words_is_checked() {
        let args = ["app".to_owned(), "1".to_owned()];
        assert_eq!(words(&args, 1, "export f").unwrap(), ["1"]);
        let text = words(&args, 2, "export f (i32, i32)").unwrap_err().text;
        assert_eq!(text, "export f (i32, i32) wants 2 arguments, 1 were given");
    }
}
