//! The filter of system calls: nothing that makes set-user-id files or extended attributes, on any ABI of this machine.
//! A classic BPF program. The kernel runs it for every number as it is installed, so numbers are searched for by halves.

use std::sync::Arc;

use libc::sock_filter;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// What is done about a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Fails with an errno, whatever its arguments.
    Fail(i32),
    /// Fails with EPERM if the argument of that number, a mode, has a set-id bit.
    Mode(u8),
    /// As `Mode`, if the argument of the first number, open flags, makes the call create something.
    Create { flags: u8, mode: u8 },
}

/// A kind of machine: what its ABIs are called in `struct seccomp_data`, and the calls of each.
struct Machine {
    /// The one that the engine itself is of comes first.
    abis: [Abi; 2],
    rows: [Row; 23],
}

/// An ABI.
struct Abi {
    /// `AUDIT_ARCH_…`; 0 for none.
    arch: u32,
    /// A bit that may be set in numbers without making them others, but in -1.
    ignored: u32,
}

impl Abi {
    const fn plain(arch: u32) -> Self {
        Self { arch, ignored: 0 }
    }
}

/// A call by its numbers on the ABIs of a machine, in their order; -1 where it does not exist.
type Row = ([i32; 2], Rule);

/// Numbers of x32 are those of x86-64 with this bit.
#[cfg(any(test, target_arch = "x86_64"))]
const X32: u32 = 0x4000_0000;

const NO_ATTRIBUTES: Rule = Rule::Fail(libc::ENOTSUP);
/// Calls whose arguments a filter can't see. Programs fall back on others, as on kernels that lack them.
const ABSENT: Rule = Rule::Fail(libc::ENOSYS);

/// chmod, fchmod, fchmodat, fchmodat2; open, creat, openat, mknod, mknodat, which take a mode as well; openat2 and
/// io_uring, which hide theirs; and the families of setxattr, getxattr and listxattr.
#[cfg(any(test, target_arch = "x86_64"))]
const X86_64: Machine = Machine {
    abis: [
        Abi {
            arch: 0xc000_003e,
            ignored: X32,
        },
        Abi::plain(0x4000_0003),
    ],
    rows: [
        ([90, 15], Rule::Mode(1)),
        ([91, 94], Rule::Mode(1)),
        ([268, 306], Rule::Mode(2)),
        ([452, 452], Rule::Mode(2)),
        ([2, 5], Rule::Create { flags: 1, mode: 2 }),
        ([257, 295], Rule::Create { flags: 2, mode: 3 }),
        ([85, 8], Rule::Mode(1)),
        ([133, 14], Rule::Mode(1)),
        ([259, 297], Rule::Mode(2)),
        ([437, 437], ABSENT),
        ([425, 425], ABSENT),
        ([188, 226], NO_ATTRIBUTES),
        ([189, 227], NO_ATTRIBUTES),
        ([190, 228], NO_ATTRIBUTES),
        ([191, 229], NO_ATTRIBUTES),
        ([192, 230], NO_ATTRIBUTES),
        ([193, 231], NO_ATTRIBUTES),
        ([194, 232], NO_ATTRIBUTES),
        ([195, 233], NO_ATTRIBUTES),
        ([196, 234], NO_ATTRIBUTES),
        ([463, 463], NO_ATTRIBUTES),
        ([464, 464], NO_ATTRIBUTES),
        ([465, 465], NO_ATTRIBUTES),
    ],
};
#[cfg(any(test, target_arch = "aarch64"))]
const AARCH64: Machine = Machine {
    abis: [Abi::plain(0xc000_00b7), Abi::plain(0x4000_0028)],
    rows: AARCH64_AND_ARM,
};
/// It has the numbers that all new machines have, and no other ABI in use.
#[cfg(any(test, target_arch = "riscv64"))]
const RISCV64: Machine = Machine {
    abis: [Abi::plain(0xc000_00f3), Abi::plain(0)],
    rows: AARCH64_AND_ARM,
};
#[cfg(any(test, target_arch = "aarch64", target_arch = "riscv64"))]
const AARCH64_AND_ARM: [Row; 23] = [
    ([-1, 15], Rule::Mode(1)),
    ([52, 94], Rule::Mode(1)),
    ([53, 333], Rule::Mode(2)),
    ([452, 452], Rule::Mode(2)),
    ([-1, 5], Rule::Create { flags: 1, mode: 2 }),
    ([56, 322], Rule::Create { flags: 2, mode: 3 }),
    ([-1, 8], Rule::Mode(1)),
    ([-1, 14], Rule::Mode(1)),
    ([33, 324], Rule::Mode(2)),
    ([437, 437], ABSENT),
    ([425, 425], ABSENT),
    ([5, 226], NO_ATTRIBUTES),
    ([6, 227], NO_ATTRIBUTES),
    ([7, 228], NO_ATTRIBUTES),
    ([8, 229], NO_ATTRIBUTES),
    ([9, 230], NO_ATTRIBUTES),
    ([10, 231], NO_ATTRIBUTES),
    ([11, 232], NO_ATTRIBUTES),
    ([12, 233], NO_ATTRIBUTES),
    ([13, 234], NO_ATTRIBUTES),
    ([463, 463], NO_ATTRIBUTES),
    ([464, 464], NO_ATTRIBUTES),
    ([465, 465], NO_ATTRIBUTES),
];

