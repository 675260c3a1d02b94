//! What another Nix answers, by either of the two protocols; the first byte says which.

use windrow_components::hash::HashAlgo;
use windrow_components::store_path::StorePath;
use windrow_net::fuzzing::hear;
use windrow_store::wire::{push_number, push_text, push_texts};

use crate::shared::{path, store};

/// What is asked for.
fn asked() -> [StorePath; 2] {
    let parse = |text: String| store().parse(&text).expect("a path of this store");
    [path("a"), path("b").replace("8rhh", "9rhh")].map(parse)
}

/// What is told is about what was asked for, each once, and can be believed; an archive is as long
/// as it was said to be.
pub fn check(bytes: &[u8]) {
    let Some((&first, answers)) = bytes.split_first() else {
        return;
    };
    let asked = asked();
    let heard = hear(answers, first & 1 == 1, &store(), &asked);
    let mut told: Vec<&StorePath> = heard.told.iter().map(|(path, _)| path).collect();
    told.sort_unstable();
    let count = told.len();
    told.dedup();
    assert_eq!(told.len(), count);
    for (path, info) in &heard.told {
        assert!(asked.contains(path));
        let Some(info) = info else { continue };
        assert_eq!(info.store_path, *path);
        assert_eq!(info.nar_hash.algo(), HashAlgo::Sha256);
        assert!(info.nar_size > 0 && info.references.is_sorted());
    }
    match heard.failed {
        Some((_, reason)) => {
            assert!(!reason.is_empty() && reason.chars().count() <= 400);
            assert!(!reason.contains(char::is_control));
        }
        None => {
            let info = heard.told.into_iter().find_map(|(_, info)| info);
            let size = info.map_or(0, |info| info.nar_size);
            assert_eq!(heard.archive.len() as u64, size);
            if size > 0 {
                let skipped = windrow_store::nar::skip(&mut &heard.archive[..]);
                assert!(skipped.is_ok());
            }
        }
    }
}

/// Conversations that go well, of several versions.
pub fn seeds() -> Vec<Vec<u8>> {
    let [a, b] = asked().map(|path| store().display(&path));
    crate::nar::seeds()
        .into_iter()
        .filter(|nar| windrow_store::nar::skip(&mut &nar[..]).is_ok())
        .take(4)
        .flat_map(|nar| [serve(&nar, &a, &b), daemon(&nar, &a, &b, 34), daemon(&nar, &a, &b, 38)])
        .collect()
}

fn serve(nar: &[u8], a: &str, b: &str) -> Vec<u8> {
    let mut out = vec![0];
    push_number(&mut out, 0x5452_eecb);
    push_number(&mut out, 0x207);
    push_texts(&mut out, &[a]);
    push_text(&mut out, a);
    push_text(&mut out, "");
    push_texts(&mut out, &[a, b]);
    push_number(&mut out, 0);
    push_number(&mut out, nar.len() as u64);
    push_text(&mut out, &HashAlgo::Sha256.hash(nar).prefixed_base32());
    push_text(&mut out, "");
    push_texts(&mut out, &["key-1:abcd"]);
    push_text(&mut out, "");
    out.extend(nar);
    out
}

fn daemon(nar: &[u8], a: &str, b: &str, minor: u64) -> Vec<u8> {
    const LAST: u64 = 0x616c_7473;
    let mut out = vec![1];
    push_number(&mut out, 0x6478_696f);
    push_number(&mut out, 1 << 8 | minor);
    if minor >= 38 {
        push_number(&mut out, 0);
    }
    push_text(&mut out, "2.99");
    if minor >= 35 {
        push_number(&mut out, 1);
    }
    for number in [LAST, LAST, 1, LAST, 1, LAST] {
        push_number(&mut out, number);
    }
    push_texts(&mut out, &[a]);
    push_number(&mut out, 0x6f6c_6d67);
    push_text(&mut out, "a line\n");
    push_number(&mut out, LAST);
    push_number(&mut out, 1);
    push_text(&mut out, "");
    push_text(&mut out, &HashAlgo::Sha256.hash(nar).base16());
    push_texts(&mut out, &[a, b]);
    push_number(&mut out, 9);
    push_number(&mut out, nar.len() as u64);
    push_number(&mut out, 0);
    push_texts(&mut out, &["key-1:abcd"]);
    push_text(&mut out, "");
    for number in [LAST, 0, LAST] {
        push_number(&mut out, number);
    }
    out.extend(nar);
    out
}
