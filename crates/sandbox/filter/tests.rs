use super::code::{AT_LEAST, JUMP};
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
const EINVAL: u32 = ERRNO | libc::EINVAL as u32;
const ENOTTY: u32 = ERRNO | libc::ENOTTY as u32;
const EAFNOSUPPORT: u32 = ERRNO | libc::EAFNOSUPPORT as u32;
const NO_PROTOCOL: u32 = ERRNO | libc::EPROTONOSUPPORT as u32;
const NO_OPTION: u32 = ERRNO | libc::ENOPROTOOPT as u32;

/// What an ABI calls the calls that matter, apart from the tables of the filter:
/// arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl, scripts/syscall.tbl and
/// arch/arm/tools/syscall.tbl of the kernel.
#[rustfmt::skip]
const NAMES: [&str; 41] = [
    "chmod", "fchmod", "fchmodat", "fchmodat2", "open", "creat", "openat", "openat2", "mknod", "mknodat",
    "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "getxattr", "lgetxattr", "fgetxattr", "getxattrat",
    "listxattr", "llistxattr", "flistxattr", "listxattrat", "io_uring_setup", "removexattr", "read", "execve",
    "add_key", "request_key", "keyctl", "file_setattr", "bpf", "perf_event_open", "userfaultfd", "open_by_handle_at",
    "fcntl", "fcntl64", "ioctl", "socket", "socketpair", "setsockopt", "socketcall",
];
#[rustfmt::skip]
const ON_X86_64: [i32; 41] = [
    90, 91, 268, 452, 2, 85, 257, 437, 133, 259,
    188, 189, 190, 463, 191, 192, 193, 464,
    194, 195, 196, 465, 425, 197, 0, 59,
    248, 249, 250, 469, 321, 298, 323, 304,
    72, -1, 16, 41, 53, 54, -1,
];
#[rustfmt::skip]
const ON_I386: [i32; 41] = [
    15, 94, 306, 452, 5, 8, 295, 437, 14, 297,
    226, 227, 228, 463, 229, 230, 231, 464,
    232, 233, 234, 465, 425, 235, 3, 11,
    286, 287, 288, 469, 357, 336, 374, 342,
    55, 221, 54, 359, 360, 366, 102,
];
#[rustfmt::skip]
const ON_NEW_ONES: [i32; 41] = [
    -1, 52, 53, 452, -1, -1, 56, 437, -1, 33,
    5, 6, 7, 463, 8, 9, 10, 464,
    11, 12, 13, 465, 425, 14, 63, 221,
    217, 218, 219, 469, 280, 241, 282, 265,
    25, -1, 29, 198, 199, 208, -1,
];
#[rustfmt::skip]
const ON_ARM: [i32; 41] = [
    15, 94, 333, 452, 5, 8, 322, 437, 14, 324,
    226, 227, 228, 463, 229, 230, 231, 464,
    232, 233, 234, 465, 425, 235, 3, 11,
    309, 310, 311, 469, 386, 364, 388, 371,
    55, 221, 54, 281, 288, 294, -1,
];

// As linux/audit.h makes them of the ELF machine, 64 bits and little endian.
const fn audit_arch(machine: u32, wide: bool) -> u32 {
    0x4000_0000 | machine | if wide { 0x8000_0000 } else { 0 }
}

/// What a call with these arguments, by their indices, is answered.
type Ask<'a> = &'a dyn Fn(&[(usize, u32)]) -> u32;

/// A call's answer to a mode with and without set-id bits, as one who knows what the call does
/// expects it.
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
        "openat2" | "io_uring_setup" | "file_setattr" | "add_key" | "request_key" | "keyctl"
        | "socketcall" => assert_eq!(ask(&[]), ENOSYS, "{name} on {arch:#x}"),
        "bpf" | "perf_event_open" | "userfaultfd" => {
            assert_eq!(ask(&[]), EPERM, "{name} on {arch:#x}");
        }
        "fcntl" | "fcntl64" | "ioctl" => expect_of_files(&ask, name, arch),
        "socket" | "socketpair" | "setsockopt" => expect_of_sockets(&ask, name, arch),
        "removexattr" | "read" | "execve" | "open_by_handle_at" => {
            assert_eq!(ask(&[(0, u32::MAX), (1, 0o6777), (2, 0o6777)]), ALLOW);
        }
        _ => assert_eq!(ask(&[(0, 0o755)]), ENOTSUP, "{name} on {arch:#x}"),
    }
}