#[cfg(target_arch = "x86_64")]
const HERE: Option<Machine> = Some(X86_64);
#[cfg(target_arch = "aarch64")]
const HERE: Option<Machine> = Some(AARCH64);
#[cfg(target_arch = "riscv64")]
const HERE: Option<Machine> = Some(RISCV64);
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
const HERE: Option<Machine> = None;

/// O_CREAT and the bit that tells O_TMPFILE from O_DIRECTORY, which have the same values on all ABIs here.
const CREATES: u32 = 0o100 | 0o20_000_000;

/// The program; `None` on a machine whose system calls it does not know.
pub fn program() -> Option<Arc<[sock_filter]>> {
    HERE.map(|machine| machine.program().into())
}

impl Machine {
    fn program(&self) -> Vec<sock_filter> {
        let mut code = Backwards::default();
        let outcomes = Outcomes::of(&self.rows, &mut code);
        // Calls of an ABI that is none of these are not let through, for nothing is known of their numbers.
        let mut entry = code.put(RETURN, ERRNO | libc::ENOSYS as u32);
        for (index, abi) in self.abis.iter().enumerate().rev() {
            if abi.arch != 0 {
                let rules = self.rules_of(index, abi, &outcomes, &mut code);
                entry = code.branch(EQUAL, abi.arch, rules, entry);
            }
        }
        code.put_before(entry, LOAD, ARCH);
        code.0.reverse();
        code.0
    }

    /// What is done about the calls of one ABI.
    fn rules_of(
        &self,
        index: usize,
        abi: &Abi,
        outcomes: &Outcomes,
        code: &mut Backwards,
    ) -> Place {
        let numbered = self.rows.iter().filter_map(|(numbers, rule)| {
            let number = u32::try_from(numbers[index]).ok()?;
            Some((number, outcomes.place(*rule)))
        });
        let mut numbered: Vec<(u32, Place)> = numbered.collect();
        numbered.sort_unstable_by_key(|(number, _)| *number);
        // From which numbers on something else is done.
        let mut changes = vec![(0, outcomes.allow)];
        for (number, place) in numbered {
            changes.pop_if(|(from, _)| *from == number);
            changes.extend([(number, place), (number + 1, outcomes.allow)]);
        }
        changes.dedup_by_key(|(_, place)| *place);
        let search = code.search(&changes);
        if abi.ignored == 0 {
            return code.put_before(search, LOAD, NUMBER);
        }
        let masked = code.put_before(search, AND, !abi.ignored);
        // -1 is no call of x32, but what a tracer puts in a call's place to skip it.
        let skipped = code.branch(EQUAL, u32::MAX, outcomes.allow, masked);
        code.put_before(skipped, LOAD, NUMBER)
    }
}

/// Where each rule is carried out, once for all ABIs.
struct Outcomes {
    allow: Place,
    rules: Vec<(Rule, Place)>,
}

