//! Network namespaces: each holds a loopback interface and nothing else, and no two builds ever have one at a time.
//!
//! Making and unmaking one costs more than all the rest of a sandbox. One in which nothing was ever sent, and whose
//! processes are all dead, is as good as new, and serves again.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::action::Action;

const SPARE_MAX: usize = 64;

/// The network namespaces of a run. For one thread only, which changes its own namespace.
#[derive(Debug)]
pub struct Networks {
    /// The folder /proc, open, for a thread that does not see it any more.
    proc: OwnedFd,
    spare: Arc<Mutex<Vec<OwnedFd>>>,
}

/// A network namespace in use. Dropped, it may serve another build: to be done when all processes in it are dead.
#[derive(Debug)]
pub struct Lease {
    namespace: Option<OwnedFd>,
    spare: Arc<Mutex<Vec<OwnedFd>>>,
}

impl Networks {
    /// None yet. /proc must be the machine's own.
    ///
    /// # Errors
    /// When there is no /proc.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            proc: super::user_ns::open_proc()?,
            spare: Arc::default(),
        })
    }

    /// Moves the calling thread into a network namespace that nobody else is in, so that the processes it makes are born
    /// there.
    ///
    /// # Errors
    /// When the kernel makes no new one.
    pub fn enter(&self) -> io::Result<Lease> {
        loop {
            let spare = self
                .spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let Some(namespace) = spare else { break };
            // SAFETY: the descriptor is open.
            let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
            if entered == 0 && self.is_untouched() {
                return Ok(self.lease(namespace));
            }
        }
        Action::Unshare(libc::CLONE_NEWNET)
            .run()
            .and_then(|()| Action::LoopbackUp.run())
            .map_err(io::Error::from_raw_os_error)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = openat(&self.proc, "thread-self/ns/net", flags, Mode::empty())?;
        Ok(self.lease(namespace))
    }

    fn lease(&self, namespace: OwnedFd) -> Lease {
        Lease {
            namespace: Some(namespace),
            spare: Arc::clone(&self.spare),
        }
    }

    /// Whether nothing was ever sent in the namespace that the calling thread is in: ports of past connections stay taken
    /// for a minute, and counters would tell one build of another.
    fn is_untouched(&self) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let Ok(file) = openat(&self.proc, "thread-self/net/dev", flags, Mode::empty()) else {
            return false;
        };
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).is_ok() && only_silent_loopback(&text)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.take() {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < SPARE_MAX {
                spare.push(namespace);
            }
        }
    }
}

/// Reads /proc/net/dev: two lines of headings, then `NAME: COUNTERS` for each interface.
fn only_silent_loopback(text: &str) -> bool {
    let mut interfaces = text.lines().skip(2);
    let silent = |line: &str| {
        line.trim_start()
            .strip_prefix("lo:")
            .is_some_and(|counters| counters.split_ascii_whitespace().all(|count| count == "0"))
    };
    interfaces.next().is_some_and(silent) && interfaces.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: &str = "Inter-|   Receive |  Transmit\n face |bytes packets\n";

    #[test]
    fn only_a_silent_loopback_is_untouched() {
        let dev = |lines: &str| only_silent_loopback(&format!("{HEADINGS}{lines}"));
        assert!(dev("    lo:       0       0    0    0\n"));
        assert!(!dev("    lo:      84       1    0    0\n"));
        assert!(!dev("    lo: 0 0\n  eth0: 0 0\n"));
        assert!(!dev("  eth0: 0 0\n"));
        assert!(!dev(""));
    }

    #[test]
    fn a_namespace_serves_again_unless_something_was_sent() {
        let outcome = std::thread::spawn(|| {
            let networks = Networks::new().unwrap();
            let Ok(lease) = networks.enter() else {
                return None;
            };
            let inode = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let first = inode();
            let other = networks.enter().unwrap();
            let second = inode();
            drop((lease, other));
            let third = { (networks.enter().unwrap(), inode()).1 };
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            let later: Vec<_> = (0..3)
                .map(|_| (networks.enter().unwrap(), inode()))
                .collect();
            let later: Vec<_> = later.into_iter().map(|(_, inode)| inode).collect();
            Some((first, second, third, later))
        });
        let Some((first, second, third, later)) = outcome.join().unwrap() else {
            eprintln!("skipped: this machine makes no network namespaces for us");
            return;
        };
        assert_ne!(first, second);
        assert!(third == first || third == second);
        assert!(!later.contains(&third), "something was sent in it");
    }
}
