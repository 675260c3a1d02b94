//! One read buffer per thread, grown on demand and lent to whoever archives or restores a tree.
//! Keeps the common case, one small file, free of large allocations.

use std::cell::Cell;

/// The most a buffer grows to, in bytes: large enough that system calls cost nothing beside the
/// copying, small enough to stay in the second-level cache while it is hashed and scanned.
pub(crate) const CHUNK: usize = 256 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with this thread's buffer, whose contents are whatever the last user left.
///
/// A nested call gets a fresh buffer, so a sink may itself use one.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFER.take();
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}

/// Makes `buffer` at least `wanted` bytes long, but no longer than [`CHUNK`].
pub(crate) fn grow(buffer: &mut Vec<u8>, wanted: usize) {
    let size = wanted.min(CHUNK).next_power_of_two();
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_bounded_and_kept_for_the_next_user() {
        with_buffer(|buffer| grow(buffer, 1000));
        with_buffer(|buffer| {
            assert_eq!(buffer.len(), 1024);
            grow(buffer, usize::MAX);
            assert_eq!(buffer.len(), CHUNK);
            with_buffer(|nested| assert!(nested.is_empty()));
        });
        with_buffer(|buffer| assert!(buffer.is_empty() || buffer.len() == CHUNK));
    }
}
