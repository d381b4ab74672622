// SPDX-License-Identifier: Apache-2.0
//! A library with a function, a resource and a standard output, which imports from another one.
use std::cell::Cell;

wit_bindgen::generate!({ path: "wit", world: "words-library" });

struct Words;
struct Count(Cell<u32>);

impl exports::amphora::link::words::Guest for Words {
    type Counter = Count;
    fn greet(name: String) -> String {
        println!("words: greeting, with {} arguments", std::env::args().count());
        format!("hello {}", amphora::link::letters::upper(&name))
    }
}

impl exports::amphora::link::words::GuestCounter for Count {
    fn new(start: u32) -> Count {
        Count(Cell::new(start))
    }
    fn add(&self, by: u32) -> u32 {
        self.0.set(self.0.get() + by);
        self.0.get()
    }
}

export!(Words);
