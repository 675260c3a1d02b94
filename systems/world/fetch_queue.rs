//! Goals on their way to fetching a path.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use bevy_ecs::prelude::Component;

use windrow_store::files::beside::beside;

/// How much of a substituter's standard output is kept: two lines are expected.
const SAID_MAX: usize = 64 * 1024;

/// How many reads of a substituter's standard output a tick makes.
const READS_PER_TICK: usize = 16;

/// What a substituter says on its standard output (Nix 1.8: `outPipe`).
#[derive(Debug, Component)]
#[component(storage = "SparseSet")]
pub struct FetchPipe {
    /// The pipe; `None` after its end.
    pub out: Option<OwnedFd>,
    /// What has come through it.
    pub said: Vec<u8>,
}

impl FetchPipe {
    /// Reads what there is to read now, up to a bound; tells whether there may be more.
    pub fn read(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..READS_PER_TICK {
            let Some(pipe) = &self.out else { return false };
            match nix::unistd::read(pipe, buffer) {
                Ok(count) if count > 0 => {
                    let room = SAID_MAX.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return false,
                Ok(_) | Err(_) => self.out = None,
            }
        }
        self.out.is_some()
    }
}

/// Where a substituter is to put a path: beside it, if there is one that is to be replaced
/// (Nix 1.8: `destPath`).
///
/// Nix 1.8: `LocalStore::repairPath`.
pub(crate) fn destination(real_path: PathBuf, repair: bool) -> PathBuf {
    if !repair {
        return real_path;
    }
    beside(&real_path, ".tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_talks_without_end_is_heard_in_parts_and_not_kept() {
        let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let mut pipe = FetchPipe {
            out: Some(ours),
            said: Vec::new(),
        };
        let mut buffer = [0; 1000];
        let mut heard = 0;
        for _ in 0..8 {
            while nix::unistd::write(&theirs, &[b'x'; 4096]).is_ok() {}
            assert!(pipe.read(&mut buffer), "there is more");
            heard += READS_PER_TICK * buffer.len();
            assert_eq!(pipe.said.len(), heard.min(SAID_MAX));
        }
        drop(theirs);
        while pipe.read(&mut buffer) {}
        assert!(pipe.out.is_none());
    }
}
