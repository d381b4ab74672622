// SPDX-License-Identifier: Apache-2.0
//! Relative relocations in DT_RELR: a tenth of the size, of tens of thousands of entries.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,pack-relative-relocs");
}
