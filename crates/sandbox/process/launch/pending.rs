//! Starts a child without waiting until it runs its program: what it reads until then stays aboard its flight.
//! For the thread that has other things to do meanwhile.

use std::ffi::c_char;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::child::{Plan, Stack, make};
use super::{Request, SpawnError, Spawned, Streams, null_terminated};

/// Owns what a program is started from.
pub trait Passenger: Send + Sync {
    /// The program to start.
    fn request(&self) -> Request<'_>;
}

/// A child that may not have executed its program yet, and what it needs until then. To drop this while the child is under
/// way leaves the memory to it for good.
pub struct Flight<P: Passenger>(NonNull<Aboard<P>>);

struct Aboard<P> {
    passenger: NonNull<P>,
    /// What the plan points to: the lists of arguments and of the environment.
    _lists: [Vec<*const c_char>; 2],
    stack: Stack,
    plan: Plan,
    /// Not zero while the child uses any of this: the kernel clears it as the child executes its program or exits.
    aloft: AtomicU32,
}

// SAFETY: the pointers are to what the flight owns, which beside it only the child uses, reading it but for atomics. The
// passenger is `Send`.
unsafe impl<P: Passenger> Send for Flight<P> {}
// SAFETY: as above; the passenger is `Sync`.
unsafe impl<P: Passenger> Sync for Flight<P> {}

/// Starts the program that `passenger` asks for in a session of its own, and returns at once: the child may not be a session's
/// leader yet, nor a process group's. What it can't do is told by [`Flight::land`]. It is killed when the calling thread ends.
///
/// # Errors
/// The passenger, and why no process could be made.
pub fn depart<P: Passenger>(
    passenger: P,
    streams: &Streams<'_>,
) -> Result<(Spawned, Flight<P>), (P, SpawnError)> {
    // By pointer from here on, for a box that is moved claims to be the only way to what it holds.
    let passenger = NonNull::from(Box::leak(Box::new(passenger)));
    // SAFETY: it lives until the flight is unloaded.
    let request = unsafe { passenger.as_ref() }.request();
    let lists = [null_terminated(request.args), null_terminated(request.env)];
    let aboard = NonNull::from(Box::leak(Box::new(Aboard {
        passenger,
        plan: Plan::new(&request, streams, &lists[0], &lists[1]),
        _lists: lists,
        stack: Stack::take(),
        aloft: AtomicU32::new(1),
    })));
    let flight = Flight(aboard);
    let aboard = flight.aboard();
    // SAFETY: all of it stays where it is until the flight is unloaded, which is not done while the child is aloft.
    match unsafe {
        make(
            &aboard.plan,
            &aboard.stack,
            request.namespaces,
            &aboard.aloft,
        )
    } {
        Ok(spawned) => Ok((spawned, flight)),
        Err(error) => {
            let error = SpawnError::no_process(error, &request);
            // SAFETY: there is no child.
            Err((unsafe { flight.unload() }, error))
        }
    }
}

impl<P: Passenger> Flight<P> {
    fn aboard(&self) -> &Aboard<P> {
        // SAFETY: it lives until the flight is unloaded, which takes the flight away.
        unsafe { self.0.as_ref() }
    }

    fn is_aloft(&self) -> bool {
        self.aboard().aloft.load(Ordering::Acquire) != 0
    }

    /// Takes the passenger back, and with it why the child could not execute its program, if that is so. Of a child that has
    /// exited that is known.
    ///
    /// # Errors
    /// The flight, if the child is still under way.
    pub fn land(self) -> Result<(P, Option<SpawnError>), Self> {
        if self.is_aloft() {
            return Err(self);
        }
        let aboard = self.aboard();
        // SAFETY: it lives until the flight is unloaded.
        let request = unsafe { aboard.passenger.as_ref() }.request();
        let failure = aboard.plan.failure(&request);
        // SAFETY: the child has left.
        Ok((unsafe { self.unload() }, failure))
    }

    /// # Safety
    /// There must be no child that uses what is aboard.
    unsafe fn unload(self) -> P {
        let flight = ManuallyDrop::new(self);
        // SAFETY: they come from boxes, and nobody uses them any more, says the caller. The flight is not dropped.
        let (aboard, passenger) = unsafe {
            let aboard = *Box::from_raw(flight.0.as_ptr());
            let passenger = *Box::from_raw(aboard.passenger.as_ptr());
            (aboard, passenger)
        };
        aboard.stack.give_back();
        passenger
    }
}

impl<P: Passenger> Drop for Flight<P> {
    fn drop(&mut self) {
        if !self.is_aloft() {
            let landed = Self(self.0);
            // SAFETY: the child has left, and this flight is not used any more.
            drop(unsafe { landed.unload() });
        }
    }
}

