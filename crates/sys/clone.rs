//! Makes processes that share this one's memory until they execute a program or exit, so that
//! starting one costs the same however much memory there is. The only place where that is done.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use nix::sys::signal::{SigSet, SigmaskHow};

/// What a process that shares its parent's memory does.
pub trait Child: Sync {
    /// The child's life, to its exit status. It must allocate nothing, take no lock, leave `errno`
    /// alone and not unwind: the thread that made it may be running at the same time, and holds
    /// what it holds.
    fn run(&self) -> c_int;
}

/// What a child stands on.
pub struct Stack(Box<[Slot]>);

/// As the platforms' calling conventions want stacks to be aligned.
#[repr(align(16))]
#[derive(Default)]
struct Slot(#[expect(dead_code, reason = "only children use it")] [AtomicU64; 2]);

impl Stack {
    /// One of that many bytes.
    pub fn new(bytes: usize) -> Self {
        let slots = bytes / size_of::<Slot>();
        Self((0..slots).map(|_| Slot::default()).collect())
    }

    fn top(&self) -> *mut c_void {
        self.0.as_ptr_range().end.cast_mut().cast()
    }
}

/// Makes a process that runs `child` on the memory of this one, with the `flags` of clone(2)
/// beside, and returns its id.
///
/// All signals are blocked in it, so that no handler of ours runs there. As it is made the kernel
/// writes its id to `id`, and when it no longer uses this memory, clears `alive`.
///
/// # Errors
/// When the kernel makes none. Nothing is allocated here either.
///
/// # Safety
/// Until the child has executed a program or exited, `child` and all that it refers to, the stack
/// and `alive` must stay where they are; of them only what is atomic may be changed, and nobody
/// else may use the stack.
pub unsafe fn clone_vm<T: Child>(
    child: *const T,
    stack: &Stack,
    flags: c_int,
    id: Option<&'static AtomicI32>,
    alive: *const AtomicU32,
) -> io::Result<c_int> {
    let all = SigSet::all();
    // This fails only for what is no set or no way to change one.
    let old = all.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let mut flags = flags | libc::CLONE_VM;
    if id.is_some() {
        flags |= libc::CLONE_PARENT_SETTID;
    }
    if !alive.is_null() {
        flags |= libc::CLONE_CHILD_CLEARTID;
    }
    // SAFETY: the caller keeps all that the child uses. The child has no thread state of its own,
    // but does nothing that needs one: that is what `Child` asks for. `enter` expects the type that
    // is passed here.
    let pid = unsafe {
        libc::clone(
            enter::<T>,
            stack.top(),
            flags,
            child.cast_mut().cast::<c_void>(),
            id.map_or(ptr::null_mut(), AtomicI32::as_ptr),
            ptr::null_mut::<c_void>(),
            alive.cast_mut(),
        )
    };
    let made = match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    };
    old.thread_set_mask()?;
    made
}

/// Where a child begins.
extern "C" fn enter<T: Child>(child: *mut c_void) -> c_int {
    // SAFETY: `clone_vm` passes a pointer to this type, and its caller keeps what it points to.
    unsafe { &*child.cast::<T>() }.run()
}
