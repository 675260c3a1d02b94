//! `--print-env` and `--read-log`: a derivation's environment for a shell, and the logs of builds.

use std::io::Write as _;

use windrow_components::derivation::Derivation;
use windrow_components::shell_word::quote;

use super::args::Level;
use super::paths::with_derivation;
use super::{Call, print_failed};
use crate::build_log;
use crate::error::{Error, Result};

pub(super) fn print_env(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let args = &call.command.args;
    let [drv] = args.iter().collect::<Vec<_>>()[..] else {
        return Err(Error::Usage(
            "'--print-env' requires one derivation store path".to_owned(),
        ));
    };
    let store_dir = call.session.store_dir();
    let drv = store_dir.parse(&drv.to_string_lossy())?;
    let drv = store_dir.display(&drv);
    let store = call.queryable()?;
    let (text, left_out) = with_derivation(&*store, &drv, environment_for_shell)?;
    for name in left_out {
        let text = format!(
            "warning: the attribute '{name}' of '{drv}' is left out: a shell has no variable of that name"
        );
        call.say(Level::Warn, &text);
    }
    call.out.write_all(&text).map_err(print_failed)
}

/// The assignments that a shell is to evaluate, and the names of the attributes that are not among
/// them. Nix prints those too, and a shell runs whatever their names say.
fn environment_for_shell(drv: &Derivation<'_>) -> (Vec<u8>, Vec<String>) {
    let mut text = Vec::new();
    let mut left_out = Vec::new();
    for (name, value) in &drv.env {
        if !is_variable_name(name) {
            left_out.push(String::from_utf8_lossy(name).into_owned());
            continue;
        }
        text.extend(b"export ");
        text.extend(&**name);
        text.extend(b"; ");
        text.extend(&**name);
        text.push(b'=');
        quote(value, &mut text);
        text.push(b'\n');
    }
    text.extend(b"export _args; _args=");
    // Quoted as a whole, as Nix does since 2.36: quotes around each argument would end the outer
    // ones.
    let args: Vec<&[u8]> = drv.args.iter().map(|arg| &**arg).collect();
    quote(&args.join(&b' '), &mut text);
    text.push(b'\n');
    (text, left_out)
}

/// Whether POSIX allows a variable of that name: letters, digits and underscores, no digit first.
fn is_variable_name(name: &[u8]) -> bool {
    let allowed = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(allowed)
}

pub(super) fn read_log(call: &mut Call) -> Result<()> {
    call.no_flags()?;
    let store = call.look()?;
    for arg in std::mem::take(&mut call.command.args) {
        let path = call.store_path(&arg)?;
        let drv = if path.ends_with(".drv") {
            Some(path.clone())
        } else {
            store
                .database
                .path_info(&path)?
                .and_then(|info| info.deriver)
        };
        let found = match &drv {
            Some(drv) => {
                let base = store.store_dir().strip(drv).unwrap_or(drv);
                build_log::open(&store.layout().log_dir, base)?
            }
            None => None,
        };
        let mut found = found.ok_or_else(|| Error::NoLog { path: path.clone() })?;
        build_log::copy(&mut found, &path, &mut call.out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_are_what_posix_says() {
        for good in ["a", "_", "_args", "A9_z"] {
            assert!(is_variable_name(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "9a", "a-b", "a b", "a;b", "a[$(x)]", "a=b", "\u{e4}", "a\n",
        ] {
            assert!(!is_variable_name(bad.as_bytes()), "{bad}");
        }
    }
}
