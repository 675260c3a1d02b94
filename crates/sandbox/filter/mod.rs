//! Filters of system calls: what builders may not call, on any ABI of this machine. A classic BPF
//! program. The kernel runs it for every number as it is installed, so numbers are searched for by
//! halves.

mod calls;
mod code;

use std::sync::Arc;

use libc::sock_filter;

use calls::{Calls, FAMILIES, REQUESTS, Row, Rule};
use code::{
    ALLOW, AND, ANY_BIT, ARCH, Backwards, EQUAL, ERRNO, LOAD, NUMBER, Place, RETURN, Run, argument,
};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// O_CREAT and the bit that tells O_TMPFILE from O_DIRECTORY, which have the same values on all
/// ABIs here.
const CREATES: u32 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

/// The programs for the builders of a run. Clones are the same.
#[derive(Debug, Clone)]
pub struct Filter {
    strict: Arc<[sock_filter]>,
    multiplexed: Arc<[sock_filter]>,
}

impl Filter {
    /// `None` on a machine whose system calls it does not know.
    pub fn new() -> Option<Self> {
        let machine = HERE?;
        Some(Self {
            strict: machine.program(&machine.refused(true)).into(),
            multiplexed: machine.program(&machine.refused(false)).into(),
        })
    }

    /// The program for a builder, [whose programs make sockets](makes_sockets_by_socketcall) in
    /// that way or not.
    pub fn program(&self, socketcall: bool) -> &Arc<[sock_filter]> {
        if socketcall {
            &self.multiplexed
        } else {
            &self.strict
        }
    }
}

/// Whether programs of this type of machine make sockets by socketcall(2), whose arguments a filter
/// can't see: the C libraries of i386 do, and know nothing else to fall back on.
pub fn makes_sockets_by_socketcall(system: &str) -> bool {
    system == "i686-linux"
}

/// Another program for builders whose user namespace can't be forbidden to have others in it:
/// none can be made or entered, or with `allowed`, none for cgroups can be made. `None` on a
/// machine whose system calls are not known.
pub fn namespaces(allowed: bool) -> Option<Arc<[sock_filter]>> {
    let machine = HERE?;
    let rows = if allowed {
        machine.calls.cgroup_namespaces
    } else {
        machine.calls.namespaces
    };
    Some(machine.program(rows).into())
}

/// A kind of machine: what its ABIs are called in `struct seccomp_data`, and the calls of each.
struct Machine {
    /// The one that the engine itself is of comes first.
    abis: [Abi; 2],
    calls: Calls,
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

/// A little-endian machine as linux/audit.h makes its name of that of its programs (`EM_…`).
const fn audit_arch(machine: u16, is_64_bit: bool) -> u32 {
    const LITTLE_ENDIAN: u32 = 0x4000_0000;
    const IS_64_BIT: u32 = 0x8000_0000;
    machine as u32 | LITTLE_ENDIAN | if is_64_bit { IS_64_BIT } else { 0 }
}

/// Numbers of x32 are those of x86-64 with this bit.
#[cfg(any(test, target_arch = "x86_64"))]
const X32: u32 = 0x4000_0000;

#[cfg(any(test, target_arch = "x86_64"))]
const X86_64: Machine = Machine {
    abis: [
        Abi {
            arch: audit_arch(libc::EM_X86_64, true),
            ignored: X32,
        },
        Abi::plain(audit_arch(libc::EM_386, false)),
    ],
    calls: calls::X86_64,
};
#[cfg(any(test, target_arch = "aarch64"))]
const AARCH64: Machine = Machine {
    abis: [
        Abi::plain(audit_arch(libc::EM_AARCH64, true)),
        Abi::plain(audit_arch(libc::EM_ARM, false)),
    ],
    calls: calls::AARCH64,
};
#[cfg(any(test, target_arch = "riscv64"))]
const RISCV64: Machine = Machine {
    abis: [Abi::plain(audit_arch(libc::EM_RISCV, true)), Abi::plain(0)],
    calls: calls::RISCV64,
};

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

impl Machine {
    /// The rows of what builders may not do.
    fn refused(&self, socketcall: bool) -> Vec<Row> {
        let multiplexed: &[Row] = if socketcall {
            self.calls.multiplexed
        } else {
            &[]
        };
        let slices = self.calls.rows.iter().copied().chain([multiplexed]);
        slices.flatten().copied().collect()
    }

