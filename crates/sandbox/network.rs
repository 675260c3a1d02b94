//! Network namespaces: each holds a loopback interface and nothing else, and no two builds ever
//! have one at a time.
//!
//! Making and unmaking one costs more than all the rest of a sandbox. One whose processes are all
//! dead serves again if nothing tells it from a new one. A builder has no privileges over it, so
//! all that it can change there are sockets, which die with their processes, and what they leave.
//! What was sent shows in the counters of the loopback interface, the only one there is; what could
//! not be sent, for lack of a route, in those of IPv4 and IPv6. Flow labels outlive their sockets,
//! and are refused by the filter of system calls; they are looked for all the same.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use windrow_sys::mutex;

use crate::process::launch::action::Action;

const SPARE_MAX: usize = 64;

/// The network namespaces of a run. For one thread only, which changes its own namespace.
#[derive(Debug)]
pub struct Networks {
    /// The directory /proc, open, for a thread that does not see it any more.
    proc: OwnedFd,
    spare: Arc<Mutex<Vec<OwnedFd>>>,
    /// What [`COUNTERS`] say in a new one, once there was one.
    fresh: OnceCell<Vec<String>>,
}

/// What shows, below /proc/net, whether a namespace was used in any way that leaves something.
const COUNTERS: [&str; 4] = ["dev", "snmp", "snmp6", "ip6_flowlabel"];

/// A network namespace in use. Dropped, it may serve another build: to be done when all processes
/// in it are dead.
#[derive(Debug)]
pub struct NetnsLease {
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
            proc: crate::ids::user_ns::open_proc()?,
            spare: Arc::default(),
            fresh: OnceCell::new(),
        })
    }

    /// Moves the calling thread into a network namespace that nobody else is in, so that the
    /// processes it makes are born there.
    ///
    /// # Errors
    /// When the kernel makes no new one.
    pub fn enter(&self) -> io::Result<NetnsLease> {
        loop {
            let spare = mutex::lock(&self.spare).pop();
            let Some(namespace) = spare else { break };
            let entered = setns(&namespace, CloneFlags::CLONE_NEWNET);
            if entered.is_ok() && self.is_untouched() {
                return Ok(self.lease(namespace));
            }
        }
        Action::Unshare(libc::CLONE_NEWNET)
            .run()
            .and_then(|()| Action::LoopbackUp.run())
            .map_err(io::Error::from)?;
        if self.fresh.get().is_none()
            && let Some(counters) = self.counters()
        {
            let _ = self.fresh.set(counters);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = openat(&self.proc, "thread-self/ns/net", flags, Mode::empty())?;
        Ok(self.lease(namespace))
    }

    fn lease(&self, namespace: OwnedFd) -> NetnsLease {
        NetnsLease {
            namespace: Some(namespace),
            spare: Arc::clone(&self.spare),
        }
    }

    /// Whether the namespace that the calling thread is in is as it was made: ports of past
    /// connections stay taken for a minute, and counters would tell one build of another.
    fn is_untouched(&self) -> bool {
        let now = self.counters();
        now.is_some() && now.as_ref() == self.fresh.get()
    }

    /// What [`COUNTERS`] say in the namespace that the calling thread is in. `None` if one can't be
    /// read; a kernel without IPv6 has fewer.
    fn counters(&self) -> Option<Vec<String>> {
        let read = |name: &&str| {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let path = format!("thread-self/net/{name}");
            let file = match openat(&self.proc, path.as_str(), flags, Mode::empty()) {
                Err(nix::Error::ENOENT) => return Some(String::new()),
                opened => File::from(opened.ok()?),
            };
            let mut text = String::with_capacity(4096);
            (&file).read_to_string(&mut text).ok()?;
            Some(text)
        };
        COUNTERS.iter().map(read).collect()
    }
}

impl Drop for NetnsLease {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.take() {
            let mut spare = mutex::lock(&self.spare);
            if spare.len() < SPARE_MAX {
                spare.push(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// The namespaces of three builds in a row, and of three more after the last of them has done
    /// something.
    fn namespaces(used: impl FnOnce() + Send + 'static) -> Option<[Vec<std::path::PathBuf>; 2]> {
        let thread = std::thread::spawn(|| {
            let networks = Networks::new().unwrap();
            let Ok(lease) = networks.enter() else {
                eprintln!("skipped: this machine makes no network namespaces for us");
                return None;
            };
            let inode = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let mut before = vec![inode()];
            let other = networks.enter().unwrap();
            before.push(inode());
            drop((lease, other));
            before.push((networks.enter().unwrap(), inode()).1);
            used();
            let after: Vec<_> = (0..3)
                .map(|_| (networks.enter().unwrap(), inode()))
                .collect();
            let after = after.into_iter().map(|(_, inode)| inode).collect();
            Some([before, after])
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_namespace_serves_again_unless_something_was_sent() {
        let sent = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        };
        let Some([before, after]) = namespaces(sent) else {
            return;
        };
        assert_ne!(before[0], before[1]);
        assert!(before[..2].contains(&before[2]));
        assert!(!after.contains(&before[2]), "something was sent in it");
    }

    #[test]
    fn what_could_not_be_sent_tells_a_namespace_from_a_new_one() {
        // Documentation addresses (RFC 5737, RFC 3849), which no route leads to.
        for (from, to) in [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
            let not_sent = move || {
                // A kernel without IPv6 has no such socket.
                if let Ok(socket) = UdpSocket::bind(from) {
                    socket.send_to(b"x", to).unwrap_err();
                }
            };
            let Some([before, after]) = namespaces(not_sent) else {
                return;
            };
            let has_ipv6 = std::path::Path::new("/proc/net/snmp6").exists();
            let same = after.contains(&before[2]);
            assert_eq!(same, from.starts_with('[') && !has_ipv6, "{to}");
        }
    }
}