/// As [`expect`], of calls whose second argument says what is done with an open file.
fn expect_of_files(ask: Ask<'_>, name: &str, arch: u32) {
    if name != "ioctl" {
        for (command, wanted) in [(1024, EINVAL), (1040, EINVAL), (1025, ALLOW), (2, ALLOW)] {
            let seen = ask(&[(0, 1024), (1, command), (2, 1024)]);
            assert_eq!(seen, wanted, "{command}");
        }
        return;
    }
    // TIOCSTI, FS_IOC_SETFLAGS of both sizes, FS_IOC_FSSETXATTR, BTRFS_IOC_SUBVOL_CREATE; and
    // TCGETS, FS_IOC_GETFLAGS, SIOCSIFFLAGS.
    for refused in [0x5412, 0x4008_6602, 0x4004_6602, 0x401c_5820, 0x5000_940e] {
        assert_eq!(ask(&[(1, refused)]), ENOTTY, "{refused:#x} on {arch:#x}");
    }
    for allowed in [0x5401, 0x8008_6601, 0x8914] {
        assert_eq!(ask(&[(0, 0x5412), (1, allowed), (2, 0x5412)]), ALLOW);
    }
}

/// As [`expect`], of calls that make sockets or set their options.
fn expect_of_sockets(ask: Ask<'_>, name: &str, arch: u32) {
    if name == "setsockopt" {
        for (level, option, wanted) in [
            (41, 32, NO_OPTION),
            (41, 26, ALLOW),
            (1, 32, ALLOW),
            (32, 41, ALLOW),
        ] {
            assert_eq!(ask(&[(1, level), (2, option)]), wanted, "{level} {option}");
        }
        return;
    }
    let unknown = [0, 15, 17, 21, 38, 40, 43, u32::MAX].map(|family| (family, 1, EAFNOSUPPORT));
    let known = [1, 2, 10].map(|family| (family, 15, ALLOW));
    let netlink = [(16, 0, ALLOW), (16, 15, NO_PROTOCOL), (16, 9, NO_PROTOCOL)];
    for (family, protocol, wanted) in unknown.into_iter().chain(known).chain(netlink) {
        let seen = ask(&[(0, family), (1, 0x80003), (2, protocol)]);
        assert_eq!(seen, wanted, "{name} {family} {protocol} on {arch:#x}");
    }
}

/// An ABI, and what it calls the calls of [`NAMES`].
type Known = (u32, [i32; 41]);

/// The machines with their ABIs, and what those call the calls of [`NAMES`].
fn machines() -> [(Machine, Vec<Known>); 3] {
    let (x86_64, i386) = (audit_arch(62, true), audit_arch(3, false));
    let (aarch64, arm) = (audit_arch(183, true), audit_arch(40, false));
    let riscv64 = audit_arch(243, true);
    [
        (X86_64, vec![(x86_64, ON_X86_64), (i386, ON_I386)]),
        (AARCH64, vec![(aarch64, ON_NEW_ONES), (arm, ON_ARM)]),
        (RISCV64, vec![(riscv64, ON_NEW_ONES)]),
    ]
}

#[test]
fn set_id_bits_and_attributes_are_refused_on_every_abi() {
    for (machine, abis) in machines() {
        let rows = machine.refused(true);
        let program = machine.program(&rows);
        // The kernel's limit on a program, and that on a jump.
        assert!(program.len() < 4096);
        for (index, (arch, numbers)) in abis.iter().enumerate() {
            for (name, &number) in NAMES.iter().zip(numbers) {
                if let Ok(number) = u32::try_from(number) {
                    expect(&program, *arch, number, name);
                }
            }
            // Nothing else is refused, whatever it is given.
            let ruled: Vec<i32> = rows.iter().map(|(numbers, _)| numbers[index]).collect();
            for number in (0..600).filter(|number| !ruled.contains(number)) {
                let answer = answer(&program, *arch, number as u32, [u64::MAX; 6]);
                assert_eq!(answer, ALLOW, "{number} on {arch:#x}");
            }
            // And nothing is there that the tables of this test don't know.
            for number in ruled {
                assert!(
                    number == -1 || numbers.contains(&number),
                    "{number} on {arch:#x}"
                );
            }
        }
        let archs = machines().map(|(_, abis)| abis).into_iter().flatten();
        for arch in archs.map(|(arch, _)| arch).chain([0, 0x1234]) {
            if abis.iter().all(|(known, _)| *known != arch) {
                assert_eq!(answer(&program, arch, 0, [0; 6]), ENOSYS, "{arch:#x}");
            }
        }
    }
}

