//! The URLs of stores that paths may come from: their kinds, and their parameters ([`Params`]).
//! Looks at no file and no network.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use windrow_components::lexical::canonicalise;
use windrow_store::Layout;

use crate::params::{ParamError, Params, decode};

mod host;

pub use host::Host;

/// Why a text is not the URL of a store. URLs are shown without passwords.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is no such kind of store.
    #[error(
        "'{url}' is not the URL of a store: '{kind}' is none of http, https, file, s3, local, unix, \
         ssh and ssh-ng, and a directory needs a slash"
    )]
    UnknownKind {
        /// The URL.
        url: String,
        /// What stands before its colon, or all of it.
        kind: String,
    },
    /// It has another form than URLs of its kind.
    #[error("'{url}' is not the URL of a store: {reason}")]
    Malformed {
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A parameter has a value that it can't have.
    #[error("the store '{url}' can't be used: {source}")]
    Parameter {
        /// The URL.
        url: String,
        /// Which one, and why.
        source: ParamError,
    },
}

/// What kind of store a URL names, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A binary cache behind HTTP: the URL without parameters and without a trailing slash, with
    /// user name and password if they were given.
    Http(String),
    /// A binary cache in a directory, by its absolute path.
    File(PathBuf),
    /// A binary cache in a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What all keys begin with, without slashes around it; mostly empty.
        prefix: String,
    },
    /// A store on this machine; without any place, the machine's own.
    Local(Places),
    /// Nix's `nix-store --serve` on another machine.
    Ssh(Host),
    /// Nix's daemon on another machine.
    SshNg(Host),
    /// Nix's daemon on this machine.
    Daemon {
        /// Its socket, if it isn't the usual one.
        socket: Option<PathBuf>,
    },
}

/// Where the parts of a store on this machine lie, as far as its URL says; absolute paths. The
/// others lie where they do below `root`, or on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// `root`: the directory that nix/store and nix/var lie in.
    pub root: Option<PathBuf>,
    /// `store`: the store directory that its paths name.
    pub store: Option<PathBuf>,
    /// `real`: where the store directory is.
    pub real: Option<PathBuf>,
    /// `state`: where the database's directory is.
    pub state: Option<PathBuf>,
    /// `log`: where logs of builds are.
    pub log: Option<PathBuf>,
}

/// What need not be written in another way in the value of a parameter.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_');

impl Places {
    /// Where the parts of a store are known to lie.
    pub fn of_layout(layout: &Layout) -> Self {
        Self {
            root: None,
            store: Some(PathBuf::from(&layout.store_dir)),
            real: Some(layout.real_store_dir.clone()),
            state: Some(layout.state_dir.clone()),
            log: Some(layout.log_dir.clone()),
        }
    }

    /// The URL of the store.
    pub fn to_url(&self) -> String {
        let places = [
            ("root", &self.root),
            ("store", &self.store),
            ("real", &self.real),
            ("state", &self.state),
            ("log", &self.log),
        ];
        let given = places.into_iter().filter_map(|(name, place)| {
            let bytes = place.as_ref()?.as_os_str().as_bytes();
            Some(format!("{name}={}", percent_encode(bytes, PLAIN)))
        });
        format!("local?{}", given.collect::<Vec<_>>().join("&"))
    }

    /// Takes one parameter; whether it names a place.
    fn take(&mut self, name: &str, value: &[u8]) -> Result<bool, ParamError> {
        let place = match name {
            "root" => &mut self.root,
            "store" => &mut self.store,
            "real" => &mut self.real,
            "state" => &mut self.state,
            "log" => &mut self.log,
            _ => return Ok(false),
        };
        if name == "root" && value.is_empty() {
            return Ok(true);
        }
        let path = path_of(value.to_vec());
        *place = Some(canonicalise(&path).ok_or_else(|| ParamError {
            name: name.to_owned(),
            value: path.to_string_lossy().into_owned(),
            reason: "it should be an absolute path".to_owned(),
        })?);
        Ok(true)
    }
}

/// The URL of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// What it names.
    pub kind: Kind,
    /// Its parameters.
    pub params: Params,
    /// As it was given, without the password.
    shown: String,
}

