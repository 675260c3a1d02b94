//! The collector's socket: processes tell the temporary roots that they add while a collection
//! runs, a path a line, and get a byte back when they may rely on it. What is being deleted is
//! waited for, one path and no longer.

mod clients;

pub(super) use clients::answers_to_client;

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use windrow_sys::mutex;
use windrow_sys::threads::spawn;

use crate::Layout;
use crate::error::{Error, Result};

/// The part of a store path that protects it and all that stands beside it (locks, scratch paths).
pub(super) type HashPart = [u8; 32];

/// How long after its answer a client is expected to have written the root down.
const RECENT: Duration = Duration::from_millis(300);
/// How many roots users may add, all together, who can't write roots down themselves. Only so much
/// memory is theirs.
const STRANGERS_ROOTS: usize = 1 << 20;

/// What collector and clients share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
}

/// What becomes of a root that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It may be relied on.
    Kept,
    /// Its path is being deleted; it may be relied on when that has ended.
    Waits,
    /// There are too many.
    Refused,
}

#[derive(Debug, Default)]
struct State {
    roots: HashSet<HashPart>,
    /// What was told in the last moments, oldest first.
    recent: VecDeque<(Instant, HashPart)>,
    /// How many of the roots came from others than the owner of the store.
    strangers: usize,
    /// What is being deleted now, and how many entries of each hash part.
    pending: HashMap<HashPart, usize>,
    /// Wakes the thread that answers.
    wake: Option<UnixStream>,
    ended: bool,
}

impl State {
    /// A byte for a full pipe is one too many: then it is awake.
    fn wake(&mut self) {
        if let Some(wake) = &mut self.wake {
            let _ = wake.write(b"x");
        }
    }

