//! Large blocks of memory on huge pages: an allocator for programs that hold very large graphs.
//!
//! A graph of millions of goals lies in a few arrays of tens of megabytes that grow by doubling.
//! The first touch of each page of 4 KiB costs more than all that is then done with it, and the C
//! library copies arrays below 32 MB when they grow. Here a large block is a mapping of its own
//! that begins on a huge page, and grows by moving page tables. Where there is not even memory for
//! one of ordinary size, the program ends with a message.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks from this size on are mappings of their own.
const LARGE_BYTES: usize = 1 << 20;
/// What a huge page holds on x86-64, and on arm64 with pages of 4 KiB; elsewhere the advice is of
/// no use and no harm.
const HUGE_BYTES: usize = 2 << 20;
/// The kernel maps whole pages; this is a multiple of every page size that it has.
const PAGE_BYTES: usize = 64 << 10;

/// The system's allocator, with huge pages for large blocks where the kernel has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct HugePages;

fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE_BYTES && layout.align() <= HUGE_BYTES
}

/// How much is mapped for a block: whole huge pages, unless more than half of the last one would be
/// left empty.
fn mapped(size: usize) -> Option<usize> {
    let rest = size % HUGE_BYTES;
    let unit = if rest < HUGE_BYTES / 2 {
        PAGE_BYTES
    } else {
        HUGE_BYTES
    };
    size.checked_next_multiple_of(unit)
}

