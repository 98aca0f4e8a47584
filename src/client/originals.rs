//! What stood in the place of our functions.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering, fence};

/// Connector/C's own functions, by the address of the table that they stood in. The list only grows: it is read without a lock
/// by threads that connect, and in children of a fork.
pub(super) struct Originals<T>(AtomicPtr<Original<T>>);

struct Original<T> {
    table: usize,
    functions: T,
    next: *const Original<T>,
}

impl<T: Copy> Originals<T> {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// To be called before our functions are put into the table. A module that was unloaded, and another one that was loaded
    /// at its place, may have had a table at the same address: the last counts.
    pub(super) fn remember(&self, table: usize, functions: T) {
        let original = Box::into_raw(Box::new(Original { table, functions, next: ptr::null() }));
        let mut first = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: just allocated, and in the list only once exchanged.
            unsafe { (*original).next = first };
            match self.0.compare_exchange_weak(first, original, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    /// What stood in this table, once it has our functions.
    pub(super) fn of(&self, table: usize) -> Option<T> {
        // Connector/C has read our address with an ordinary load, which must not come after the next one.
        fence(Ordering::Acquire);
        let mut next = self.0.load(Ordering::Acquire).cast_const();
        // SAFETY: each is NULL, or in the list, which is never freed or changed.
        while let Some(original) = unsafe { next.as_ref() } {
            if original.table == table {
                return Some(original.functions);
            }
            next = original.next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Originals;

    #[test]
    fn the_last_of_a_table_counts() {
        // Nothing in it is ever freed.
        static ORIGINALS: Originals<&str> = Originals::new();
        assert_eq!(ORIGINALS.of(1), None);
        ORIGINALS.remember(1, "one");
        ORIGINALS.remember(2, "two");
        ORIGINALS.remember(1, "another");
        assert_eq!([0, 1, 2].map(|table| ORIGINALS.of(table)), [None, Some("another"), Some("two")]);
    }
}
