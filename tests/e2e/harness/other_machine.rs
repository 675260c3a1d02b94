//! Another machine with a Nix: an ssh that runs here what it should run there, and a store that
//! lies elsewhere. Knows what ssh is called with.

use std::path::PathBuf;

use super::{Cmd, World, sorted_lines};

/// Another machine. Its store has the store directory of the world's, and other contents.
pub(crate) struct OtherMachine {
    /// The directory with its `ssh`.
    bin: PathBuf,
    /// Where each login is noted.
    log: PathBuf,
    /// The store there, as Nix there knows it.
    pub(crate) store: String,
}

impl OtherMachine {
    /// One whose store is what was set aside by that name, or empty if nothing was.
    pub(crate) fn with_store(world: &World, name: &str) -> Self {
        Self::with_shell(world, name, "exec /bin/sh -c \"$*\"")
    }

    /// The same, and each connection is cut after so many bytes have gone there.
    pub(crate) fn cut_after(world: &World, name: &str, bytes: u32) -> Self {
        let dd = format!("dd bs=64k iflag=count_bytes count={bytes} 2> /dev/null");
        Self::with_shell(world, name, &format!("{dd} | /bin/sh -c \"$*\""))
    }

    fn with_shell(world: &World, name: &str, shell: &str) -> Self {
        let at = |dir: &str| world.at(format!("{name}.{dir}")).display().to_string();
        let store = world.store();
        let store = format!(
            "local?store={}&real={}&state={}&log={}",
            store.display(),
            at("store"),
            at("state"),
            at("log")
        );
        let script = format!("while [ \"$1\" != -- ]; do shift; done; shift 2; {shell}");
        Self::with_ssh(world, store, &script)
    }

    /// One with no store, whose ssh is a script.
    pub(crate) fn failing(world: &World, script: &str) -> Self {
        Self::with_ssh(world, "daemon".to_owned(), script)
    }

    fn with_ssh(world: &World, store: String, script: &str) -> Self {
        let log = world.file("logins");
        let script = format!("echo \"$*\" >> {}\n{script}", log.display());
        let ssh = world.script("bin/ssh", &script);
        let bin = ssh.parent().expect("a directory").to_owned();
        Self { bin, log, store }
    }

    /// The URL of the store, of that kind and with these parameters.
    pub(crate) fn url(&self, kind: &str, parameters: &str) -> String {
        let store = self.store.replace('?', "%3F");
        let store = store.replace('&', "%26").replace('=', "%3D");
        format!("{kind}://builder@there.invalid:2222?remote-store={store}{parameters}")
    }

    /// The command with this ssh.
    pub(crate) fn reached_by(&self, command: Cmd) -> Cmd {
        let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.bin.display());
        command.env("PATH", path)
    }

    /// Whether the store there has the path, all of it as it was registered.
    pub(crate) fn has(&self, world: &World, path: &str) -> bool {
        let verify = world.program("nix-store").arg("--verify-path");
        let verify = verify.args(["--store", &self.store, path]);
        verify.run().status.success()
    }

    /// Expects Nix to find the whole store there in order, contents and all.
    #[track_caller]
    pub(crate) fn verifies(&self, world: &World) {
        world.verifies_with(&["--store", &self.store]);
    }

    /// What ssh was called with, each time.
    pub(crate) fn logins(&self) -> Vec<String> {
        sorted_lines(&self.log)
    }
}
