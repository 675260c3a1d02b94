//! Machines where there can be no sandbox: one message that names the cause and the remedy, or,
//! with `sandbox-fallback`, a warning that names them and a build without one. The kernel really
//! refuses in each case.

use crate::harness::forbidden::{self, Wrapper};
use crate::harness::{
    Caller, Cmd, SEALED, World, busybox, graph_of, have, is_root, need, sh, skip,
};

/// The command through each of the wrappers, the first one outermost.
fn through(cmd: Cmd, wrappers: &[Wrapper]) -> Cmd {
    wrappers.iter().rev().fold(cmd, |cmd, wrapper| {
        let args: Vec<&str> = wrapper[1..].iter().map(String::as_str).collect();
        cmd.through(&wrapper[0], &args)
    })
}

/// Expects windrow, started by `caller` between `outer` and `inner`, to refuse, and to build with
/// the fallback, saying all of `reasons` either way.
#[track_caller]
fn refuses(outer: &[Wrapper], caller: Caller, inner: &[Wrapper], reasons: &[&str]) {
    let world = World::new();
    world.conf(SEALED);
    world.open_to_all();
    let file = world.graph("g.json", &graph_of([("x", sh("echo x > $out"))]));
    let build = |fallback: &str| {
        let cmd = world.windrow("build").arg(&file);
        let cmd = cmd.args(["--option", "sandbox-fallback", fallback]);
        through(caller.runs(through(cmd, inner)), outer).run()
    };
    let mut ran = build("false").exits(1).one_error().prints_nothing();
    assert_eq!(ran.stderr.lines().count(), 1, "one line is enough\n{ran}");
    for text in reasons
        .iter()
        .chain(&["'sandbox'", "'--option sandbox false'", "sandbox-fallback"])
    {
        ran = ran.says(text);
    }
    let mut ran = build("true").exits(0);
    let warnings = ran.stderr.matches("warning:").count();
    assert_eq!(warnings, 1, "there should be one warning\n{ran}");
    for text in reasons.iter().chain(&["without one", "'sandbox-fallback'"]) {
        ran = ran.says(text);
    }
    assert_eq!(crate::harness::text(ran.path()), "x\n");
    world.is_clean();
    world.stays_valid();
}

/// Somebody other than root: a user that the tests become, or whoever runs them.
fn somebody() -> Option<Caller> {
    if !is_root() {
        return Some(Caller::Self_);
    }
    let probe = Cmd::new(env!("CARGO_BIN_EXE_windrow"), "/".as_ref()).arg("--version");
    let can = have(&["setpriv"]) && Caller::Somebody.runs(probe).run().status.success();
    if !can {
        skip("needs setpriv, and a build directory that every user can read");
    }
    can.then_some(Caller::Somebody)
}

#[test]
fn limits_of_the_kernel_are_named() {
    need!("unshare", "setpriv");
    let Some(caller) = somebody() else { return };
    for kind in ["user", "net", "pid"] {
        let setting = format!("max_{kind}_namespaces");
        let name = format!("user.{setting} is 0");
        let remedy = format!("'sysctl -w user.{setting}=10000'");
        let limit = [forbidden::limited(&setting, 0)];
        refuses(&[], caller, &limit, &[&name, &remedy]);
    }
}

#[test]
fn limits_of_an_outer_namespace_that_can_not_be_seen_are_said_to_be_limits() {
    need!("unshare", "setpriv");
    let Some(caller) = somebody() else { return };
    // The inner one counts as the one that the outer one may have.
    let limits = [
        forbidden::limited("max_user_namespaces", 1),
        forbidden::limited("max_user_namespaces", 5),
    ];
    refuses(
        &[],
        caller,
        &limits,
        &["user.max_*_namespaces", "container"],
    );
}

#[test]
fn a_limit_that_is_reached_later_is_named_as_well() {
    need!("unshare", "setpriv", "busybox");
    let Some(caller) = somebody() else { return };
    let world = World::new();
    world.conf(SEALED);
    world.open_to_all();
    let slow = |n: u32| busybox(&format!("sleep 2; echo {n} > $out"));
    let all = sh("echo @{a} @{b} @{c} > $out");
    let graph = graph_of([("a", slow(1)), ("b", slow(2)), ("c", slow(3)), ("all", all)]);
    let file = world.graph("g.json", &graph);
    let cmd = world.windrow("build").arg(&file).arg("-j3");
    let limit = [forbidden::limited("max_user_namespaces", 1)];
    let ran = caller.runs(through(cmd, &limit)).run().exits(1).no_panic();
    let _ = ran.says("os error 28").says("user.max_*_namespaces");
    world.is_clean();
    world.stays_valid();
}