impl<P: Passenger> fmt::Debug for Flight<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_aloft() { "aloft" } else { "landed" };
        write!(f, "Flight({state})")
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, CString};
    use std::fs::File;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::path::Path;

    use super::*;
    use crate::process::launch::Step;
    use crate::process::launch::action::{Action, c_path};
    use windrow_sys::call;

    struct Ticket {
        program: CString,
        args: Vec<CString>,
        cwd: CString,
        actions: Vec<Action>,
    }

    impl Ticket {
        fn shell(script: &str) -> Self {
            let args = ["sh", "-c", script];
            Self {
                program: c"/bin/sh".to_owned(),
                args: args.map(|arg| CString::new(arg).unwrap()).into(),
                cwd: c"/".to_owned(),
                actions: Vec::new(),
            }
        }
    }

    impl Passenger for Ticket {
        fn request(&self) -> Request<'_> {
            Request {
                program: Some(&self.program),
                args: &self.args,
                env: &[],
                cwd: &self.cwd,
                personality: 0,
                namespaces: 0,
                actions: &self.actions,
            }
        }
    }

    fn start(ticket: Ticket) -> (Spawned, Flight<Ticket>) {
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let streams = Streams {
            stdin: null.as_fd(),
            output: null.as_fd(),
            error: None,
            builder_log: None,
        };
        depart(ticket, &streams)
            .map_err(|(_, error)| error)
            .unwrap()
    }

    /// Waits for a child; its raw wait status.
    fn wait(child: &Spawned) -> i32 {
        let mut status = 0;
        let none = std::ptr::null::<libc::rusage>();
        // SAFETY: a child of ours, and a place for its status. Raw, for the C library may set errno.
        let pid = unsafe { call!(wait4, child.pid, &raw mut status, 0, none) };
        assert_eq!(pid.ok(), usize::try_from(child.pid).ok());
        status
    }

    fn fail(ticket: Ticket) -> SpawnError {
        let (child, flight) = start(ticket);
        assert_eq!(wait(&child), 127 << 8);
        let (_, failure) = flight.land().unwrap();
        failure.unwrap()
    }

    #[test]
    fn many_run_their_programs_at_a_time() {
        let flights: Vec<_> = (0..64)
            .map(|n| start(Ticket::shell(&format!("exit {n}"))))
            .collect();
        for (n, (child, flight)) in flights.into_iter().enumerate() {
            assert_eq!(wait(&child), (n as i32) << 8);
            let (ticket, failure) = flight.land().unwrap();
            assert!(failure.is_none());
            assert_eq!(ticket.args[2].to_str().unwrap(), format!("exit {n}"));
        }
    }

    #[test]
    fn failures_name_the_step() {
        let missing = c"/there/is/no/such/thing";
        let error = fail(Ticket {
            program: missing.to_owned(),
            ..Ticket::shell("")
        });
        assert_eq!(error.step, Step::Execute);
        assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT));
        let error = fail(Ticket {
            program: c"/".to_owned(),
            ..Ticket::shell("")
        });
        assert_eq!(error.source.raw_os_error(), Some(libc::EACCES));
        let error = fail(Ticket {
            cwd: missing.to_owned(),
            ..Ticket::shell("")
        });
        assert_eq!(error.step, Step::ChangeFolder);
        let write = |path: &CStr| Action::Write {
            path: path.to_owned(),
            contents: c"x".to_owned(),
            needed: true,
        };
        let error = fail(Ticket {
            actions: vec![write(c"/dev/null"), write(missing)],
            ..Ticket::shell("")
        });
        assert_eq!((error.step, error.action), (Step::Isolate, Some(1)));
        assert!(error.to_string().contains("such/thing"), "{error}");
    }

    #[test]
    fn a_failing_child_leaves_errno_to_its_maker() {
        // SAFETY: this thread's own errno.
        let errno = || unsafe { *libc::__errno_location() };
        let (child, flight) = start(Ticket {
            program: c"/there/is/no/such/thing".to_owned(),
            ..Ticket::shell("")
        });
        // SAFETY: as above. The child may have failed before that: then this shows less, but never something wrong.
        unsafe { *libc::__errno_location() = libc::EDOM };
        wait(&child);
        assert_eq!(errno(), libc::EDOM);
        drop(flight);
    }

    /// A child that stays on its way until somebody reads from the FIFO.
    fn delayed(fifo: &Path, script: &str) -> (Spawned, Flight<Ticket>) {
        nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        start(Ticket {
            actions: vec![Action::Write {
                path: c_path(fifo),
                contents: c"x".to_owned(),
                needed: true,
            }],
            ..Ticket::shell(script)
        })
    }

    #[test]
    fn what_is_aboard_stays_until_the_child_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let (child, flight) = delayed(&folder.path().join("a"), "exit 3");
        let flight = flight.land().map(drop).unwrap_err();
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(child.pid, libc::SIGKILL) };
        assert_eq!(wait(&child), libc::SIGKILL);
        let (_, failure) = flight.land().unwrap();
        assert!(failure.is_none());

        let fifo = folder.path().join("b");
        let (child, flight) = delayed(&fifo, "exit 3");
        drop(flight);
        // Whoever takes memory now must not get that of the child.
        let others: Vec<_> = (0..8).map(|_| start(Ticket::shell("exit 4"))).collect();
        std::fs::read(&fifo).unwrap();
        assert_eq!(wait(&child), 3 << 8);
        for (child, flight) in others {
            assert_eq!(wait(&child), 4 << 8);
            assert!(flight.land().is_ok());
        }
    }

    #[test]
    fn its_streams_may_be_closed_at_once() {
        let (ours, theirs) = std::io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let theirs = OwnedFd::from(theirs);
        let streams = Streams {
            stdin: null.as_fd(),
            output: theirs.as_fd(),
            error: None,
            builder_log: None,
        };
        let made = depart(Ticket::shell("echo out; echo err >&2"), &streams);
        let (child, flight) = made.map_err(|(_, error)| error).unwrap();
        drop((null, theirs));
        assert_eq!(std::io::read_to_string(ours).unwrap(), "out\nerr\n");
        assert_eq!(wait(&child), 0);
        assert!(flight.land().is_ok());
    }
}
