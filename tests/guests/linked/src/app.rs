// SPDX-License-Identifier: Apache-2.0
//! A command whose words come from a library.
wit_bindgen::generate!({ path: "wit", world: "program" });

use amphora::link::words::{Counter, greet};

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "nobody".into());
    println!("{}", greet(&name));
    let counter = Counter::new(40);
    counter.add(1);
    println!("{}", counter.add(1));
}
