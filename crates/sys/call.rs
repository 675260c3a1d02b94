//! System calls that leave the C library's `errno` alone, for code that runs in a new process on the engine's memory: the
//! thread whose `errno` that is may be running at the same time.

/// Makes the system call of that name. Takes the place of an unsafe function: what is passed must be valid for the call.
///
/// Returns what the kernel does, as `Result<usize, c_int>` with the errno.
#[macro_export]
macro_rules! call {
    ($name:ident $(, $argument:expr)* $(,)?) => {
        $crate::syscalls::syscall!($crate::syscalls::Sysno::$name $(, $argument)*)
            .map_err($crate::syscalls::Errno::into_raw)
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn failures_are_returned_and_errno_is_not_touched() {
        // SAFETY: this thread's own errno.
        let errno = || unsafe { *libc::__errno_location() };
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = libc::EDOM };
        // SAFETY: a NUL-terminated string.
        let result = unsafe { call!(chdir, c"/there/is/no/such/folder".as_ptr()) };
        assert_eq!((result, errno()), (Err(libc::ENOENT), libc::EDOM));
        // SAFETY: no argument.
        let pid = unsafe { call!(getpid) };
        assert_eq!(pid.ok(), usize::try_from(std::process::id()).ok());
    }
}
