//! The parameters of a store's URL, what follows the question mark: names and values as Nix has
//! them. Knows nothing of what a store does with them.

use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;

use crate::compression::Compression;

/// Why a parameter is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its parameter '{name}' can't be '{value}': {reason}")]
pub struct ParamError {
    /// The parameter's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it should be instead.
    pub reason: String,
}

/// How the addresses of objects in a bucket are formed (`addressing-style`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AddressingStyle {
    /// The bucket is part of the host for AWS, and of the path for other endpoints and for buckets
    /// with a dot.
    #[default]
    Auto,
    /// `https://ENDPOINT/BUCKET/KEY`.
    Path,
    /// `https://BUCKET.ENDPOINT/KEY`.
    Virtual,
}

/// How a program is run on another machine; what is not given is `None`, false or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// `ssh-key`: the file with the key to log in with.
    pub key: Option<PathBuf>,
    /// `base64-ssh-public-host-key`: the key of that machine, as ssh's file of known hosts has it.
    pub host_key: Option<String>,
    /// `compress`: what is sent is compressed on the way.
    pub compress: bool,
    /// `remote-program`: the program, and arguments before all others.
    pub program: Vec<String>,
    /// `remote-store`: the URL of the store there.
    pub store: Option<String>,
    /// `max-connections`: how often to be logged in at a time.
    pub max_connections: Option<NonZero<u16>>,
}

/// The parameters of a store's URL; what is not given is `None`, false or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// `priority`: lower is asked first; overrides the cache's own.
    pub priority: Option<i64>,
    /// `trusted`: its paths need no signature.
    pub trusted: bool,
    /// `want-mass-query`: may be asked for many paths at once; overrides the cache's own.
    pub want_mass_query: Option<bool>,
    /// `compression` of the NARs that are written.
    pub compression: Option<Compression>,
    /// `compression-level`; Nix's -1, which is the compression's default, is `None`.
    pub compression_level: Option<i32>,
    /// `parallel-compression`: with a thread for each processor.
    pub parallel_compression: Option<bool>,
    /// `secret-key` and `secret-keys`: files with keys to sign what is written.
    pub secret_keys: Vec<PathBuf>,
    /// `write-nar-listing`: a `.ls` file is written for each path.
    pub write_nar_listing: bool,
    /// `index-debug-info`: files with debugging information are listed by build id.
    pub index_debug_info: bool,
    /// `retry-attempts`: how often a request is made at most, the first time included.
    pub retry_attempts: Option<u32>,
    /// `retry-delay`: the first wait before a request is made again, in ms.
    pub retry_delay: Option<u64>,
    /// `retry-delay-rate-limited`: the same after an answer 429 or 503, in ms.
    pub retry_delay_rate_limited: Option<u64>,
    /// `retry-max-delay`: the longest wait, in ms.
    pub retry_max_delay: Option<u64>,
    /// `connect-timeout`, in seconds; 0 for none.
    pub connect_timeout: Option<u64>,
    /// `stalled-timeout`: how long a transfer may stand still, in seconds; 0 for ever. windrow's
    /// own, for Nix has only a setting.
    pub stalled_timeout: Option<u64>,
    /// `region` of a bucket.
    pub region: Option<String>,
    /// `profile` in the file with credentials.
    pub profile: Option<String>,
    /// `endpoint`: where a bucket is served, as `https://HOST:PORT` or `HOST:PORT`.
    pub endpoint: Option<String>,
    /// `scheme`: http or https, where `endpoint` does not say.
    pub scheme: Option<String>,
    /// `addressing-style` of a bucket.
    pub addressing_style: AddressingStyle,
    /// Those of a store on another machine.
    pub login: Login,
    /// What else was given and has no effect, to be warned of: names, or parts without an equal
    /// sign.
    pub unknown: Vec<String>,
}

impl Params {
    /// Takes one parameter; whether it is known.
    ///
    /// # Errors
    /// When its value is none that it can have.
    pub(crate) fn take(&mut self, name: &str, value: &[u8]) -> Result<bool, ParamError> {
        if matches!(name, "secret-key" | "secret-keys") {
            let files = value.split(|&byte| byte == b',' && name == "secret-keys");
            let files = files.filter(|file| !file.is_empty());
            self.secret_keys
                .extend(files.map(|file| PathBuf::from(OsString::from_vec(file.to_vec()))));
            return Ok(true);
        }
        let text = str::from_utf8(value)
            .map_err(|_| bad(name, &String::from_utf8_lossy(value), "it is not UTF-8"))?;
        let given = Given { name, text };
        Ok(self.take_common(given)? || self.take_retries(given)? || self.take_bucket(given)?)
    }

