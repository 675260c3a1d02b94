//! Machines that forbid namespaces, made by the means that real ones use: limits, filters of system
//! calls, security modules, hidden parts of /proc. Each is a program and arguments that take a
//! command as other arguments.

/// A program, and its arguments up to the command that it is to run.
pub(crate) type Wrapper = Vec<String>;

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Wrapper {
    words.into_iter().map(str::to_owned).collect()
}

/// For an ordinary user: a user namespace in which a setting of `user.*` has this value. Whoever is
/// in it is that user still, and has no capabilities.
pub(crate) fn limited(setting: &str, value: u32) -> Wrapper {
    let line = format!(
        "echo {value} > /proc/sys/user/{setting} && exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\""
    );
    let unshare = "/usr/bin/unshare --user --map-current-user --keep-caps /bin/sh -c";
    words(unshare.split(' ').chain([line.as_str(), "sh"]))
}

/// A filter of system calls that answers new namespaces of these kinds with this errno, and has no
/// clone3, as container runtimes install it. Takes root or no new privileges.
pub(crate) fn filtered(kinds: u32, errno: i32) -> Option<Wrapper> {
    let (seccomp, clone, unshare) = if cfg!(target_arch = "x86_64") {
        (317, 56, 272)
    } else if cfg!(target_arch = "aarch64") {
        (277, 220, 97)
    } else {
        return None;
    };
    let (refuse, absent, allow) = (0x5_0000 | errno, 0x5_0000 | 38, 0x7fff_0000);
    // Number; clone3 (435), clone and unshare are sorted out; the flags are their first argument.
    let code = format!(
        "my @p = ([0x20,0,0,0], [0x15,7,0,435], [0x15,2,0,{clone}], [0x15,1,0,{unshare}], [6,0,0,{allow}],
           [0x20,0,0,16], [0x45,0,1,{kinds}], [6,0,0,{refuse}], [6,0,0,{allow}], [6,0,0,{absent}]);
         my $p = join(q(), map {{ pack(q(SCCL), @$_) }} @p); my $prog = pack(q(Sx6P), scalar @p, $p);
         syscall({seccomp}, 1, 0, $prog) == 0 or die qq(seccomp: $!); exec @ARGV or die qq(exec: $!);"
    );
    Some(words(["/usr/bin/perl", "-e", &code, "--"]))
}

/// All kinds of namespaces, as container runtimes refuse them.
pub(crate) const ALL_KINDS: u32 = 0x7e02_0000;
/// User namespaces alone.
pub(crate) const USER_KIND: u32 = 0x1000_0000;

/// A security module (Landlock) that lets nobody mount, in namespaces of one's own as well. Takes
/// root.
pub(crate) fn mountless() -> Wrapper {
    // Handling the right to make block devices is enough; no right is taken that anybody needs.
    let code = "my $rights = pack(q(Q), 1 << 11); my $set = syscall(444, $rights, 8, 0); $set >= 0 or die qq(landlock: $!);
         syscall(446, $set, 0) == 0 or die qq(landlock: $!); exec @ARGV or die qq(exec: $!);";
    words(["/usr/bin/perl", "-e", code, "--"])
}

/// A mount namespace in which something was mounted first, by lines of shell. Takes root.
pub(crate) fn with_mounts(line: &str) -> Wrapper {
    let line = format!("set -e; {line}; exec \"$@\"");
    words(["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &line, "sh"])
}