#[test]
fn filters_of_system_calls_are_named() {
    need!(root);
    need!("perl", "setpriv");
    let Some(caller) = somebody() else { return };
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    for errno in [EPERM, ENOSYS] {
        let filter = forbidden::filtered(forbidden::ALL_KINDS, errno).map(|filter| [filter]);
        let Some(filter) = filter else {
            return skip("the numbers of this machine's system calls are not known to the test");
        };
        let reasons = ["(seccomp)", "seccomp=unconfined"];
        refuses(&filter, caller, &[], &reasons);
        refuses(&filter, Caller::Self_, &[], &reasons);
    }
}

#[test]
fn security_modules_are_named_where_namespaces_come_without_rights() {
    need!(root);
    need!("perl", "setpriv");
    let Some(caller) = somebody() else { return };
    let module = [forbidden::mountless()];
    let reasons = ["namespaces can be made here", "AppArmor", "Landlock"];
    refuses(&module, caller, &[], &reasons);
    refuses(&module, Caller::Self_, &[], &reasons);
}

/// A setting that this machine's kernel may not have, where it would be.
fn setting(name: &str, value: u32) -> Wrapper {
    forbidden::with_mounts(&format!(
        "mount -t tmpfs none /proc/sys/kernel; echo {value} > /proc/sys/kernel/{name}; echo 6.1 > /proc/sys/kernel/osrelease"
    ))
}

#[test]
fn settings_of_distributions_are_named() {
    need!(root);
    need!("perl", "unshare", "setpriv");
    let Some(caller) = somebody() else { return };
    let Some(filter) = forbidden::filtered(forbidden::USER_KIND, 1) else {
        return skip("the numbers of this machine's system calls are not known to the test");
    };
    let debian = [setting("unprivileged_userns_clone", 0), filter];
    let reasons = [
        "kernel.unprivileged_userns_clone is 0",
        "'sysctl -w kernel.unprivileged_userns_clone=1'",
    ];
    refuses(&debian, caller, &[], &reasons);
    let ubuntu = [
        setting("apparmor_restrict_unprivileged_userns", 1),
        forbidden::mountless(),
    ];
    let reasons = [
        "kernel.apparmor_restrict_unprivileged_userns is 1",
        "AppArmor profile",
        "'sysctl -w kernel.apparmor_restrict_unprivileged_userns=0'",
    ];
    refuses(&ubuntu, caller, &[], &reasons);
}

#[test]
fn a_hidden_part_of_proc_is_named() {
    need!(root);
    need!("unshare", "setpriv");
    let Some(caller) = somebody() else { return };
    let hidden = [forbidden::with_mounts("mount -t tmpfs none /proc/sys/vm")];
    let reasons = ["mount a proc", "'/proc' are hidden", "unmask=ALL"];
    refuses(&hidden, caller, &[], &reasons);
}

#[test]
fn a_chroot_is_thought_of() {
    need!(root);
    need!("unshare", "setpriv", "chroot");
    let Some(caller) = somebody() else { return };
    let world = World::new();
    let root = world.at("files/root");
    std::fs::create_dir(&root).unwrap();
    let root = root.display();
    let line = format!("mount --rbind / {root}; set -- chroot {root} \"$@\"");
    let reasons = ["may not make user namespaces here", "chroot"];
    refuses(&[forbidden::with_mounts(&line)], caller, &[], &reasons);
}

#[test]
fn root_without_the_capability_is_told_so() {
    need!(root);
    need!("setpriv");
    let wrapper = ["/usr/bin/setpriv", "--bounding-set=-sys_admin"];
    let wrapper = wrapper.map(str::to_owned).to_vec();
    refuses(
        &[wrapper],
        Caller::Self_,
        &[],
        &["CAP_SYS_ADMIN", "--cap-add SYS_ADMIN"],
    );
}

#[test]
fn a_temporary_directory_that_is_closed_is_no_want_of_namespaces() {
    need!(root);
    need!("setpriv");
    let Some(caller) = somebody() else { return };
    if caller == Caller::Self_ {
        return skip("needs a directory that is closed to the user");
    }
    let world = World::new();
    world.conf(SEALED);
    world.open_to_all();
    let file = world.graph("g.json", &graph_of([("x", sh("echo x > $out"))]));
    let closed = world.at("closed");
    std::fs::create_dir_all(closed.join("tmp")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&closed, mode).unwrap();
    let cmd = world
        .windrow("build")
        .arg(file)
        .env("TMPDIR", closed.join("tmp"));
    let ran = caller.runs(cmd).run().exits(1).one_error();
    let _ = ran
        .says("temporary directory")
        .never_says("namespaces")
        .never_says("security module");
}