    fn forget_old(&mut self) {
        while let Some((told, _)) = self.recent.front()
            && told.elapsed() >= RECENT
        {
            self.recent.pop_front();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        mutex::lock(&self.state)
    }

    /// Adds roots that were found before.
    pub(super) fn add_roots(&self, parts: impl IntoIterator<Item = HashPart>) {
        self.lock().roots.extend(parts);
    }

    /// What was told so recently that its owner may not have written it down yet.
    pub(super) fn recent(&self) -> Vec<HashPart> {
        let mut state = self.lock();
        state.forget_old();
        state.recent.iter().map(|(_, part)| *part).collect()
    }

    /// The roots known so far.
    pub(super) fn roots(&self) -> HashSet<HashPart> {
        self.lock().roots.clone()
    }

    /// Marks what may be deleted now; what has become a root is refused, by place.
    pub(super) fn begin(&self, parts: &[Option<HashPart>]) -> Vec<bool> {
        let mut state = self.lock();
        let mut allowed = Vec::with_capacity(parts.len());
        for part in parts {
            let free = part.is_none_or(|part| !state.roots.contains(&part));
            if let Some(part) = part.filter(|_| free) {
                *state.pending.entry(part).or_default() += 1;
            }
            allowed.push(free);
        }
        allowed
    }

    /// Says that something marked has been deleted, or is left alone after all.
    pub(super) fn end(&self, part: Option<HashPart>) {
        let Some(part) = part else { return };
        let mut state = self.lock();
        if let Some(count) = state.pending.get_mut(&part) {
            *count -= 1;
            if *count == 0 {
                state.pending.remove(&part);
                state.wake();
            }
        }
    }

    /// Adds a root that was told, by a stranger or by somebody who can write roots down.
    fn add_root(&self, part: HashPart, stranger: bool) -> Told {
        let mut state = self.lock();
        if stranger && !state.roots.contains(&part) {
            if state.strangers >= STRANGERS_ROOTS {
                return Told::Refused;
            }
            state.strangers += 1;
        }
        state.roots.insert(part);
        state.forget_old();
        state.recent.push_back((Instant::now(), part));
        match state.pending.contains_key(&part) {
            true => Told::Waits,
            false => Told::Kept,
        }
    }

    fn is_being_deleted(&self, part: &HashPart) -> bool {
        let state = self.lock();
        state.pending.contains_key(part) && !state.ended
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }
}

/// Sees to it that there is a socket, if only one that refuses: to be called before the lock is
/// taken that makes clients look for it.
pub(super) fn prepare(layout: &Layout) -> Result<()> {
    let path = layout.gc_socket();
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    match bind(&path).map_err(Error::io("open the collector's socket", &path)) {
        Err(error) if !error.is_want_of_space() => Err(error),
        _ => Ok(()),
    }
}

/// The socket with the thread that answers at it. Dropped, it is closed, and clients see that the
/// collection is over.
pub(super) struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the socket. Only whoever holds the collector's lock may do so.
    ///
    /// Where there is no inode left for it, clients that would add roots wait until the lock is
    /// given back, as they do before the socket is there.
    pub(super) fn start(layout: &Layout, shared: Arc<Shared>) -> Result<Self> {
        let path = layout.gc_socket();
        let bound = bind(&path).map_err(Error::io("open the collector's socket", &path));
        let listener = match bound {
            Err(error) if error.is_want_of_space() => {
                return Ok(Self {
                    shared,
                    thread: None,
                });
            }
            bound => bound?,
        };
        let pair = UnixStream::pair().and_then(|(wake, woken)| {
            wake.set_nonblocking(true)?;
            woken.set_nonblocking(true)?;
            Ok((wake, woken))
        });
        let (wake, woken) = pair.map_err(Error::io("make a pipe for", &path))?;
        shared.lock().wake = Some(wake);
        let state = Arc::clone(&shared);
        let layout = layout.clone();
        let serve = move || clients::serve(&listener, &woken, &layout, &state);
        let thread = spawn("collector", serve).map_err(Error::io("serve", &path))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.wake();
        drop(state);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    // Nobody else may put a socket of theirs there, whatever the umask.
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    // It appears under its name at once: clients of Nix 2.8 take a socket that is missing for an
    // answer.
    let new = format!("{}.tmp-{}", name.to_string_lossy(), std::process::id());
    match fs::remove_file(dir.join(&new)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A socket's address holds 107 bytes; the directory's descriptor makes a short way to it.
    let handle = File::open(dir)?;
    let short = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let listener = UnixListener::bind(Path::new(&short).join(&new))?;
    fs::set_permissions(dir.join(&new), Permissions::from_mode(0o666))?;
    fs::rename(dir.join(&new), path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::{scratch, store_path};
    use crate::roots::temporary::TempRoots;

    #[test]
    fn a_root_is_acknowledged_when_its_deletion_has_ended_and_not_later() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let part = |number: usize| *layout.hash_part(&store_path(number)).unwrap();
        let mut roots = TempRoots::open(&layout).unwrap();
        let lock = File::open(layout.gc_lock()).unwrap();
        lock.lock().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Server::start(&layout, Arc::clone(&shared)).unwrap();
        assert_eq!(
            shared.begin(&[Some(part(1)), Some(part(2)), None]),
            [true; 3]
        );
        // Another path is not waited for.
        roots.add(&[&store_path(3)]).unwrap();
        assert_eq!(shared.begin(&[Some(part(3))]), [false]);
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| roots.add(&[&store_path(1)]).unwrap());
            std::thread::sleep(Duration::from_millis(50));
            assert!(!adding.is_finished());
            shared.end(Some(part(1)));
            adding.join().unwrap();
        });
        assert_eq!(shared.begin(&[Some(part(1))]), [false]);
        drop(server);
        lock.unlock().unwrap();
        roots.add(&[&store_path(5)]).unwrap();
    }

    #[test]
    fn nonsense_is_acknowledged_and_protects_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = scratch(directory.path());
        layout.create_directories(None, false).unwrap();
        let shared = Arc::new(Shared::default());
        let _server = Server::start(&layout, Arc::clone(&shared)).unwrap();
        let mut stream = UnixStream::connect(layout.gc_socket()).unwrap();
        let mut answer = [0];
        for line in [&b"nonsense\n"[..], b"\n", b"\xff\xfe\n", b"/nix/store/x\n"] {
            stream.write_all(line).unwrap();
            std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
            assert_eq!(&answer, b"1");
        }
        assert!(shared.roots().is_empty());
        stream.write_all(&[b'x'; 10_000]).unwrap_or(());
        let mode = layout.gc_socket().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
    }
}
