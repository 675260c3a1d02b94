//! An allocator that gives no more than a bound at once, so that a length that an input announces
//! and nothing stands behind is found out: libFuzzer's own limit wants a sanitizer.

use std::alloc::{GlobalAlloc, Layout, System};

/// The most bytes of one allocation.
const ALLOCATION_MAX: usize = 256 << 20;

struct Bounded;

#[global_allocator]
static BOUNDED: Bounded = Bounded;

// SAFETY: everything is the system's allocator's doing, or a refusal, which is a null pointer.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_MAX {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_MAX {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > ALLOCATION_MAX {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract, and what is at `place` came from the system.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, and what is at `place` came from the system.
        unsafe { System.dealloc(place, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::ALLOCATION_MAX;

    #[test]
    fn more_is_refused() {
        let mut bytes = Vec::<u8>::new();
        assert!(bytes.try_reserve_exact(ALLOCATION_MAX + 1).is_err());
        bytes.try_reserve_exact(ALLOCATION_MAX).unwrap();
        assert!(bytes.try_reserve_exact(ALLOCATION_MAX + 1).is_err());
    }
}
