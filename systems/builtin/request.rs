//! What a builder of the engine is told, as one text on its standard input. Never by variables: a
//! loader, a C library or another library would obey those that a derivation chooses.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

/// Everything that a builder of the engine works from.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Which builder, without `builtin:`.
    pub(crate) builder: String,
    /// The derivation's attributes.
    pub(crate) attributes: BTreeMap<String, String>,
    /// Whether it runs in a sandbox.
    pub(crate) sandbox: bool,
    /// Only for a builder that fetches.
    pub(crate) network: Network,
}

/// What the engine knows of the network.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// Where to look first, in order.
    pub(crate) mirrors: Vec<Mirror>,
    /// The file with the certificate authorities to trust, as the builder sees it.
    pub(crate) certificates: Option<PathBuf>,
    /// Variables that name proxies, of the engine's environment.
    pub(crate) proxies: BTreeMap<String, String>,
    /// The text of the file with user names and passwords.
    pub(crate) netrc: String,
    /// Seconds a connection may take to open; 0 for the default.
    pub(crate) connect_timeout_s: u64,
    /// Seconds that may pass without a byte; 0 for no limit.
    pub(crate) stalled_timeout_s: u64,
}

/// A place that may have a file under its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mirror {
    /// Its whole address.
    pub(crate) address: String,
    /// Where the builder sees the file that a `file:` address names.
    pub(crate) file: Option<PathBuf>,
}

impl Request {
    /// A file in memory with this request, to be read from its beginning.
    ///
    /// # Errors
    /// When the system gives no such file.
    pub(crate) fn to_file(&self) -> io::Result<File> {
        let mut file = File::from(memfd_create(c"windrow-request", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        Ok(file)
    }

    /// Takes the request from standard input, and leaves that empty: an address such as
    /// `file:///proc/self/fd/0` must not make an output of the passwords in it.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take() -> Result<Self, String> {
        let mut text = Vec::new();
        let failed = |error: io::Error| format!("cannot read what is to be built: {error}");
        io::stdin().read_to_end(&mut text).map_err(failed)?;
        let null = File::open("/dev/null").map_err(failed)?;
        nix::unistd::dup2_stdin(&null).map_err(|errno| failed(errno.into()))?;
        serde_json::from_slice(&text)
            .map_err(|error| format!("this is for windrow itself to use: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let request = Request {
            builder: "fetchurl".to_owned(),
            attributes: [("url".to_owned(), "\"\n\\ü".to_owned())].into(),
            sandbox: true,
            network: Network {
                mirrors: vec![Mirror {
                    address: "file:///m".to_owned(),
                    file: Some("/x".into()),
                }],
                netrc: "machine m".to_owned(),
                ..Network::default()
            },
        };
        let text = io::read_to_string(request.to_file().unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }
}
