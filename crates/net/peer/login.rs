//! The command that runs a program on another machine: ssh with the options that Nix gives it, or
//! the program itself where that machine is this one.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use windrow_components::shell_word::quoted;

use crate::params::Login;
use crate::peer::words::split;
use crate::store_url::Host;

/// What is to be run, and where.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) host: &'a Host,
    pub(super) login: &'a Login,
    /// The program, where the URL names none.
    pub(super) program: &'a str,
    pub(super) args: &'a [&'a str],
    /// How long a connection may take; zero for no limit.
    pub(super) connect_timeout: Duration,
    /// Whether people may be asked for a password.
    pub(super) may_ask: bool,
}

impl Run<'_> {
    /// The command, and the file that it reads.
    ///
    /// # Errors
    /// When `options`, the variable `NIX_SSHOPTS`, can't be taken apart, or the file not be
    /// written.
    pub(super) fn command(&self, options: &str) -> Result<(Command, Option<KnownHosts>), String> {
        let program = self.login.program.iter().map(String::as_str);
        let mut words: Vec<&str> = program.collect();
        if words.is_empty() {
            words.push(self.program);
        }
        words.extend(self.args);
        if self.host.is_here() {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            if let Some(store) = &self.login.store {
                command.args(["--store", store]);
            }
            return Ok((command, None));
        }
        let known_hosts = self.known_hosts().transpose();
        let known_hosts = known_hosts
            .map_err(|error| format!("cannot write a file with the key of the host: {error}"))?;
        let mut command = Command::new("ssh");
        command.args(self.options(options, known_hosts.as_ref())?);
        command.arg("--").arg(self.host.login()).args(words);
        if let Some(store) = &self.login.store {
            // Over there a shell reads it.
            command.args(["--store", &quoted(store)]);
        }
        Ok((command, known_hosts))
    }

    /// The options of ssh: of several that contradict each other it takes the first.
    fn options(
        &self,
        given: &str,
        known_hosts: Option<&KnownHosts>,
    ) -> Result<Vec<OsString>, String> {
        let given = split(given).map_err(|error| format!("in NIX_SSHOPTS {error}"))?;
        let mut options: Vec<OsString> = vec!["-x".into()];
        options.extend(given.into_iter().map(OsString::from));
        if let Some(key) = &self.login.key {
            options.extend(["-i".into(), key.clone().into_os_string()]);
        }
        if let Some(KnownHosts(path)) = known_hosts {
            let mut option = OsString::from("-oUserKnownHostsFile=");
            option.push(path);
            options.push(option);
        }
        if self.login.compress {
            options.push("-C".into());
        }
        if let Some(port) = self.host.port {
            options.push(format!("-p{port}").into());
        }
        if !self.connect_timeout.is_zero() {
            let seconds = self.connect_timeout.as_secs().max(1);
            options.push(format!("-oConnectTimeout={seconds}").into());
        }
        if !self.may_ask {
            options.push("-oBatchMode=yes".into());
        }
        Ok(options)
    }

    /// The file with the host's key, if that was given.
    fn known_hosts(&self) -> Option<io::Result<KnownHosts>> {
        let key = self.login.host_key.as_ref()?;
        let name = &self.host.name;
        let name = match self.host.port {
            // What ssh looks for at another port than its own.
            Some(port) if port != 22 => format!("[{name}]:{port}"),
            _ => name.clone(),
        };
        Some(KnownHosts::write(
            &std::env::temp_dir(),
            &format!("{name} {key}\n"),
        ))
    }
}

/// A file with the key of a host, which is deleted in the end.
#[derive(Debug)]
pub(super) struct KnownHosts(PathBuf);

impl KnownHosts {
    fn write(dir: &Path, text: &str) -> io::Result<Self> {
        let mut number = 0;
        loop {
            let name = format!("windrow-known-hosts-{}-{number}", std::process::id());
            let path = dir.join(name);
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    let this = Self(path);
                    file.write_all(text.as_bytes())?;
                    return Ok(this);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for KnownHosts {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_url::{Kind, StoreUrl};

    /// The words of the command for a URL, and the file of known hosts.
    fn words(url: &str, options: &str) -> (Vec<String>, Option<KnownHosts>) {
        let url = StoreUrl::parse(url).unwrap();
        let Kind::Ssh(host) = &url.kind else {
            panic!("{url}");
        };
        let run = Run {
            host,
            login: &url.params.login,
            program: "nix-store",
            args: &["--serve"],
            connect_timeout: Duration::from_secs(5),
            may_ask: false,
        };
        let (command, file) = run.command(options).unwrap();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned());
        (words.collect(), file)
    }

    #[test]
    fn ssh_is_called_with_what_the_url_and_the_environment_say() {
        let plain = words("ssh://h", "").0.join(" ");
        let rest = "-oConnectTimeout=5 -oBatchMode=yes -- ";
        assert_eq!(plain, format!("ssh -x {rest}h nix-store --serve"));
        let url = "ssh://u@[::1]:23?ssh-key=/k%20k&compress=1&remote-program=sudo%20nix-store\
            &remote-store=/x%20y";
        let (words, _) = words(url, "-v -o 'ProxyCommand=a b'");
        let expected = "ssh -x -v -o ProxyCommand=a b -i /k k -C -p23 ";
        let command = "u@::1 sudo nix-store --serve --store '/x y'";
        assert_eq!(words.join(" "), format!("{expected}{rest}{command}"));
        assert_eq!(words[4], "ProxyCommand=a b");
    }

    #[test]
    fn on_this_machine_the_program_is_run_itself() {
        let (words, _) = words("ssh://localhost?remote-store=/x%20y&compress=1", "-v");
        assert_eq!(words, ["nix-store", "--serve", "--store", "/x y"]);
    }

    #[test]
    fn the_key_of_a_host_is_in_a_file_as_long_as_it_is_needed() {
        for (host, name) in [("h", "h"), ("h:22", "h"), ("[::1]:23", "[::1]:23")] {
            let url = format!("ssh://{host}?base64-ssh-public-host-key=c3NoLWVkMjU1MTkgQUFB");
            let (words, file) = words(&url, "");
            let KnownHosts(path) = file.as_ref().unwrap();
            let option = format!("-oUserKnownHostsFile={}", path.display());
            assert!(words.contains(&option), "{words:?}");
            let text = fs::read_to_string(path).unwrap();
            assert_eq!(text, format!("{name} ssh-ed25519 AAA\n"));
            let path = path.clone();
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn options_that_can_not_be_taken_apart_are_an_error() {
        let url = StoreUrl::parse("ssh://h").unwrap();
        let Kind::Ssh(host) = &url.kind else {
            panic!("{url}");
        };
        let run = Run {
            host,
            login: &url.params.login,
            program: "nix-store",
            args: &[],
            connect_timeout: Duration::ZERO,
            may_ask: true,
        };
        let error = run.command("-o 'x").unwrap_err();
        assert_eq!(error, "in NIX_SSHOPTS a quote, ', is not closed");
        let (command, _) = run.command("").unwrap();
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args, ["-x", "--", "h", "nix-store"]);
    }
}