impl StoreUrl {
    /// Reads a URL, as the setting `substituters` lists them (Nix's `StoreReference::parse`). A
    /// relative path is one from the working directory.
    ///
    /// # Errors
    /// When it names no store.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let shown = redacted(url);
        let (base, query) = match url.split_once('?') {
            Some((base, query)) => (base, query),
            None => (url, ""),
        };
        let kind = kind_of(base).map_err(|fault| fault.error(&shown))?;
        let mut this = Self {
            kind,
            params: Params::default(),
            shown,
        };
        this.take_parameters(query)?;
        Ok(this)
    }

    fn take_parameters(&mut self, query: &str) -> Result<(), UrlError> {
        let mut taken = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                self.params.unknown.push(part.to_owned());
                continue;
            };
            let name = decode(name).and_then(|name| String::from_utf8(name).ok());
            let (Some(name), Some(value)) = (name, decode(value)) else {
                let reason = format!("'{part}' is not percent-encoded as it must be");
                return Err(Fault::Malformed(reason).error(&self.shown));
            };
            // The first of several wins, as for Nix.
            if taken.contains(&name) {
                continue;
            }
            let known = match &mut self.kind {
                Kind::Local(places) => match places.take(&name, &value) {
                    Ok(false) => self.params.take(&name, &value),
                    answer => answer,
                },
                Kind::Ssh(_) | Kind::SshNg(_) => self.params.take_served(&name, &value, true),
                Kind::Daemon { .. } => self.params.take_served(&name, &value, false),
                _ => self.params.take(&name, &value),
            };
            let known = known.map_err(|source| UrlError::Parameter {
                url: self.shown.clone(),
                source,
            })?;
            if !known {
                self.params.unknown.push(name.clone());
            }
            taken.push(name);
        }
        Ok(())
    }

    /// What the store is called in Nix's file of answers ([`crate::lookup`]): the URL without
    /// parameters, without a trailing slash, and without a password. A bucket at an endpoint of its
    /// own has that in its key, which Nix leaves out, and so mixes buckets of the same name up.
    pub fn key(&self) -> String {
        match &self.kind {
            Kind::Http(base) => redacted(base),
            Kind::File(path) => format!("file://{}", path.display()),
            Kind::S3 { bucket, prefix } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                match &self.params.endpoint {
                    Some(endpoint) => format!("s3://{bucket}{slash}{prefix}?endpoint={endpoint}"),
                    None => format!("s3://{bucket}{slash}{prefix}"),
                }
            }
            Kind::Ssh(host) => format!("ssh://{host}"),
            Kind::SshNg(host) => format!("ssh-ng://{host}"),
            Kind::Local(_) => "local".to_owned(),
            Kind::Daemon { .. } => "daemon".to_owned(),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What is wrong with a URL, before it is put beside the URL.
enum Fault {
    UnknownKind(String),
    Malformed(String),
}

impl Fault {
    fn malformed(reason: &str) -> Self {
        Self::Malformed(reason.to_owned())
    }

    fn error(self, url: &str) -> UrlError {
        let url = url.to_owned();
        match self {
            Self::UnknownKind(kind) => UrlError::UnknownKind { url, kind },
            Self::Malformed(reason) => UrlError::Malformed { url, reason },
        }
    }
}

fn kind_of(base: &str) -> Result<Kind, Fault> {
    match base {
        "" => return Err(Fault::malformed("it is empty")),
        "auto" | "local" => return Ok(Kind::Local(Places::default())),
        "daemon" => return Ok(Kind::Daemon { socket: None }),
        _ => {}
    }
    if let Some(root) = base.strip_prefix("local:") {
        let root = root.strip_prefix("//").unwrap_or(root);
        return Ok(local(Some(absolute(root)?)));
    }
    if let Some((scheme, rest)) = base.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            scheme @ ("http" | "https") => http(scheme, rest),
            "file" => Ok(Kind::File(absolute(
                rest.strip_prefix("localhost").unwrap_or(rest),
            )?)),
            "s3" => bucket(rest),
            "ssh" => Ok(Kind::Ssh(host(rest)?)),
            "ssh-ng" => Ok(Kind::SshNg(host(rest)?)),
            "unix" => Ok(Kind::Daemon {
                socket: (!rest.is_empty()).then(|| absolute(rest)).transpose()?,
            }),
            _ => Err(Fault::UnknownKind(scheme.to_owned())),
        };
    }
    // A word may be the name of a kind of store that is yet to come, so a directory has a slash.
    if !base.contains('/') {
        return Err(Fault::UnknownKind(base.to_owned()));
    }
    let path = std::path::absolute(base).map_err(|error| Fault::Malformed(error.to_string()))?;
    Ok(local(canonicalise(&path)))
}

fn local(root: Option<PathBuf>) -> Kind {
    Kind::Local(Places {
        root,
        ..Places::default()
    })
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// The absolute path that is written in a URL.
fn absolute(text: &str) -> Result<PathBuf, Fault> {
    let bytes = decode(text).filter(|bytes| !bytes.contains(&0));
    let bytes = bytes.ok_or_else(|| Fault::malformed("its path is not percent-encoded"))?;
    canonicalise(Path::new(&path_of(bytes)))
        .ok_or_else(|| Fault::malformed("its path should be absolute, with three slashes"))
}

fn http(scheme: &str, rest: &str) -> Result<Kind, Fault> {
    let base = format!("{scheme}://{}", rest.trim_end_matches('/'));
    let url = url::Url::parse(&base).map_err(|error| Fault::Malformed(error.to_string()))?;
    if url.fragment().is_some() {
        return Err(Fault::malformed("it has a fragment, '#'"));
    }
    Ok(Kind::Http(base))
}

fn bucket(rest: &str) -> Result<Kind, Fault> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(allowed) {
        return Err(Fault::malformed("it should name a bucket, as s3://BUCKET"));
    }
    let prefix = decode(prefix).and_then(|prefix| String::from_utf8(prefix).ok());
    let prefix = prefix.ok_or_else(|| Fault::malformed("its prefix is not percent-encoded"))?;
    let prefix = prefix.trim_matches('/').to_owned();
    Ok(Kind::S3 {
        bucket: bucket.to_owned(),
        prefix,
    })
}

/// A host that a program is to be run on.
fn host(rest: &str) -> Result<Host, Fault> {
    Host::parse(rest.trim_end_matches('/')).map_err(Fault::malformed)
}

/// What stands for a password where URLs are shown or written down.
pub(crate) const HIDDEN: &str = "***";

/// A URL with asterisks for its password.
pub(crate) fn redacted(url: &str) -> String {
    let Some(start) = url.find("://").map(|at| at + 3) else {
        return url.to_owned();
    };
    let end = url[start..].find(['/', '?', '#']);
    let end = end.map_or(url.len(), |at| start + at);
    let Some(at) = url[start..end].rfind('@').map(|at| start + at) else {
        return url.to_owned();
    };
    match url[start..at].find(':') {
        Some(colon) => format!("{}:{HIDDEN}{}", &url[..start + colon], &url[at..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
