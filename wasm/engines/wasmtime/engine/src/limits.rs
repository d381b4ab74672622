// SPDX-License-Identifier: Apache-2.0
//! The limit on linear memory: one sum for all memories of all instances of the guest. Growing past
//! it fails the way the guest's own maximum would (memory.grow gives -1, malloc NULL).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wasmtime::ResourceLimiter;

/// What is left, shared by the instances of one guest.
#[derive(Clone)]
pub struct Budget(Arc<AtomicU64>);

impl Budget {
    pub fn new(bytes: u64) -> Budget {
        Budget(Arc::new(AtomicU64::new(bytes)))
    }
    fn take(&self, bytes: u64) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
    pub fn limits(&self) -> Limits {
        Limits { budget: self.clone(), taken: 0 }
    }
}

/// One store's part of the budget; given back when the store ends.
pub struct Limits {
    budget: Budget,
    taken: u64,
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own maximum the growth fails anyway: nothing must be taken for it.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        let granted = self.budget.take(more);
        if granted {
            self.taken += more;
        }
        Ok(granted)
    }
    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.taken, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_share_one_budget() {
        let budget = Budget::new(3 << 16);
        let (mut one, mut other) = (budget.limits(), budget.limits());
        assert!(one.memory_growing(0, 2 << 16, None).unwrap());
        assert!(!other.memory_growing(0, 2 << 16, None).unwrap());
        assert!(other.memory_growing(0, 1 << 16, None).unwrap());
        assert!(!one.memory_growing(2 << 16, 3 << 16, None).unwrap());
        drop(other);
        assert!(one.memory_growing(2 << 16, 3 << 16, None).unwrap());
    }

    #[test]
    fn growth_past_the_own_maximum_takes_nothing() {
        let budget = Budget::new(2 << 16);
        let mut limits = budget.limits();
        assert!(!limits.memory_growing(0, 2 << 16, Some(1 << 16)).unwrap());
        assert!(limits.memory_growing(0, 2 << 16, None).unwrap());
    }
}