/// Maps `length` bytes that can't be used yet, beginning on a huge page. Null if there is no room.
fn reserve(length: usize) -> *mut u8 {
    let Some(with_margin) = length.checked_add(HUGE_BYTES) else {
        return ptr::null_mut();
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, where the kernel chooses.
    let start = unsafe { libc::mmap(ptr::null_mut(), with_margin, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    let before = (start as usize).wrapping_neg() % HUGE_BYTES;
    let after = HUGE_BYTES - before;
    // SAFETY: `before` and `after` add up to the margin, so all three parts lie in the mapping just
    // made, of which nobody knows; what is given back is the margin alone.
    unsafe {
        let block = start.byte_add(before);
        if before > 0 {
            libc::munmap(start, before);
        }
        if after > 0 {
            libc::munmap(block.byte_add(length), after);
        }
        block.cast()
    }
}

fn map(size: usize) -> *mut u8 {
    let Some(length) = mapped(size) else {
        return ptr::null_mut();
    };
    let block = reserve(length);
    if block.is_null() {
        return block;
    }
    let usable = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the whole of a mapping that was just made and that nobody else knows of. That the
    // advice may be refused is no harm.
    unsafe {
        if libc::mprotect(block.cast(), length, usable) != 0 {
            libc::munmap(block.cast(), length);
            return ptr::null_mut();
        }
        libc::madvise(block.cast(), length, libc::MADV_HUGEPAGE);
    }
    block
}

/// Makes a large block another size, large too. Its contents move along with its pages.
///
/// # Safety
/// `block` is a mapping made by [`map`] for `old` bytes. Unless this returns null, it is gone.
unsafe fn remap(block: *mut u8, old: usize, new: usize) -> *mut u8 {
    let (Some(old), Some(new)) = (mapped(old), mapped(new)) else {
        return ptr::null_mut();
    };
    // SAFETY: the block is a mapping of that length, says the caller.
    let grown = unsafe { libc::mremap(block.cast(), old, new, 0) };
    if grown != libc::MAP_FAILED {
        return grown.cast();
    }
    let target = reserve(new);
    if target.is_null() {
        return target;
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the target was just reserved, so that nothing of anybody's is replaced there.
    let moved = unsafe { libc::mremap(block.cast(), old, new, flags, target) };
    if moved == libc::MAP_FAILED {
        // SAFETY: the reservation was not used.
        unsafe { libc::munmap(target.cast(), new) };
        return ptr::null_mut();
    }
    moved.cast()
}

/// Blocks below this size are such that whoever asks for one can't do without. Larger ones are
/// asked for by some who can.
const NEEDED_BYTES: usize = 64 << 20;

/// What is said where there is no memory for such a block.
const OUT_OF_MEMORY: &[u8] =
    b"error: out of memory; give windrow more of it, or raise the limit ('ulimit -v')\n";

/// A block of that size, if there is one; else the end, unless its owner may do without: the
/// standard library would end the process with a signal and an image of its memory.
fn needed(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() && size < NEEDED_BYTES {
        end();
    }
    block
}

/// Says that there is no memory, and ends the process as a kill would, which leaves every store
/// whole.
#[cold]
fn end() -> ! {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if TOLD.swap(true, Ordering::Relaxed) {
        loop {
            // SAFETY: it waits for the end that another thread brings about.
            unsafe { libc::pause() };
        }
    }
    let mut stderr = libc::pollfd {
        fd: 2,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, of ours; bytes of a constant, as many as it has, which fit into whatever
    // is ready; and the end of the process runs nothing of it.
    unsafe {
        // Nobody who does not read standard error keeps us.
        if libc::poll(&raw mut stderr, 1, 100) == 1 {
            libc::write(2, OUT_OF_MEMORY.as_ptr().cast(), OUT_OF_MEMORY.len());
        }
        libc::_exit(1)
    }
}

// SAFETY: a block comes from the system's allocator or is a mapping of its own, and which of the
// two follows from its layout alone, so that it goes back to where it came from. Mappings begin on
// a multiple of `HUGE_BYTES`, which is what `is_large` allows an alignment to ask for.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return needed(map(layout.size()), layout.size());
        }
        // SAFETY: the caller's promises are passed on as they are.
        needed(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            // New mappings are zero.
            return needed(map(layout.size()), layout.size());
        }
        // SAFETY: as above.
        needed(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout) {
            if let Some(length) = mapped(layout.size()) {
                // SAFETY: the block is a mapping of that length, for its layout is large.
                unsafe { libc::munmap(block.cast(), length) };
            }
            return;
        }
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size does not overflow with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_large(layout), is_large(wanted)) {
            // SAFETY: as above.
            (false, false) => needed(unsafe { System.realloc(block, layout, size) }, size),
            // SAFETY: the block is a mapping, for its layout is large.
            (true, true) => needed(unsafe { remap(block, layout.size(), size) }, size),
            // SAFETY: both blocks are as long as what is copied, and are not the same one.
            _ => unsafe {
                let new = self.alloc(wanted);
                if !new.is_null() {
                    ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                new
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    #[test]
    fn contents_stay_while_a_block_grows_and_shrinks() {
        let sizes = [
            100,
            LARGE_BYTES - 1,
            LARGE_BYTES,
            3 * LARGE_BYTES + 5,
            64 << 20,
            LARGE_BYTES,
            50,
        ];
        let mut size = 10;
        // SAFETY: each block is used within its size and given back with the layout it has.
        unsafe {
            let mut block = HugePages.alloc(layout(size));
            let mark = |block: *mut u8, size: usize| {
                block.write(1);
                block.add(size - 1).write(2);
            };
            mark(block, size);
            for next in sizes {
                block = HugePages.realloc(block, layout(size), next);
                assert_eq!(block.read(), 1);
                if next >= size {
                    assert_eq!(block.add(size - 1).read(), if size == 1 { 1 } else { 2 });
                }
                if next >= LARGE_BYTES {
                    assert_eq!(block as usize % HUGE_BYTES, 0);
                }
                size = next;
                mark(block, size);
            }
            HugePages.dealloc(block, layout(size));
        }
    }

    #[test]
    fn want_of_memory_ends_a_process_with_a_message() {
        const NO_MEMORY: &str = "WINDROW_TEST_NO_MEMORY";
        assert!(needed(ptr::null_mut(), NEEDED_BYTES).is_null());
        if std::env::var_os(NO_MEMORY).is_some() {
            needed(ptr::null_mut(), NEEDED_BYTES - 1);
        }
        let this = "huge_pages::tests::want_of_memory_ends_a_process_with_a_message";
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        let process = process.args(["--exact", this, "--nocapture"]);
        let ended = process.env(NO_MEMORY, "1").output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(ended.stderr, OUT_OF_MEMORY);
    }

    #[test]
    fn new_large_blocks_are_zero_and_impossible_ones_are_refused() {
        // SAFETY: as above.
        unsafe {
            for _ in 0..3 {
                let block = HugePages.alloc_zeroed(layout(LARGE_BYTES));
                assert!((0..LARGE_BYTES).all(|at| block.add(at).read() == 0));
                block.write_bytes(7, LARGE_BYTES);
                HugePages.dealloc(block, layout(LARGE_BYTES));
            }
            let all = layout(isize::MAX as usize - PAGE_BYTES);
            assert!(HugePages.alloc(all).is_null());
            let block = HugePages.alloc(layout(LARGE_BYTES));
            block.write(9);
            assert!(
                HugePages
                    .realloc(block, layout(LARGE_BYTES), all.size())
                    .is_null()
            );
            assert_eq!(block.read(), 9);
            HugePages.dealloc(block, layout(LARGE_BYTES));
        }
    }
}