impl Outcomes {
    fn of(rows: &[Row], code: &mut Backwards) -> Self {
        let allow = code.put(RETURN, ALLOW);
        let refuse = code.put(RETURN, ERRNO | libc::EPERM as u32);
        let mut outcomes = Self {
            allow,
            rules: Vec::new(),
        };
        for &(_, rule) in rows {
            if outcomes.rules.iter().any(|(known, _)| *known == rule) {
                continue;
            }
            let place = match rule {
                Rule::Fail(errno) => code.put(RETURN, ERRNO | errno as u32),
                Rule::Mode(mode) => code.refuse_mode(mode, (refuse, allow)),
                Rule::Create { flags, mode } => {
                    let creates = code.refuse_mode(mode, (refuse, allow));
                    let test = code.branch(ANY_BIT, CREATES, creates, allow);
                    code.put_before(test, LOAD, argument(flags))
                }
            };
            outcomes.rules.push((rule, place));
        }
        outcomes
    }

    fn place(&self, rule: Rule) -> Place {
        let known = self.rules.iter().find(|(known, _)| *known == rule);
        known.map_or(self.allow, |(_, place)| *place)
    }
}

/// A program written from its end, for jumps lead forward only: where they lead to is there already.
#[derive(Default)]
struct Backwards(Vec<sock_filter>);

/// An instruction, by how many there are from it to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(usize);

