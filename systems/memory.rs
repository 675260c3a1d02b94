//! Large blocks of memory on huge pages: an allocator for programs that hold very large graphs.
//!
//! A graph of millions of goals lies in a few arrays of tens of megabytes. With pages of 4 KiB the first touch of each page costs
//! more than all that is then done with it; on systems that give huge pages only to those who ask, this asks.

use std::alloc::{GlobalAlloc, Layout, System};

/// Blocks from this size on are worth a question to the kernel: two huge pages of x86-64 and most of arm64.
const LARGE_BYTES: usize = 4 << 20;

/// The system's allocator, with huge pages for large blocks where the kernel has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct HugePages;

/// Asks for huge pages for the whole pages of a block. That they are refused is no harm.
fn advise(block: *mut u8, size: usize) {
    if block.is_null() || size < LARGE_BYTES {
        return;
    }
    const PAGE_BYTES: usize = 4096;
    let start = (block as usize).next_multiple_of(PAGE_BYTES);
    let end = (block as usize + size) & !(PAGE_BYTES - 1);
    if end > start {
        // SAFETY: the range lies within a block that was just allocated; the advice changes how it is backed, never
        // what it holds.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
}

// SAFETY: every block comes from and goes back to the system's allocator with the layout it was asked for.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on as they are.
        let block = unsafe { System.alloc(layout) };
        advise(block, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.alloc_zeroed(layout) };
        advise(block, layout.size());
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.realloc(block, layout, size) };
        advise(block, size);
        block
    }
}
