//! What is given for a copy and has no effect on it, to be warned of.

use windrow_net::store_url::{Kind, StoreUrl};
use windrow_systems::report::Level;

use super::{Copy, Other};
use crate::progress::say;

/// What a store is to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    From,
    To,
}

/// Warns of what nobody looks at.
pub(super) fn warn(from: Option<&Other>, to: Option<&Other>, copy: &Copy) {
    for (other, role) in [(from, Role::From), (to, Role::To)] {
        let Some(Other { url, .. }) = other else {
            continue;
        };
        let names = parameters(url, role);
        if !names.is_empty() {
            let names = names.join("', '");
            let text = format!("warning: '{url}' has parameters without effect: '{names}'");
            say(&copy.style, Level::Warn, &text);
        }
        if role == Role::To && is_cache(url) && !copy.check_sigs {
            let text = format!(
                "warning: --no-check-sigs has no effect: '{url}' is a binary cache, which takes what \
                 nobody has signed"
            );
            say(&copy.style, Level::Warn, &text);
        }
    }
}

fn is_cache(url: &StoreUrl) -> bool {
    matches!(url.kind, Kind::Http(_) | Kind::File(_) | Kind::S3 { .. })
}

/// The parameters of a store that have no effect, as it is what it is to a copy.
fn parameters(url: &StoreUrl, role: Role) -> Vec<&str> {
    let given = &url.params;
    let is_local = matches!(url.kind, Kind::Local(_));
    // What opens a store on this machine knows that.
    let known = |name: &&String| is_local && *name == "read-only";
    let unknown = given.unknown.iter().filter(|name| !known(name));
    let mut names: Vec<&str> = unknown.map(String::as_str).collect();
    let mut without = |has_effect: bool, all: &[(&'static str, bool)]| {
        let given = all.iter().filter(|(_, is_given)| *is_given && !has_effect);
        names.extend(given.map(|(name, _)| name));
    };
    let is_packed = role == Role::To && is_cache(url);
    without(
        is_packed,
        &[
            ("compression", given.compression.is_some()),
            ("compression-level", given.compression_level.is_some()),
            ("parallel-compression", given.parallel_compression.is_some()),
            ("write-nar-listing", given.write_nar_listing),
            ("index-debug-info", given.index_debug_info),
        ],
    );
    let is_signed = role == Role::To && !is_local;
    without(is_signed, &[("secret-key", !given.secret_keys.is_empty())]);
    without(
        role == Role::From,
        &[
            ("priority", given.priority.is_some()),
            ("want-mass-query", given.want_mass_query.is_some()),
            ("trusted", given.trusted),
        ],
    );
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_an_effect_depends_on_what_a_store_is_to_a_copy() {
        let read = "priority=1&trusted=true";
        let written = "compression=zstd&compression-level=1&parallel-compression=true&\
                       write-nar-listing=true&index-debug-info=true&secret-key=/k";
        let without = |url: &str, role| {
            let url = StoreUrl::parse(&format!("{url}?{read}&{written}")).unwrap();
            parameters(&url, role).join(" ")
        };
        let of_writing = "compression compression-level parallel-compression write-nar-listing \
                          index-debug-info secret-key";
        for cache in ["https://h", "file:///c", "s3://b"] {
            assert_eq!(without(cache, Role::From), of_writing);
            assert_eq!(without(cache, Role::To), "priority trusted");
        }
        assert_eq!(without("/store", Role::From), of_writing);
        let all = format!("{of_writing} priority trusted");
        assert_eq!(without("/store", Role::To), all);
        let unknown = |url: &str| {
            let url = StoreUrl::parse(url).unwrap();
            parameters(&url, Role::From).join(" ")
        };
        assert_eq!(unknown("/store?read-only=true&colour=red"), "colour");
        assert_eq!(unknown("file:///c?read-only=true"), "read-only");
    }
}
