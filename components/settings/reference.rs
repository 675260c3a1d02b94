//! The reference of all settings, made from the table; docs/SETTINGS.md is what it prints.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::other_names::{RETIRED, ignored};
use super::table::{Effect, Setting, TABLE};
use super::{Host, Settings};

const HEAD: &str = "\
# Settings

All settings that windrow knows, by the names of today's Nix; the names of Nix 1.8 are understood as
well. They are read from `nix.conf` and the other places that Nix reads, and set by
`--option NAME VALUE`; [MANUAL.md](MANUAL.md) tells which place wins. Times are in seconds and sizes
in bytes. `extra-NAME` adds to a setting that takes a list, a set or pairs.

Some settings of Nix have no effect in windrow. One that is set to something other than its default
is warned of, in one line for each file. Others matter only to substituter programs and to the build
hook program, which find all settings in the variable `_NIX_OPTIONS`; on the command line, they are
warned of where there is no such program.

This page is made from the table in `components/settings/table.rs` by
`WINDROW_UPDATE=1 cargo test -p windrow-components reference`.
";

/// All settings as a page of Markdown: what each means, takes, is by default, and who acts on it.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for setting in TABLE {
        if setting.section != section {
            section = setting.section;
            let _ = write!(text, "\n## {section}\n");
        }
        describe(&mut text, setting);
    }
    text.push_str("\n## Accepted and ignored\n\n");
    let head = "These mean something to the language, flakes, the daemon or the inside of Nix, and \
                change no build and nothing that a build engine shows. So a nix.conf that serves \
                Nix may set them, and nothing is said; given on the command line they are warned \
                of, except `experimental-features` and `show-trace`:";
    wrap(&mut text, head);
    text.push('\n');
    let names: Vec<String> = ignored().map(|name| format!("`{name}`")).collect();
    wrap(&mut text, &format!("{}.", names.join(", ")));
    text.push_str("\nNames of Nix 1.8 that are more than another name of a setting:\n\n");
    for name in RETIRED {
        let meaning = match *name {
            "build-extra-chroot-dirs" => "adds to `sandbox-paths`",
            "signed-binary-caches" => "can switch `require-sigs` on, not off",
            other => unreachable!("'{other}' is described nowhere"),
        };
        let _ = writeln!(text, "- `{name}` {meaning}.");
    }
    text
}

fn describe(text: &mut String, setting: &Setting) {
    let _ = write!(text, "\n### `{}`\n\n", setting.name);
    wrap(text, setting.description.trim());
    for paragraph in setting.more.split("\n\n").map(str::trim) {
        if !paragraph.is_empty() {
            text.push('\n');
            wrap(text, &paragraph.replace('\n', ""));
        }
    }
    let _ = writeln!(text, "\n- Takes {}.", setting.accepted);
    let _ = writeln!(text, "- Default: {}.", default_text(setting));
    if !setting.aliases.is_empty() {
        let aliases = setting.aliases.iter().map(|alias| format!("`{alias}`"));
        let aliases: Vec<String> = aliases.collect();
        let _ = writeln!(text, "- Also: {}.", aliases.join(", "));
    }
    match setting.effect {
        Effect::Engine => {}
        Effect::Helpers => text.push_str("- Effect: in substituter and hook programs only.\n"),
        Effect::None => text.push_str("- Effect: none.\n"),
    }
}

/// The default, in words where it depends on the machine.
fn default_text(setting: &Setting) -> String {
    let on = |host: &Host| (setting.print)(&Settings::for_host(host));
    let plain = on(&Host::default());
    let own_store = Host {
        own_store: true,
        ..Host::default()
    };
    if plain == on(&another_host()) && plain == on(&own_store) {
        return match plain.as_str() {
            "" => "empty".to_owned(),
            value => format!("`{value}`"),
        };
    }
    match setting.name {
        "cores" => "the number of CPUs",
        "max-jobs" => "the number of CPUs; for `nix-store` `1`, as in Nix",
        "system" => "the type of this machine",
        "extra-platforms" => "what the kernel of this machine runs as well",
        "system-features" => "`benchmark big-parallel nixos-test`, and `kvm` where there is one",
        "build-users-group" => "`nixbld` for root on a store shared with Nix, else empty",
        "require-drop-supplementary-groups" => {
            "`true` for root, except in a user namespace that forbids it, else `false`"
        }
        "sandbox" => "`true`, but `false` for a store of one's own",
        "netrc-file" => "`netrc` beside nix.conf",
        "builders" => "`@` and the file `machines` beside nix.conf",
        other => unreachable!("the default of '{other}' is described nowhere"),
    }
    .to_owned()
}

/// A machine that differs from the default one in everything that defaults depend on, except
/// `own_store`, which switches off what `root` switches on.
fn another_host() -> Host {
    Host {
        cpus: 2,
        root: true,
        keeps_groups: false,
        own_store: false,
        as_nix: false,
        kvm: true,
        system: "aarch64-linux".to_owned(),
        extra_platforms: BTreeSet::from(["armv7l-linux".to_owned()]),
        conf_dir: PathBuf::from("/other"),
    }
}

/// Appends `paragraph` in lines of at most 100 columns.
fn wrap(text: &mut String, paragraph: &str) {
    let mut width = 0;
    for word in paragraph.split_whitespace() {
        let len = word.chars().count();
        if width > 0 && width + 1 + len > 100 {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += len;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_the_one_in_docs() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SETTINGS.md");
        if std::env::var_os("WINDROW_UPDATE").is_some() {
            std::fs::write(file, reference()).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            written == reference(),
            "docs/SETTINGS.md is out of date; run \
             WINDROW_UPDATE=1 cargo test -p windrow-components reference"
        );
    }
}
