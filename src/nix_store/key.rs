//! `--generate-binary-cache-key`: a new key to sign paths with, in two files.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use windrow_components::signing_key::SecretKey;

use super::Call;
use crate::error::{Error, Result};

pub(super) fn generate(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let args = &call.command.args;
    let [name, secret_file, public_file] = args.iter().collect::<Vec<_>>()[..] else {
        return Err(Error::Usage("three arguments expected".to_owned()));
    };
    let mut seed = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut seed))
        .map_err(Error::io("read", "/dev/urandom"))?;
    let key = SecretKey::from_seed(&name.to_string_lossy(), &seed);
    write(Path::new(public_file), 0o666, &key.public_text())?;
    write(Path::new(secret_file), 0o600, &key.secret_text())
}

fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(path).map_err(Error::io("create", path))?;
    file.write_all(text.as_bytes())
        .map_err(Error::io("write", path))
}