#[test]
fn only_programs_that_know_nothing_else_may_call_socketcall() {
    let i386 = audit_arch(3, false);
    let [strict, lax] = [true, false].map(|refused| X86_64.program(&X86_64.refused(refused)));
    let at = |name: &str| NAMES.iter().position(|known| *known == name).unwrap();
    let socketcall = ON_I386[at("socketcall")] as u32;
    assert_eq!(answer(&strict, i386, socketcall, [1; 6]), ENOSYS);
    assert_eq!(answer(&lax, i386, socketcall, [1; 6]), ALLOW);
    for (name, number) in NAMES.iter().zip(ON_I386) {
        if *name != "socketcall" && number != -1 {
            expect(&lax, i386, number as u32, name);
        }
    }
    assert!(makes_sockets_by_socketcall("i686-linux"));
    assert!(!makes_sockets_by_socketcall("x86_64-linux"));
}

#[test]
fn namespaces_are_refused_on_every_abi_or_only_those_of_cgroups() {
    // unshare, clone, clone3, setns.
    let numbers = [
        vec![[272, 56, 435, 308], [310, 120, 435, 346]],
        vec![[97, 220, 435, 268], [337, 120, 435, 375]],
        vec![[97, 220, 435, 268]],
    ];
    let new = [
        0x1000_0000,
        0x0002_0000,
        0x2000_0000,
        0x4000_0000,
        0x0800_0000,
        0x0400_0000,
        0x0200_0000,
    ];
    for ((machine, abis), numbers) in machines().into_iter().zip(numbers) {
        let none = machine.program(machine.calls.namespaces);
        let some = machine.program(machine.calls.cgroup_namespaces);
        for ((arch, _), [unshare, clone, clone3, setns]) in abis.into_iter().zip(numbers) {
            let ask = |program: &[sock_filter], number, flags: u64| {
                answer(program, arch, number, [flags, u64::MAX, 0, 0, 0, 0])
            };
            for call in [unshare, clone] {
                for flag in new {
                    assert_eq!(ask(&none, call, flag | 17), EPERM, "{flag:#x} on {arch:#x}");
                    let wanted = if flag == 0x0200_0000 { EPERM } else { ALLOW };
                    assert_eq!(
                        ask(&some, call, flag | 17),
                        wanted,
                        "{flag:#x} on {arch:#x}"
                    );
                }
                // Those of a thread, and of vfork with SIGCHLD.
                for flags in [0x003d_0f00, 0x4111] {
                    assert_eq!(ask(&none, call, flags), ALLOW, "{flags:#x} on {arch:#x}");
                }
            }
            assert_eq!(ask(&none, unshare, 0x80), EPERM);
            for program in [&none, &some] {
                assert_eq!(ask(program, clone3, 0), ENOSYS);
            }
            assert_eq!((ask(&none, setns, 3), ask(&some, setns, 3)), (EPERM, ALLOW));
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
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("keyctl", libc::SYS_keyctl),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("fcntl", libc::SYS_fcntl),
        ("ioctl", libc::SYS_ioctl),
        ("socket", libc::SYS_socket),
        ("socketpair", libc::SYS_socketpair),
        ("setsockopt", libc::SYS_setsockopt),
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
    let program = X86_64.program(&X86_64.refused(true));
    let arch = audit_arch(62, true);
    for (name, number) in NAMES.iter().zip(ON_X86_64) {
        if number == -1 {
            continue;
        }
        expect(&program, arch, number as u32 | X32, name);
    }
    let skipped = answer(&program, arch, u32::MAX, [0, 0o4755, 0, 0, 0, 0]);
    assert_eq!(skipped, ALLOW);
}
