//! What the kernel gives this process: descriptors, whose limit the program raises and its children
//! get back; memory and processors; and how large its files may be.

use std::io;
use std::num::NonZero;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::raw;
use crate::told::number;

/// That the limit was not changed. No process may have that number of descriptors.
const UNCHANGED: u64 = u64::MAX;

/// The soft limit on descriptors that this process was started with, if it was raised since.
static GIVEN: AtomicU64 = AtomicU64::new(UNCHANGED);

/// Raises the soft limit on descriptors to the hard one. For a program, at its start: a library
/// leaves the limits of its process alone. What is executed from then on must get the old limit
/// back ([`restore_descriptors`]), for programs that call select(2) can't use descriptors above
/// 1023.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // No limit at all is none to raise.
    let Some(given) = limit.current else { return };
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        // A second call must not take the raised limit for the one that was given.
        let _ = GIVEN.compare_exchange(UNCHANGED, given, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Puts the soft limit on descriptors back to what this process was started with. For a child,
/// right before it executes another program: it opens nothing any more. Allocates nothing, takes no
/// lock and leaves `errno` alone.
pub fn restore_descriptors() {
    let given = GIVEN.load(Ordering::Relaxed);
    if given != UNCHANGED {
        let limit = Rlimit {
            current: Some(given),
            ..getrlimit(Resource::Nofile)
        };
        // Lowering a limit always succeeds.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Has a write beyond the limit on the size of files (`ulimit -f`) fail, where the signal for it
/// would end this process without a word. For a program, at its start. What is executed from then
/// on must handle the signal by default again, for what is ignored stays ignored.
pub fn fail_beyond_file_size() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed, and none of this program's is taken away.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &ignore) };
}

/// Has all threads allocate from one heap where memory is limited (`ulimit -v`). For a program, at
/// its start. The C library would reserve up to 128 MiB of addresses for each thread that
/// allocates, and use little of them.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    if has_memory_limit() {
        // SAFETY: it sets a number that later allocations look at.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

/// How many bytes a file of this process may have, if there is a limit.
pub fn file_size() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// Has a program that is started by the standard library get the limit that this one was started
/// with, and the signal for files that are too large.
pub fn restore_in(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    let restore = || {
        let _ = raw::handle_by_default(libc::SIGXFSZ);
        restore_descriptors();
        Ok(())
    };
    // SAFETY: it makes a few system calls and nothing else.
    unsafe { command.pre_exec(restore) }
}

/// How many descriptors this process may have open.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// How many more descriptors this process may open now.
pub fn spare_descriptors() -> usize {
    let limit = descriptors();
    let open = std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    // Where that can't be seen, half of them is a guess as good as another.
    limit.saturating_sub(open.unwrap_or(limit / 2))
}

/// Whether that failed for want of descriptors, of this process or of the whole machine.
pub fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(number(error), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether a process or thread could not be made for want of what others give back when they end:
/// descriptors, processes (`ulimit -u`, `pids.max`), memory.
pub fn lacks_means(error: &io::Error) -> bool {
    let lacking = matches!(number(error), Some(libc::EAGAIN | libc::ENOMEM));
    lacking || lacks_descriptors(error)
}

/// What to do about an error that [`lacks_means`] or comes of a limit on the size of files, as the
/// end of a message; nothing for others.
pub fn remedy(error: &io::Error) -> String {
    match number(error) {
        Some(libc::EMFILE) => {
            let limit = descriptors();
            format!("; {limit} files may be open at a time: raise the limit ('ulimit -n')")
        }
        Some(libc::ENFILE) => {
            "; too many files are open on this machine: raise the sysctl 'fs.file-max'".to_owned()
        }
        Some(libc::EAGAIN | libc::ENOMEM) if has_memory_limit() => {
            "; the limit on memory may be reached: raise it ('ulimit -v')".to_owned()
        }
        Some(libc::EAGAIN) => "; no more processes are allowed: raise the limit of the user \
             ('ulimit -u') or of the control group ('pids.max')"
            .to_owned(),
        Some(libc::EFBIG) => match file_size() {
            Some(limit) => {
                format!("; files may have {limit} bytes: raise the limit ('ulimit -f')")
            }
            None => String::new(),
        },
        _ => String::new(),
    }
}

/// Whether this process may map no more than so much memory.
pub(crate) fn has_memory_limit() -> bool {
    getrlimit(Resource::As).current.is_some()
}

/// How much memory this machine has, in bytes.
pub fn memory() -> u64 {
    let told = rustix::system::sysinfo();
    // In units, where it is more than a word holds.
    told.totalram.saturating_mul(told.mem_unit.max(1).into())
}

/// How many threads are worth while for work that keeps a processor busy, `most` at most.
pub fn processors(most: usize) -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a process of its own, for the limits are those of the whole process.
    fn in_shell(script: &str) -> Vec<String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let output = restore_in(&mut command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn children_get_the_limit_that_was_given() {
        let before = in_shell("ulimit -Sn; ulimit -Hn");
        raise_descriptors();
        raise_descriptors();
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
        assert_eq!(in_shell("ulimit -Sn; ulimit -Hn"), before);
    }

    #[test]
    fn what_is_open_is_not_spare() {
        let before = spare_descriptors();
        let files: Vec<_> = (0..500).map(|_| std::fs::File::open("/dev/null")).collect();
        // Other tests of this process open and close files as well.
        assert!(spare_descriptors() < before - 300);
        drop(files);
    }

    #[test]
    fn a_message_says_which_limit_was_met() {
        let remedy = |errno| remedy(&io::Error::from_raw_os_error(errno));
        assert!(remedy(libc::EMFILE).contains("ulimit -n"));
        assert!(remedy(libc::ENFILE).contains("fs.file-max"));
        assert!(remedy(libc::EAGAIN).contains("ulimit -u"));
        assert_eq!(remedy(libc::EACCES), "");
    }

    #[test]
    fn the_machine_has_memory() {
        assert!((64 << 20..1 << 60).contains(&memory()));
    }
}
