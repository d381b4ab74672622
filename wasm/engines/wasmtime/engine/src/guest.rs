// SPDX-License-Identifier: Apache-2.0
//! The guest's description, copied out of the C structs once and checked, so that no other file here
//! reads a raw pointer.

use amphora_abi::{Failure, Options, Outcome, options::strings, raw};
use std::ffi::{CStr, c_int};

pub struct Preopen {
    pub fd: c_int,
    pub name: String,
    pub read_only: bool,
}

pub struct Guest {
    pub artifact_fd: c_int,
    pub entry: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub preopens: Vec<Preopen>,
    pub stdio: [c_int; 3],
    pub listen_fd: c_int,
    /// Bytes of linear memory in all; `u64::MAX`: no limit.
    pub memory_limit: u64,
    pub options: Options,
}

impl Guest {
    /// # Safety
    /// As `engine.h` describes `amphora_guest`.
    pub unsafe fn read(guest: *const raw::Guest) -> Outcome<Guest> {
        let guest = unsafe { guest.as_ref() }.ok_or_else(|| Failure::system("no guest given"))?;
        if guest.size < size_of::<raw::Guest>() {
            return Err(Failure::system("the host's amphora_guest is older than this engine"));
        }
        let options = unsafe { Options::read(guest.config) }?;
        let limits = [guest.memory_limit, options.memory_max];
        Ok(Guest {
            artifact_fd: guest.artifact_fd,
            entry: unsafe { text(guest.entry, "entry") }?,
            args: unsafe { strings(guest.args, "argument") }?,
            env: unsafe { strings(guest.env, "environment variable") }?
                .into_iter()
                .map(pair)
                .collect(),
            preopens: unsafe { preopens(guest) }?,
            stdio: guest.stdio,
            listen_fd: guest.listen_fd,
            memory_limit: limits.into_iter().filter(|limit| *limit != 0).min().unwrap_or(u64::MAX),
            options,
        })
    }
}

/// The host makes the container's listening socket, at the address it was told; `run` then finds it in
/// `listen_fd`.
///
/// # Safety
/// As `engine.h` describes `amphora_guest`.
pub unsafe fn listen(guest: *const raw::Guest) -> Outcome<()> {
    let given = unsafe { &*guest };
    if given.listen_fd >= 0 {
        return Ok(());
    }
    let none = "the component serves HTTP, but no listening socket was given";
    let Some(listen) = given.listen else { return Err(Failure::invalid(none)) };
    let mut text = [0 as std::ffi::c_char; 400];
    let mut error = raw::Error { text: text.as_mut_ptr(), capacity: text.len() };
    if unsafe { listen(guest, &mut error) } >= 0 {
        return Ok(());
    }
    let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy();
    Err(Failure::system(text))
}

/// A variable without `=` is given to the guest as an empty one: WASI has no other.
fn pair(entry: String) -> (String, String) {
    match entry.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (entry, String::new()),
    }
}

unsafe fn text(pointer: *const std::ffi::c_char, what: &str) -> Outcome<Option<String>> {
    if pointer.is_null() {
        return Ok(None);
    }
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    let text =
        text.map_err(|_| Failure::invalid(format!("{what} is not UTF-8, as WASI wants it")))?;
    Ok(Some(text.to_owned()))
}

unsafe fn preopens(guest: &raw::Guest) -> Outcome<Vec<Preopen>> {
    let mut found = Vec::with_capacity(guest.preopen_count);
    for i in 0..guest.preopen_count {
        let one = unsafe { &*guest.preopens.add(i) };
        let name = unsafe { text(one.guest, "name of a preopened directory") }?;
        let name = name.ok_or_else(|| Failure::system("a preopened directory has no name"))?;
        found.push(Preopen { fd: one.fd, name, read_only: one.read_only != 0 });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_split_at_the_first_equals_sign() {
        assert_eq!(pair("A=b=c".into()), ("A".into(), "b=c".into()));
        assert_eq!(pair("A=".into()), ("A".into(), "".into()));
        assert_eq!(pair("A".into()), ("A".into(), "".into()));
    }
}
