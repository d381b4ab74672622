// SPDX-License-Identifier: Apache-2.0
//! The artifact of a module that is linked with libraries: several of wasmtime's own artifacts in one file,
//! each at the beginning of a page, as it is mapped by itself. Libraries come before those who import from
//! them, the main module last. Written by the compiler object, read by the running one.

use crate::{Failure, Outcome};

/// No artifact of wasmtime's, which are ELF files, begins like this.
const MAGIC: &[u8; 16] = b"amphora linked 1";
/// Of the largest pages that a host of ours has (arm64).
const ALIGNMENT: usize = 64 << 10;

/// Name and code; the name is the file's.
pub type Part<'a> = (&'a str, &'a [u8]);

fn number(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&(value as u64).to_le_bytes());
}

/// What modules call a library when they import from it.
pub fn module_name(file: &str) -> &str {
    file.strip_suffix(".wasm").or_else(|| file.strip_suffix(".wat")).unwrap_or(file)
}

pub fn write(parts: &[Part]) -> Vec<u8> {
    let head: usize =
        MAGIC.len() + 8 + parts.iter().map(|(name, _)| 24 + name.len()).sum::<usize>();
    let mut at = head.next_multiple_of(ALIGNMENT);
    let mut out = MAGIC.to_vec();
    number(&mut out, parts.len());
    for (name, code) in parts {
        number(&mut out, name.len());
        out.extend_from_slice(name.as_bytes());
        number(&mut out, at);
        number(&mut out, code.len());
        at = (at + code.len()).next_multiple_of(ALIGNMENT);
    }
    for (_, code) in parts {
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend_from_slice(code);
    }
    out
}

pub struct Place {
    pub name: String,
    pub offset: usize,
    pub size: usize,
}

/// Nothing for a file of another kind. The file is what we wrote, and still no number in it is trusted.
pub fn read(file: &[u8]) -> Outcome<Option<Vec<Place>>> {
    let Some(rest) = file.strip_prefix(MAGIC) else { return Ok(None) };
    let mut cursor = Cursor(rest);
    let places = cursor.places(file.len());
    places.map(Some).ok_or_else(|| Failure::system("load the artifact: its head is malformed"))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }
    fn number(&mut self) -> Option<usize> {
        let bytes: [u8; 8] = self.take(8)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    }
    fn places(&mut self, total: usize) -> Option<Vec<Place>> {
        let count = self.number()?;
        let mut places = Vec::new();
        for _ in 0..count {
            let size = self.number()?;
            let name = std::str::from_utf8(self.take(size)?).ok()?.to_owned();
            let (offset, size) = (self.number()?, self.number()?);
            let inside = offset.checked_add(size).is_some_and(|end| end <= total);
            if !inside || size == 0 || offset % ALIGNMENT != 0 {
                return None;
            }
            places.push(Place { name, offset, size });
        }
        (!places.is_empty()).then_some(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_at_pages() {
        let big = vec![7; ALIGNMENT + 1];
        let file = write(&[("a.wasm", &big), ("main.wasm", b"code")]);
        let places = read(&file).unwrap().unwrap();
        let parts: Vec<Part> = places
            .iter()
            .map(|place| (place.name.as_str(), &file[place.offset..place.offset + place.size]))
            .collect();
        assert_eq!(parts, [("a.wasm", big.as_slice()), ("main.wasm", b"code".as_slice())]);
        assert!(places.iter().all(|place| place.offset % ALIGNMENT == 0));
    }

    #[test]
    fn others_are_left_alone() {
        assert!(read(b"\x7fELF").unwrap().is_none());
        assert!(read(b"").unwrap().is_none());
    }

    #[test]
    fn no_number_is_trusted() {
        let good = write(&[("a", b"code")]);
        for cut in [17, 24, 30, 41, good.len() - 1] {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 16..good.len().min(49) {
            let mut bad = good.clone();
            bad[at] = 0xff;
            let _ = read(&bad);
        }
        let mut many = good.clone();
        many[16..24].fill(0xff);
        assert!(read(&many).is_err());
    }
}
