//! Classic BPF programs as the kernel takes them for filters of system calls, written from their
//! end. Knows instructions, jumps and `struct seccomp_data`, and no system calls.

use std::mem::offset_of;

use libc::sock_filter;

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

pub(super) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
pub(super) const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = offset_of!(libc::seccomp_data, nr) as u32;
pub(super) const ARCH: u32 = offset_of!(libc::seccomp_data, arch) as u32;
const ARGS: u32 = offset_of!(libc::seccomp_data, args) as u32;

/// The offset of the low half of an argument. The modes, flags, commands and families that are
/// looked at have no more bits, and the kernel ignores the rest of them.
pub(super) fn argument(number: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGS + 8 * u32::from(number) + low
}

/// A program written from its end, for jumps lead forward only: where they lead to is there
/// already.
#[derive(Default)]
pub(super) struct Backwards(pub(super) Vec<sock_filter>);

/// An instruction, by how many there are from it to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub(super) usize);

/// Numbers in a row, for which the same is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) place: Place,
}

impl Backwards {
    pub(super) fn put(&mut self, code: u16, k: u32) -> Place {
        self.push(code, k, 0, 0)
    }

    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) -> Place {
        self.0.push(sock_filter { code, jt, jf, k });
        Place(self.0.len())
    }

    /// How many instructions a jump that is put now has to skip.
    fn distance(&self, to: Place) -> usize {
        self.0.len() - to.0
    }

    /// An instruction that goes on at `next`.
    pub(super) fn put_before(&mut self, next: Place, code: u16, k: u32) -> Place {
        if self.distance(next) != 0 {
            self.jump(next);
        }
        self.put(code, k)
    }

    fn jump(&mut self, to: Place) -> Place {
        let skip = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.put(JUMP, skip)
    }

    /// A jump that depends on what was loaded.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        // What a branch can't reach it is led to by a plain jump; nothing falls through to that.
        let [jt, jf] = [yes, no].map(|to| match u8::try_from(self.distance(to) + 1) {
            Ok(_) => to,
            Err(_) => self.jump(to),
        });
        let [jt, jf] = [jt, jf].map(|to| u8::try_from(self.distance(to)).unwrap_or(u8::MAX));
        self.push(code, k, jt, jf)
    }

    /// Goes to the place of the run that holds the number that was loaded, and to `other` if none
    /// does. `runs` ascend.
    pub(super) fn search(&mut self, runs: &[Run], other: Place) -> Place {
        // With as few as that it takes fewer instructions to look at each than to go on halving.
        const AT_ONCE: usize = 4;
        if runs.len() > AT_ONCE {
            let (low, high) = runs.split_at(runs.len() / 2);
            let (below, above) = (self.search(low, other), self.search(high, other));
            return self.branch(AT_LEAST, high[0].first, above, below);
        }
        let mut entry = other;
        for run in runs.iter().rev() {
            entry = if run.first == run.last {
                self.branch(EQUAL, run.first, run.place, entry)
            } else {
                let within = self.branch(AT_LEAST, run.first, run.place, other);
                self.branch(AT_LEAST, run.last + 1, entry, within)
            };
        }
        entry
    }

    /// Goes to `yes` if what was loaded is one of `values`, else to `no`.
    pub(super) fn one_of(&mut self, values: &[u32], yes: Place, no: Place) -> Place {
        let mut entry = no;
        for &value in values {
            entry = self.branch(EQUAL, value, yes, entry);
        }
        entry
    }
}