    /// The same for a store that a program serves, `remote` if that is on another machine: what is
    /// for binary caches only is not known.
    ///
    /// # Errors
    /// As [`Params::take`].
    pub(crate) fn take_served(
        &mut self,
        name: &str,
        value: &[u8],
        remote: bool,
    ) -> Result<bool, ParamError> {
        let has_effect = matches!(
            name,
            "priority"
                | "trusted"
                | "want-mass-query"
                | "connect-timeout"
                | "stalled-timeout"
                | "secret-key"
                | "secret-keys"
        );
        match has_effect {
            true => self.take(name, value),
            false if remote => self.take_login(name, value),
            false => Ok(false),
        }
    }

    fn take_login(&mut self, name: &str, value: &[u8]) -> Result<bool, ParamError> {
        let path = || OsString::from_vec(value.to_vec()).into();
        let text = str::from_utf8(value)
            .map_err(|_| bad(name, &String::from_utf8_lossy(value), "it is not UTF-8"));
        let login = &mut self.login;
        match name {
            "ssh-key" => login.key = (!value.is_empty()).then(path),
            "base64-ssh-public-host-key" => {
                let text = text?;
                let key = BASE64_STANDARD.decode(text).ok();
                let key = key.and_then(|key| String::from_utf8(key).ok());
                let key = key.map(|key| key.trim().to_owned());
                let key = key.filter(|key| !key.contains(char::is_control));
                let reason = "it should be a key as ssh writes it, in base 64";
                let key = key.ok_or_else(|| bad(name, text, reason))?;
                login.host_key = (!key.is_empty()).then_some(key);
            }
            "compress" => login.compress = Given { name, text: text? }.boolean()?,
            "remote-program" => {
                let words = text?.split_ascii_whitespace();
                login.program = words.map(str::to_owned).collect();
            }
            "remote-store" => {
                let text = text?;
                login.store = (!text.is_empty()).then(|| text.to_owned());
            }
            "max-connections" => {
                let given = Given { name, text: text? };
                login.max_connections = Some(given.number()?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_common(&mut self, given: Given<'_>) -> Result<bool, ParamError> {
        match given.name {
            "priority" => self.priority = Some(given.number()?),
            "trusted" => self.trusted = given.boolean()?,
            "want-mass-query" => self.want_mass_query = Some(given.boolean()?),
            "compression" => {
                let found = Compression::from_name(given.text);
                self.compression = Some(found.map_err(|error| given.bad(&error.to_string()))?);
            }
            "compression-level" => {
                let level = given.number()?;
                self.compression_level = (level != -1).then_some(level);
            }
            "parallel-compression" => self.parallel_compression = Some(given.boolean()?),
            "write-nar-listing" => self.write_nar_listing = given.boolean()?,
            "index-debug-info" => self.index_debug_info = given.boolean()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_retries(&mut self, given: Given<'_>) -> Result<bool, ParamError> {
        match given.name {
            "retry-attempts" => self.retry_attempts = Some(given.number()?),
            "retry-delay" => self.retry_delay = Some(given.number()?),
            "retry-delay-rate-limited" => self.retry_delay_rate_limited = Some(given.number()?),
            "retry-max-delay" => self.retry_max_delay = Some(given.number()?),
            "connect-timeout" => self.connect_timeout = Some(given.number()?),
            "stalled-timeout" => self.stalled_timeout = Some(given.number()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_bucket(&mut self, given: Given<'_>) -> Result<bool, ParamError> {
        // Nix takes an empty one as not given.
        let text = (!given.text.is_empty()).then(|| given.text.to_owned());
        match given.name {
            "region" => self.region = text,
            "profile" => self.profile = text,
            "endpoint" => self.endpoint = text,
            "scheme" => match given.text {
                "" | "http" | "https" => self.scheme = text,
                _ => return Err(given.bad("it should be http or https")),
            },
            "addressing-style" => {
                self.addressing_style = match given.text {
                    "auto" => AddressingStyle::Auto,
                    "path" => AddressingStyle::Path,
                    "virtual" => AddressingStyle::Virtual,
                    _ => return Err(given.bad("it should be auto, path or virtual")),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A parameter as it was given.
#[derive(Clone, Copy)]
struct Given<'a> {
    name: &'a str,
    text: &'a str,
}

impl Given<'_> {
    fn bad(self, reason: &str) -> ParamError {
        bad(self.name, self.text, reason)
    }

    fn boolean(self) -> Result<bool, ParamError> {
        match self.text {
            "true" | "yes" | "1" => Ok(true),
            "false" | "no" | "0" => Ok(false),
            _ => Err(self.bad("it should be true or false")),
        }
    }

    fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(self) -> Result<T, ParamError> {
        self.text
            .parse()
            .map_err(|error| self.bad(&format!("it should be a whole number ({error})")))
    }
}

fn bad(name: &str, value: &str, reason: &str) -> ParamError {
    ParamError {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Text of a URL with its percent signs decoded; `None` if it is not encoded as it must be.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let is_whole = |(at, &byte): (usize, &u8)| match byte {
        b'%' => is_digit(at + 1) && is_digit(at + 2),
        // It begins a fragment, which no store has.
        byte => byte != b'#',
    };
    let good = bytes.iter().enumerate().all(is_whole);
    good.then(|| percent_decode_str(text).collect())
}