impl Backwards {
    fn put(&mut self, code: u16, k: u32) -> Place {
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
    fn put_before(&mut self, next: Place, code: u16, k: u32) -> Place {
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
    fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        // What a branch can't reach it is led to by a plain jump; nothing falls through to that.
        let [jt, jf] = [yes, no].map(|to| match u8::try_from(self.distance(to) + 1) {
            Ok(_) => to,
            Err(_) => self.jump(to),
        });
        let [jt, jf] = [jt, jf].map(|to| u8::try_from(self.distance(to)).unwrap_or(u8::MAX));
        self.push(code, k, jt, jf)
    }

    /// Goes to the place of the last of `changes` whose number is not above the one that was loaded.
    fn search(&mut self, changes: &[(u32, Place)]) -> Place {
        match changes.split_at(changes.len() / 2) {
            ([], high) => high[0].1,
            (low, high) => {
                let (below, above) = (self.search(low), self.search(high));
                self.branch(AT_LEAST, high[0].0, above, below)
            }
        }
    }

    /// Refuses a mode, the argument of that number, if it has a set-id bit.
    fn refuse_mode(&mut self, mode: u8, (refuse, allow): (Place, Place)) -> Place {
        let test = self.branch(ANY_BIT, SET_ID, refuse, allow);
        self.put_before(test, LOAD, argument(mode))
    }
}

/// The offset of the low half of an argument; modes and flags have no more bits.
fn argument(number: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGS + 8 * u32::from(number) + low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers to a call, by the rules of the kernel's interpreter.
    fn answer(program: &[sock_filter], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        args.iter()
            .for_each(|value| data.extend(value.to_ne_bytes()));
        let (mut at, mut a) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let branch = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    let bytes = &data[step.k as usize..][..4];
                    a = u32::from_ne_bytes(bytes.try_into().unwrap());
                }
                AND => a &= step.k,
                EQUAL => at += branch(a == step.k),
                AT_LEAST => at += branch(a >= step.k),
                ANY_BIT => at += branch(a & step.k != 0),
                JUMP => at += step.k as usize,
                RETURN => return step.k,
                code => panic!("an instruction the test does not know: {code:#x}"),
            }
        }
    }

    const EPERM: u32 = ERRNO | libc::EPERM as u32;
    const ENOTSUP: u32 = ERRNO | libc::ENOTSUP as u32;
    const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

    /// What an ABI calls the calls that matter, apart from the tables of the filter: arch/x86/entry/syscalls/syscall_64.tbl
    /// and syscall_32.tbl, scripts/syscall.tbl and arch/arm/tools/syscall.tbl of the kernel.
    #[rustfmt::skip]
    const NAMES: [&str; 26] = [
        "chmod", "fchmod", "fchmodat", "fchmodat2", "open", "creat", "openat", "openat2", "mknod", "mknodat",
        "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "getxattr", "lgetxattr", "fgetxattr", "getxattrat",
        "listxattr", "llistxattr", "flistxattr", "listxattrat", "io_uring_setup", "removexattr", "read", "execve",
    ];
    #[rustfmt::skip]
    const ON_X86_64: [i32; 26] = [
        90, 91, 268, 452, 2, 85, 257, 437, 133, 259,
        188, 189, 190, 463, 191, 192, 193, 464,
        194, 195, 196, 465, 425, 197, 0, 59,
    ];
    #[rustfmt::skip]
    const ON_I386: [i32; 26] = [
        15, 94, 306, 452, 5, 8, 295, 437, 14, 297,
        226, 227, 228, 463, 229, 230, 231, 464,
        232, 233, 234, 465, 425, 235, 3, 11,
    ];
    #[rustfmt::skip]
    const ON_NEW_ONES: [i32; 26] = [
        -1, 52, 53, 452, -1, -1, 56, 437, -1, 33,
        5, 6, 7, 463, 8, 9, 10, 464,
        11, 12, 13, 465, 425, 14, 63, 221,
    ];
    #[rustfmt::skip]
    const ON_ARM: [i32; 26] = [
        15, 94, 333, 452, 5, 8, 322, 437, 14, 324,
        226, 227, 228, 463, 229, 230, 231, 464,
        232, 233, 234, 465, 425, 235, 3, 11,
    ];

    // As linux/audit.h makes them of the ELF machine, 64 bits and little endian.
    const fn audit_arch(machine: u32, wide: bool) -> u32 {
        0x4000_0000 | machine | if wide { 0x8000_0000 } else { 0 }
    }

    /// A call's answer to a mode with and without set-id bits, as one who knows what the call does expects it.
    fn expect(program: &[sock_filter], arch: u32, number: u32, name: &str) {
        // The upper half is not the kernel's business and must not be the filter's.
        let ask = |pairs: &[(usize, u32)]| {
            let mut args = [0xdead_beef_0000_0000_u64; 6];
            for &(index, value) in pairs {
                args[index] |= u64::from(value);
            }
            answer(program, arch, number, args)
        };
        let modes = |flags: &[(usize, u32)], mode: usize| {
            for (bits, wanted) in [
                (0o4755, EPERM),
                (0o2755, EPERM),
                (0o6000, EPERM),
                (0o1777, ALLOW),
                (0o644, ALLOW),
            ] {
                let pairs = [flags, &[(mode, bits)]].concat();
                assert_eq!(ask(&pairs), wanted, "{name} on {arch:#x}, mode {bits:o}");
            }
        };
        let opens = |flags: usize| {
            // O_CREAT | O_WRONLY, and O_TMPFILE with every O_DIRECTORY that there is.
            for creating in [0o101, 0o20_200_002, 0o20_040_002] {
                modes(&[(flags, creating)], flags + 1);
            }
            // O_RDONLY | O_DIRECTORY: the mode is left over from something.
            for listing in [0o200_000, 0o40_000, 0] {
                assert_eq!(ask(&[(flags, listing), (flags + 1, 0o6777)]), ALLOW);
            }
        };
        match name {
            "chmod" | "fchmod" | "creat" | "mknod" => modes(&[], 1),
            "fchmodat" | "fchmodat2" | "mknodat" => modes(&[], 2),
            "open" => opens(1),
            "openat" => opens(2),
            "openat2" | "io_uring_setup" => assert_eq!(ask(&[]), ENOSYS, "{name} on {arch:#x}"),
            "removexattr" | "read" | "execve" => {
                assert_eq!(ask(&[(0, u32::MAX), (1, 0o6777), (2, 0o6777)]), ALLOW);
            }
            _ => assert_eq!(ask(&[(0, 0o755)]), ENOTSUP, "{name} on {arch:#x}"),
        }
    }

    #[test]
    fn set_id_bits_and_attributes_are_refused_on_every_abi() {
        let (x86_64, i386) = (audit_arch(62, true), audit_arch(3, false));
        let (aarch64, arm) = (audit_arch(183, true), audit_arch(40, false));
        let riscv64 = audit_arch(243, true);
        let machines = [
            (X86_64, vec![(x86_64, ON_X86_64), (i386, ON_I386)]),
            (AARCH64, vec![(aarch64, ON_NEW_ONES), (arm, ON_ARM)]),
            (RISCV64, vec![(riscv64, ON_NEW_ONES)]),
        ];
        for (machine, abis) in machines {
            let program = machine.program();
            // The kernel's limit on a program, and that on a jump.
            assert!(program.len() < 4096);
            for (arch, numbers) in &abis {
                for (name, &number) in NAMES.iter().zip(numbers) {
                    if let Ok(number) = u32::try_from(number) {
                        expect(&program, *arch, number, name);
                    }
                }
                // Nothing else is refused, whatever it is given.
                let ruled: Vec<i32> = machine.rows.iter().flat_map(|(both, _)| *both).collect();
                for number in (0..600).filter(|number| !ruled.contains(number)) {
                    let answer = answer(&program, *arch, number as u32, [u64::MAX; 6]);
                    assert_eq!(answer, ALLOW, "{number} on {arch:#x}");
                }
            }
            for arch in [x86_64, i386, aarch64, arm, riscv64, 0, 0x1234] {
                if abis.iter().all(|(known, _)| *known != arch) {
                    assert_eq!(answer(&program, arch, 0, [0; 6]), ENOSYS, "{arch:#x}");
                }
            }
        }
    }

    #[test]
    fn branches_lead_as_far_as_they_must() {
        let mut code = Backwards::default();
        let (far, other) = (code.put(RETURN, 1), code.put(RETURN, 2));
        for _ in 0..253 {
            code.put(RETURN, 3);
        }
        // The first reaches one of them itself, the others need help.
        for _ in 0..3 {
            let test = code.branch(EQUAL, 7, far, other);
            let entry = code.put_before(test, LOAD, NUMBER);
            let program: Vec<sock_filter> = code.0[..entry.0].iter().rev().copied().collect();
            assert_eq!(answer(&program, 0, 7, [0; 6]), 1);
            assert_eq!(answer(&program, 0, 8, [0; 6]), 2);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_numbers_of_this_machine_are_those_of_the_c_library() {
        let known = [
            ("chmod", libc::SYS_chmod),
            ("fchmod", libc::SYS_fchmod),
            ("fchmodat", libc::SYS_fchmodat),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("open", libc::SYS_open),
            ("creat", libc::SYS_creat),
            ("openat", libc::SYS_openat),
            ("openat2", libc::SYS_openat2),
            ("mknod", libc::SYS_mknod),
            ("mknodat", libc::SYS_mknodat),
            ("setxattr", libc::SYS_setxattr),
            ("lsetxattr", libc::SYS_lsetxattr),
            ("fsetxattr", libc::SYS_fsetxattr),
            ("getxattr", libc::SYS_getxattr),
            ("lgetxattr", libc::SYS_lgetxattr),
            ("fgetxattr", libc::SYS_fgetxattr),
            ("listxattr", libc::SYS_listxattr),
            ("llistxattr", libc::SYS_llistxattr),
            ("flistxattr", libc::SYS_flistxattr),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("removexattr", libc::SYS_removexattr),
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
        ];
        for (name, number) in known {
            let at = NAMES.iter().position(|known| *known == name).unwrap();
            assert_eq!(i64::from(ON_X86_64[at]), number, "{name}");
        }
    }

    #[test]
    fn x32_numbers_are_those_of_x86_64() {
        let program = X86_64.program();
        let arch = audit_arch(62, true);
        for (name, number) in NAMES.iter().zip(ON_X86_64) {
            expect(&program, arch, number as u32 | X32, name);
        }
        let skipped = answer(&program, arch, u32::MAX, [0, 0o4755, 0, 0, 0, 0]);
        assert_eq!(skipped, ALLOW);
    }
}
