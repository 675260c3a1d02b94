//! Whether a file system has room: bytes, inodes (one for each file), and what quotas leave to
//! those who write. Looks only. What counts as too little is decided here, for all who ask.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;

use crate::raw::{self, QuotaOf};

/// With fewer bytes than this, whatever failed may have failed for want of them (as Nix 1.8
/// guesses).
const BYTES_LOW: u64 = 8 << 20;
/// The same for inodes: this many, or a sixteenth of all that there are.
const INODES_LOW: u64 = 1024;
/// Which part of all inodes that is at most.
const INODES_PART: u64 = 16;
/// How many bytes a block of a quota's limits is (`QIF_DQBLKSIZE` of linux/quota.h).
const QUOTA_BLOCK: u64 = 1024;

/// What is free on a file system for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free bytes.
    pub bytes: u64,
    /// Free inodes; `None` where the file system makes as many as it needs.
    pub inodes: Option<u64>,
    /// All inodes, used and free.
    all_inodes: u64,
}

impl Room {
    /// That of the file system on which `path` lies.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        let bytes = found
            .blocks_available()
            .saturating_mul(found.fragment_size());
        let all_inodes = found.files();
        Ok(Self {
            bytes,
            inodes: (all_inodes != 0).then(|| found.files_available()),
            all_inodes,
        })
    }

    /// With fewer inodes than this there are too few.
    pub fn inodes_low(&self) -> u64 {
        INODES_LOW.min(self.all_inodes / INODES_PART)
    }

    /// Whether there are too few inodes.
    pub fn has_few_inodes(&self) -> bool {
        self.inodes.is_some_and(|free| free < self.inodes_low())
    }

    /// Whether nothing at all can be written, or no file made.
    pub fn is_none(&self) -> bool {
        self.bytes == 0 || self.inodes == Some(0)
    }
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Bytes.
    Bytes,
    /// Inodes.
    Inodes,
    /// What the quota of that user allows.
    UserQuota(u32),
    /// What the quota of that group allows.
    GroupQuota(u32),
}

/// A want of space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Something on the file system.
    pub path: PathBuf,
    /// What it lacks.
    pub lack: Lack,
}

impl Shortage {
    /// What to do about it, as an imperative.
    pub fn remedy(&self) -> &'static str {
        match self.lack {
            Lack::Bytes => "free some space",
            Lack::Inodes => "delete some files",
            Lack::UserQuota(_) | Lack::GroupQuota(_) => "free some space or raise the quota",
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.lack {
            Lack::Bytes => write!(f, "the disk is nearly full where '{path}' lies"),
            Lack::Inodes => write!(
                f,
                "the file system of '{path}' has hardly any inodes left, so that no more files \
                 can be made"
            ),
            Lack::UserQuota(id) => write!(
                f,
                "the quota of user {id} is nearly used up on the file system of '{path}'"
            ),
            Lack::GroupQuota(id) => write!(
                f,
                "the quota of group {id} is nearly used up on the file system of '{path}'"
            ),
        }
    }
}

/// Where somebody writes, and who that is.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// A directory on each of the file systems. One that is missing is passed over.
    pub paths: Vec<PathBuf>,
    /// Those whose quotas count: users and groups.
    pub owners: Vec<(u32, u32)>,
}

impl Places {
    /// What there is too little of, if anything.
    pub fn shortage(&self) -> Option<Shortage> {
        self.paths.iter().find_map(|path| {
            let lack = self.lack(path)?;
            Some(Shortage {
                path: path.clone(),
                lack,
            })
        })
    }

    fn lack(&self, path: &Path) -> Option<Lack> {
        let room = Room::of(path).ok()?;
        if room.bytes < BYTES_LOW {
            return Some(Lack::Bytes);
        }
        if room.has_few_inodes() {
            return Some(Lack::Inodes);
        }
        let dir = File::open(path).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        // Without quotas, or without the right to ask, the kernel says no.
        let is_used_up = |of, id| {
            raw::quota(dir.as_fd(), of, id).is_ok_and(|quota| is_nearly_used_up(&quota, now))
        };
        self.owners.iter().find_map(|&(uid, gid)| {
            if is_used_up(QuotaOf::User, uid) {
                return Some(Lack::UserQuota(uid));
            }
            is_used_up(QuotaOf::Group, gid).then_some(Lack::GroupQuota(gid))
        })
    }
}

/// Whether little may be added under a quota. A soft limit counts when its time is over.
fn is_nearly_used_up(quota: &libc::dqblk, now: u64) -> bool {
    let limit = |hard: u64, soft: u64, until: u64| match (hard, soft) {
        (_, soft) if soft != 0 && until != 0 && until <= now => Some(soft),
        (0, _) => None,
        (hard, _) => Some(hard),
    };
    let blocks = limit(quota.dqb_bhardlimit, quota.dqb_bsoftlimit, quota.dqb_btime);
    let inodes = limit(quota.dqb_ihardlimit, quota.dqb_isoftlimit, quota.dqb_itime);
    let bytes = blocks.map(|blocks| blocks.saturating_mul(QUOTA_BLOCK));
    bytes.is_some_and(|bytes| bytes.saturating_sub(quota.dqb_curspace) < BYTES_LOW)
        || inodes.is_some_and(|inodes| {
            let low = INODES_LOW.min(inodes / INODES_PART);
            inodes.saturating_sub(quota.dqb_curinodes) <= low
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(inodes: Option<u64>, all_inodes: u64) -> Room {
        Room {
            bytes: 1 << 30,
            inodes,
            all_inodes,
        }
    }

    #[test]
    fn inodes_are_few_in_proportion() {
        assert!(room(Some(7), 128).has_few_inodes());
        assert!(!room(Some(8), 128).has_few_inodes());
        assert!(room(Some(1023), 1 << 20).has_few_inodes());
        assert!(!room(Some(1024), 1 << 20).has_few_inodes());
        assert!(!room(None, 0).has_few_inodes() && !room(None, 0).is_none());
        assert!(room(Some(0), 4).is_none());
        let here = Room::of(&std::env::temp_dir()).unwrap();
        assert!(here.inodes.is_none_or(|free| free <= here.all_inodes));
    }

    #[test]
    fn quotas_end_at_their_hard_limit_or_after_the_grace_of_their_soft_one() {
        // SAFETY: integers only, for which all zeros are valid.
        let none: libc::dqblk = unsafe { std::mem::zeroed() };
        assert!(!is_nearly_used_up(&none, 1000));
        let quota = libc::dqblk {
            dqb_bhardlimit: 100 << 10,
            dqb_bsoftlimit: 10 << 10,
            dqb_ihardlimit: 1600,
            ..none
        };
        let with = |megabytes: u64, files, grace| {
            let quota = libc::dqblk {
                dqb_curspace: megabytes << 20,
                dqb_curinodes: files,
                dqb_btime: grace,
                ..quota
            };
            is_nearly_used_up(&quota, 1000)
        };
        assert!(!with(1, 1, 0));
        assert!(with(93, 1, 0), "the hard limit");
        assert!(!with(20, 1, 2000), "its grace lasts still");
        assert!(with(20, 1, 900), "its grace is over");
        assert!(with(1, 1500, 0) && !with(1, 1499, 0));
    }

    #[test]
    fn what_is_missing_is_passed_over() {
        let places = Places {
            paths: vec!["/no/such/directory".into()],
            owners: vec![(0, 0)],
        };
        assert_eq!(places.shortage(), None);
    }
}