    fn program(&self, rows: &[Row]) -> Vec<sock_filter> {
        let mut code = Backwards::default();
        let outcomes = Outcomes::of(rows, &mut code);
        // Calls of any other ABI are not let through, for nothing is known of their
        // numbers.
        let mut entry = code.put(RETURN, ERRNO | libc::ENOSYS as u32);
        for (index, abi) in self.abis.iter().enumerate().rev() {
            if abi.arch != 0 {
                let numbers = rows.iter().map(|(numbers, rule)| (numbers[index], *rule));
                let rules = rules_of(numbers, abi, &outcomes, &mut code);
                entry = code.branch(EQUAL, abi.arch, rules, entry);
            }
        }
        code.put_before(entry, LOAD, ARCH);
        code.0.reverse();
        code.0
    }
}

/// What is done about the calls of one ABI.
fn rules_of(
    numbers: impl Iterator<Item = (i32, Rule)>,
    abi: &Abi,
    outcomes: &Outcomes,
    code: &mut Backwards,
) -> Place {
    let numbered = numbers.filter_map(|(number, rule)| {
        let number = u32::try_from(number).ok()?;
        Some((number, outcomes.place(rule)))
    });
    let mut numbered: Vec<(u32, Place)> = numbered.collect();
    numbered.sort_unstable_by_key(|(number, _)| *number);
    let mut runs: Vec<Run> = Vec::new();
    for (number, place) in numbered {
        match runs.last_mut() {
            Some(run) if run.last + 1 == number && run.place == place => run.last = number,
            _ => runs.push(Run {
                first: number,
                last: number,
                place,
            }),
        }
    }
    let search = code.search(&runs, outcomes.allow);
    if abi.ignored == 0 {
        return code.put_before(search, LOAD, NUMBER);
    }
    let masked = code.put_before(search, AND, !abi.ignored);
    // -1 is no call of x32, but what a tracer puts in a call's place to skip it.
    let skipped = code.branch(EQUAL, u32::MAX, outcomes.allow, masked);
    code.put_before(skipped, LOAD, NUMBER)
}

/// Where each rule is carried out, once for all ABIs.
struct Outcomes {
    allow: Place,
    rules: Vec<(Rule, Place)>,
}

impl Outcomes {
    fn of(rows: &[Row], code: &mut Backwards) -> Self {
        let mut outcomes = Self {
            allow: code.put(RETURN, ALLOW),
            rules: Vec::new(),
        };
        for &(_, rule) in rows {
            outcomes.put(rule, code);
        }
        outcomes
    }

    fn place(&self, rule: Rule) -> Place {
        let known = self.rules.iter().find(|(known, _)| *known == rule);
        known.map_or(self.allow, |(_, place)| *place)
    }

    /// Writes down what a rule does, if that is not there yet.
    fn put(&mut self, rule: Rule, code: &mut Backwards) -> Place {
        if let Some((_, place)) = self.rules.iter().find(|(known, _)| *known == rule) {
            return *place;
        }
        let allow = self.allow;
        let place = match rule {
            Rule::Fail(errno) => code.put(RETURN, ERRNO | errno as u32),
            Rule::Mode(mode) => self.put(Rule::AnyBit(mode, SET_ID), code),
            Rule::AnyBit(number, bits) => {
                let refuse = self.put(Rule::Fail(libc::EPERM), code);
                let test = code.branch(ANY_BIT, bits, refuse, allow);
                code.put_before(test, LOAD, argument(number))
            }
            Rule::Create { flags, mode } => {
                let creates = self.put(Rule::Mode(mode), code);
                let test = code.branch(ANY_BIT, CREATES, creates, allow);
                code.put_before(test, LOAD, argument(flags))
            }
            Rule::Request => {
                let refuse = self.put(Rule::Fail(libc::ENOTTY), code);
                let test = code.one_of(REQUESTS, refuse, allow);
                let low = code.put_before(test, AND, 0xffff);
                code.put_before(low, LOAD, argument(1))
            }
            Rule::OneOf(number, values, errno) => {
                let refuse = self.put(Rule::Fail(errno), code);
                let test = code.one_of(values, refuse, allow);
                code.put_before(test, LOAD, argument(number))
            }
            Rule::Family => {
                let unknown = self.put(Rule::Fail(libc::EPROTONOSUPPORT), code);
                let route = code.branch(EQUAL, libc::NETLINK_ROUTE as u32, allow, unknown);
                let netlink = code.put_before(route, LOAD, argument(2));
                let unknown = self.put(Rule::Fail(libc::EAFNOSUPPORT), code);
                let test = code.branch(EQUAL, libc::AF_NETLINK as u32, netlink, unknown);
                let test = code.one_of(FAMILIES, allow, test);
                code.put_before(test, LOAD, argument(0))
            }
            Rule::SocketOption(level, name) => {
                let refuse = self.put(Rule::Fail(libc::ENOPROTOOPT), code);
                let test = code.branch(EQUAL, name, refuse, allow);
                let named = code.put_before(test, LOAD, argument(2));
                let test = code.branch(EQUAL, level, named, allow);
                code.put_before(test, LOAD, argument(1))
            }
        };
        self.rules.push((rule, place));
        place
    }
}

#[cfg(test)]
mod tests;
