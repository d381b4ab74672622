// SPDX-License-Identifier: Apache-2.0
//! The cache key: everything beside the module's bytes that makes an artifact differ. It is computed
//! without the compiler, so that a cache hit never loads it: wasmtime's version and all crates (the
//! lock file), our configuration's revision, and the CPU's features, which the compiler uses as it
//! finds them. wasmtime checks an artifact's version, flags and features once more when it loads it,
//! so a mistake here costs a refused file and not a wrong run.

use crate::config::REVISION;
use crate::options::{Code, FEATURES};

const LOCK_FILE: &[u8] = include_bytes!("../../Cargo.lock");

const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    hash
}

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const CRATES: u64 = fnv1a(BASIS, LOCK_FILE);

/// Those that Cranelift asks for when it compiles for the host.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    macro_rules! list {
        ($($name:tt)*) => { vec![$(($name, std::arch::is_x86_feature_detected!($name))),*] };
    }
    list!["sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt"
          "cmpxchg16b" "avx512bitalg" "avx512dq" "avx512f" "avx512vl" "avx512vbmi"]
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<(&'static str, bool)> {
    macro_rules! list {
        ($($name:tt)*) => { vec![$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    list!["lse" "paca" "fp16" "dotprod"]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

pub fn cache_key(code: &Code) -> u64 {
    let mut hash = fnv1a(CRATES, std::env::consts::ARCH.as_bytes());
    hash = fnv1a(hash, &REVISION.to_le_bytes());
    hash = fnv1a(hash, &[u8::from(code.fuel), u8::from(code.tick)]);
    for (feature, on) in &code.features {
        hash = fnv1a(fnv1a(hash, FEATURES[*feature].0.as_bytes()), &[u8::from(*on)]);
    }
    for (name, present) in cpu_features() {
        hash = fnv1a(fnv1a(hash, name.as_bytes()), &[u8::from(present)]);
    }
    hash
}

#[cfg(test)]
mod tests {
    #[test]
    fn version_is_the_locked_one() {
        let lock = std::str::from_utf8(super::LOCK_FILE).unwrap();
        let version = crate::WASMTIME_VERSION.to_str().unwrap();
        let entry = format!("name = \"wasmtime\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "Cargo.lock has another wasmtime than {version}");
    }

    #[test]
    fn key_is_stable_and_not_empty() {
        let plain = super::Code::default();
        assert_ne!(super::cache_key(&plain), super::BASIS);
        assert_eq!(super::cache_key(&plain), super::cache_key(&plain));
        let counted = super::Code { fuel: true, ..plain.clone() };
        assert_ne!(super::cache_key(&counted), super::cache_key(&plain));
        let other = super::Code { features: vec![(0, true)], ..plain.clone() };
        let off = super::Code { features: vec![(0, false)], ..plain.clone() };
        assert_ne!(super::cache_key(&other), super::cache_key(&plain));
        assert_ne!(super::cache_key(&other), super::cache_key(&off));
    }
}
