//! The filter of system calls: nothing that makes set-user-id files or extended attributes, on any ABI of this machine.
//! Written as a classic BPF program, by hand.

use std::sync::Arc;

use libc::sock_filter;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
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

/// A call by its numbers on the ABIs that this machine has, in the order of [`ABIS`]; -1 where it does not exist.
type Row = ([i32; ABIS.len()], Rule);

#[cfg(target_arch = "x86_64")]
const ABIS: [u32; 2] = [0xc000_003e, 0x4000_0003];
#[cfg(target_arch = "aarch64")]
const ABIS: [u32; 2] = [0xc000_00b7, 0x4000_0028];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ABIS: [u32; 0] = [];

/// Numbers of x32 are those of x86-64 with this bit.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const NO_ATTRIBUTES: Rule = Rule::Fail(libc::ENOTSUP);
/// Calls whose arguments a filter can't see. Programs fall back on others, as on kernels that lack them.
const ABSENT: Rule = Rule::Fail(libc::ENOSYS);

/// chmod, fchmod, fchmodat, fchmodat2; open, creat, openat, mknod, mknodat, which take a mode as well; openat2 and
/// io_uring, which hide theirs; and the families of setxattr, getxattr and listxattr.
#[cfg(target_arch = "x86_64")]
const ROWS: [Row; 23] = [
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
];
#[cfg(target_arch = "aarch64")]
const ROWS: [Row; 23] = [
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
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ROWS: [Row; 0] = [];

/// O_CREAT and the bit that tells O_TMPFILE from O_DIRECTORY, which have the same values on all ABIs here.
const CREATES: u32 = 0o100 | 0o20_000_000;

/// The program; `None` on a machine whose system calls it does not know.
pub fn program() -> Option<Arc<[sock_filter]>> {
    if ABIS.is_empty() {
        return None;
    }
    let mut code = vec![statement(LOAD, ARCH)];
    for (abi, &arch) in ABIS.iter().enumerate() {
        let rules = rules_of(abi);
        // An ABI may need more instructions than a jump can skip, so each begins with its own test of the architecture.
        let skip = u32::try_from(rules.len()).unwrap_or(u32::MAX);
        code.push(jump(EQUAL, arch, 1, 0));
        code.push(statement(JUMP, skip));
        code.extend(rules);
    }
    // Calls of an ABI that is none of these are not let through, for nothing is known of their numbers.
    code.push(statement(RETURN, ERRNO | libc::ENOSYS as u32));
    Some(code.into())
}

/// What is done about the calls of one ABI, to its end.
fn rules_of(abi: usize) -> Vec<sock_filter> {
    let mut code = vec![statement(LOAD, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    if abi == 0 {
        // -1 is no call of x32, but what a tracer puts in a call's place to skip it.
        code.push(jump(EQUAL, u32::MAX, 1, 0));
        code.push(statement(AND, !X32));
    }
    for (numbers, rule) in ROWS {
        let Ok(number) = u32::try_from(numbers[abi]) else {
            continue;
        };
        let body = match rule {
            Rule::Fail(errno) => vec![statement(RETURN, ERRNO | errno as u32)],
            Rule::Mode(arg) => vec![
                statement(LOAD, argument(arg)),
                jump(ANY_BIT, SET_ID, 0, 1),
                statement(RETURN, ERRNO | libc::EPERM as u32),
                statement(RETURN, ALLOW),
            ],
            Rule::Create { flags, mode } => vec![
                statement(LOAD, argument(flags)),
                jump(ANY_BIT, CREATES, 0, 3),
                statement(LOAD, argument(mode)),
                jump(ANY_BIT, SET_ID, 0, 1),
                statement(RETURN, ERRNO | libc::EPERM as u32),
                statement(RETURN, ALLOW),
            ],
        };
        code.push(jump(EQUAL, number, 0, body.len() as u8));
        code.extend(body);
    }
    code.push(statement(RETURN, ALLOW));
    code
}

/// The offset of the low half of an argument; modes and flags have no more bits.
fn argument(number: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGS + 8 * u32::from(number) + low
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
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
                ANY_BIT => at += branch(a & step.k != 0),
                JUMP => at += step.k as usize,
                RETURN => return step.k,
                code => panic!("an instruction the test does not know: {code:#x}"),
            }
        }
    }

    #[test]
    fn set_id_bits_and_attributes_are_refused_on_every_abi() {
        let program = program().unwrap();
        let eperm = ERRNO | libc::EPERM as u32;
        for (abi, &arch) in ABIS.iter().enumerate() {
            for (numbers, rule) in ROWS {
                let Ok(number) = u32::try_from(numbers[abi]) else {
                    continue;
                };
                let ask = |args| answer(&program, arch, number, args);
                let with = |pairs: &[(u8, u32)]| {
                    // The upper half is not the kernel's business and must not be the filter's.
                    let mut args = [0xdead_beef_0000_0000_u64; 6];
                    for &(index, value) in pairs {
                        args[index as usize] |= u64::from(value);
                    }
                    ask(args)
                };
                match rule {
                    Rule::Fail(errno) => assert_eq!(ask([0; 6]), ERRNO | errno as u32),
                    Rule::Mode(arg) => {
                        assert_eq!(with(&[(arg, 0o4755)]), eperm);
                        assert_eq!(with(&[(arg, 0o2755)]), eperm);
                        assert_eq!(with(&[(arg, 0o1777)]), ALLOW);
                    }
                    Rule::Create { flags, mode } => {
                        let create = (libc::O_CREAT | libc::O_WRONLY) as u32;
                        assert_eq!(with(&[(flags, create), (mode, 0o4755)]), eperm);
                        assert_eq!(with(&[(flags, create), (mode, 0o755)]), ALLOW);
                        let temporary = (libc::O_TMPFILE | libc::O_RDWR) as u32;
                        assert_eq!(with(&[(flags, temporary), (mode, 0o2700)]), eperm);
                        let list = (libc::O_RDONLY | libc::O_DIRECTORY) as u32;
                        assert_eq!(with(&[(flags, list), (mode, 0o6777)]), ALLOW);
                    }
                }
            }
            assert_eq!(answer(&program, arch, 0, [u64::MAX; 6]), ALLOW);
        }
        let enosys = ERRNO | libc::ENOSYS as u32;
        assert_eq!(answer(&program, 0x1234, 0, [0; 6]), enosys);
        assert!(program.len() < 4096);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn x32_numbers_are_those_of_x86_64() {
        let program = program().unwrap();
        let chmod = answer(&program, ABIS[0], 90 | X32, [0, 0o4755, 0, 0, 0, 0]);
        assert_eq!(chmod, ERRNO | libc::EPERM as u32);
        assert_eq!(
            answer(&program, ABIS[0], u32::MAX, [0, 0o4755, 0, 0, 0, 0]),
            ALLOW
        );
    }
}
