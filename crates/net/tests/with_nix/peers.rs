//! Stores that a real Nix serves: what is read from them, and what is added to them.

use std::io::{Cursor, Read};

use windrow_components::hash::HashAlgo;
use windrow_components::store_path::StorePath;
use windrow_net::client::Limits;
use windrow_net::error::Kind;
use windrow_net::peer::{Options, Peer, Signatures};
use windrow_net::store_url::StoreUrl;
use windrow_store::PathInfo;

use super::*;

/// Both protocols, and the program that speaks each.
const KINDS: [(&str, &str); 2] = [("ssh", "nix-store"), ("ssh-ng", "nix-daemon")];

/// A connection to the store below a directory.
fn connect(nix: &Nix, (kind, program): (&str, &str), store: &str) -> Peer {
    let at = |name: &str| nix.path(name).display().to_string();
    let program = format!(
        "env%20HOME={}%20NIX_CONF_DIR={}%20NIX_STATE_DIR={}%20NIX_LOG_DIR={}%20{program}",
        at("home"),
        at("conf"),
        at("state"),
        at("log")
    );
    let program = program.replace('=', "%3D");
    let url = format!("{kind}://localhost?remote-program={program}&remote-store={store}");
    let options = Options {
        store_dir: super::store(),
        write: true,
        may_ask: false,
        limits: Limits::default(),
    };
    let url = StoreUrl::parse(&url).unwrap();
    Peer::connect(&url, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// What a store knows of paths, and their archives.
fn read(peer: &mut Peer, paths: &[StorePath]) -> Vec<Option<(NarInfo, Vec<u8>)>> {
    let mut infos = Vec::new();
    peer.infos(paths, |_, info| infos.push(info.unwrap()))
        .unwrap();
    let with_archive = |info: Option<NarInfo>| {
        info.map(|info| {
            let mut archive = Vec::new();
            peer.nar(&info, &mut archive).unwrap();
            (info, archive)
        })
    };
    infos.into_iter().map(with_archive).collect()
}

/// A path that no store has.
fn absent() -> StorePath {
    StorePath::from_base_name(&format!("{}-x", "z".repeat(32))).unwrap()
}

fn archive_of(found: &(NarInfo, Vec<u8>)) -> std::io::Result<Box<dyn Read>> {
    Ok(Box::new(Cursor::new(found.1.clone())))
}

#[test]
fn paths_are_read_and_added_by_either_protocol() {
    let Some(nix) = Nix::new() else { return };
    let (from, path) = nix.add();
    let key = nix.path("key");
    let secret = SecretKey::from_seed("test-1", &[7; 32]);
    fs::write(&key, secret.secret_text()).unwrap();
    let key = key.to_str().unwrap();
    nix.output(&["store", "sign", "-k", key, "--store", &from, &path]);
    let path = store().parse(&path).unwrap();
    for (number, kind) in KINDS.into_iter().enumerate() {
        let mut source = connect(&nix, kind, &from);
        let both = [absent(), path.clone()];
        assert_eq!(
            source.valid_paths(&both).unwrap(),
            std::slice::from_ref(&path)
        );
        let mut found: Vec<_> = read(&mut source, &both).into_iter().flatten().collect();
        let (info, archive) = found.pop().expect("it is there");
        assert!(found.is_empty());
        assert_eq!(HashAlgo::Sha256.hash(&archive), info.nar_hash);
        assert!(info.sigs.iter().any(|sig| sig.starts_with("test-1:")));
        // It is what Nix makes of a path whose contents are known.
        assert!(info.ca.is_some());
        let to = nix.path(&format!("to-{number}"));
        let to = to.to_str().unwrap();
        let mut target = connect(&nix, kind, to);
        assert!(target.valid_paths(&both).unwrap().is_empty());
        let whole = (info.clone(), archive);
        let infos = [info.to_path_info(&store())];
        let mut done = Vec::new();
        let added = target.add(
            &infos,
            Signatures::Checked,
            |_| archive_of(&whole),
            |info| done.push(info.path.clone()),
        );
        added.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(done, [store().display(&path)]);
        // On the same connection it is there, and nothing is out of step.
        let again = read(&mut target, &both).into_iter().flatten();
        assert_eq!(again.collect::<Vec<_>>(), [whole]);
        drop(target);
        let verified = nix.output(&["store", "verify", "--store", to, "--no-trust", "--all"]);
        assert_eq!(verified, "");
    }
}

/// Infos of files of these texts, which nobody has signed.
fn unsigned(texts: &[&str]) -> Vec<(PathInfo, Vec<u8>)> {
    let directory = tempfile::tempdir().unwrap();
    let one = |(number, text): (usize, &&str)| {
        let file = directory.path().join("file");
        fs::write(&file, text).unwrap();
        let mut archive = Vec::new();
        dump(&file, &mut archive).unwrap();
        let digit = char::from(b'a' + u8::try_from(number).unwrap());
        let base = format!("{}-x", digit.to_string().repeat(32));
        let path = StorePath::from_base_name(&base).unwrap();
        let mut nar_hash = [0; 32];
        nar_hash.copy_from_slice(HashAlgo::Sha256.hash(&archive).as_bytes());
        let info = PathInfo {
            path: store().display(&path),
            nar_hash,
            nar_size: archive.len() as u64,
            registration_time: 7,
            deriver: None,
            references: vec![store().display(&path)],
            ultimate: false,
            sigs: Vec::new(),
            ca: None,
        };
        (info, archive)
    };
    texts.iter().enumerate().map(one).collect()
}

#[test]
fn many_paths_are_added_at_once_and_a_refusal_is_told() {
    let Some(nix) = Nix::new() else { return };
    let large = "large ".repeat(200_000);
    let all = unsigned(&["a", &large, "b", "c"]);
    let infos: Vec<PathInfo> = all.iter().map(|(info, _)| info.clone()).collect();
    let open = |info: &PathInfo| -> std::io::Result<Box<dyn Read>> {
        let found = all.iter().find(|(known, _)| known == info);
        Ok(Box::new(Cursor::new(
            found.expect("it is one of them").1.clone(),
        )))
    };
    for (number, kind) in KINDS.into_iter().enumerate() {
        let to = nix.path(&format!("to-{number}"));
        let mut target = connect(&nix, kind, to.to_str().unwrap());
        if kind.0 == "ssh-ng" {
            let added = target.add(&infos, Signatures::Checked, open, |_| {});
            let error = added.unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{error}");
            assert!(error.to_string().contains("signature"), "{error}");
            assert!(!target.is_broken(), "it is good for another try");
        }
        let mut done = 0;
        let added = target.add(&infos, Signatures::Ignored, open, |_| done += 1);
        added.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(done, infos.len());
        let paths: Vec<StorePath> = infos
            .iter()
            .map(|info| store().parse(&info.path).unwrap())
            .collect();
        let found = read(&mut target, &paths);
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_by(|(a, _), (b, _)| a.store_path.cmp(&b.store_path));
        let found = found.into_iter().map(|(_, archive)| archive);
        assert!(found.eq(all.iter().map(|(_, archive)| archive.clone())));
        // One whose contents are not what is said of them is not taken.
        let mut wrong = infos[0].clone();
        wrong.path = store().display(&absent());
        wrong.references.clear();
        wrong.nar_hash = [7; 32];
        let archive = all[0].1.clone();
        let open = |_: &PathInfo| -> std::io::Result<Box<dyn Read>> {
            Ok(Box::new(Cursor::new(archive.clone())))
        };
        let added = target.add(&[wrong], Signatures::Ignored, open, |_| {});
        let error = added.unwrap_err();
        assert!(error.to_string().contains("hash mismatch"), "{error}");
    }
}

#[test]
fn what_is_not_valid_has_no_archive_and_the_reason_is_told() {
    let Some(nix) = Nix::new() else { return };
    let (from, path) = nix.add();
    let path = store().parse(&path).unwrap();
    for kind in KINDS {
        let mut source = connect(&nix, kind, &from);
        let mut info = read(&mut source, std::slice::from_ref(&path))
            .remove(0)
            .unwrap()
            .0;
        info.store_path = absent();
        let error = source.nar(&info, &mut std::io::sink()).unwrap_err();
        // Nix 2.8 looks for it before it knows that it is not valid.
        let known = error.to_string();
        assert!(known.contains(absent().base_name()), "{known}");
        let is_same = known.contains("is not valid") || known.contains("No such file");
        assert!(is_same && source.is_broken(), "{known}");
    }
}
