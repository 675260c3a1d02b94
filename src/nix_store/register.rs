//! `--init`, `--check-validity`, `--register-validity`, `--dump-db`, `--load-db`: the database and
//! text.

use std::collections::BTreeMap;
use std::io::BufReader;

use windrow_store::PathInfo;
use windrow_store::text::registrations::{self, Reader};
use windrow_sys::interrupt;

use super::paths::not_valid;
use super::{Call, print_failed};
use crate::error::{Error, Result};

pub(super) fn init(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    call.no_args()?;
    call.session.open().map(drop)
}

pub(super) fn check_validity(call: &mut Call) -> Result<()> {
    let [print_invalid] = call.switches(["--print-invalid"])?;
    let store = call.queryable()?;
    let paths = call.store_paths()?;
    store.expect(&paths)?;
    for path in paths {
        if !store.is_valid(&path)? {
            if !print_invalid {
                return Err(not_valid(&path));
            }
            call.print(path)?;
        }
    }
    Ok(())
}

pub(super) fn dump_db(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let store = call.look()?;
    let paths = if call.command.args.is_empty() {
        store.database.all_valid_paths()?
    } else {
        call.store_paths()?
    };
    for path in paths {
        let info = store
            .database
            .path_info(&path)?
            .ok_or_else(|| not_valid(&path))?;
        registrations::write(&mut call.out, &info).map_err(print_failed)?;
    }
    Ok(())
}

pub(super) fn load_db(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    register(call, true, true, false)
}

pub(super) fn register_validity(call: &mut Call) -> Result<()> {
    let [reregister, hash_given] = call.switches(["--reregister", "--hash-given"])?;
    register(call, reregister, hash_given, true)
}

fn register(call: &Call, reregister: bool, hash_given: bool, canonicalise: bool) -> Result<()> {
    call.no_args()?;
    let mut store = call.session.open()?;
    let store_dir = call.session.store_dir();
    let stdin = interrupt::stdin().map_err(Error::io("read", "standard input"))?;
    let stdin = BufReader::with_capacity(256 << 10, stdin);
    let mut reader = Reader::new(stdin, &store_dir, hash_given);
    let mut given: BTreeMap<String, PathInfo> = BTreeMap::new();
    while let Some(info) = reader.read()? {
        given.insert(info.path.clone(), info);
    }
    // A collector must leave alone what has no row yet.
    let paths: Vec<&str> = given.keys().map(String::as_str).collect();
    store.keep(&paths)?;
    let valid = store.database.valid_paths(&paths)?;
    let new: Vec<bool> = valid.iter().map(|valid| !valid || reregister).collect();
    let mut infos: Vec<PathInfo> = Vec::new();
    for (info, new) in given.into_values().zip(new) {
        if new {
            infos.push(info);
        }
    }
    if canonicalise {
        for info in &mut infos {
            store.take_in(info, !hash_given)?;
        }
    }
    Ok(store.register_paths(infos)?)
}
