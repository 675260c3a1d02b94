//! narinfo files, what their URLs lead to, and whether they are trusted.

use windrow_components::hash::HashAlgo;
use windrow_components::lexical::canonicalise;
use windrow_components::signing_key::SecretKey;
use windrow_net::narinfo::{NarInfo, resolve};
use windrow_net::trust::Trust;

use crate::shared::{path, seeds as seeds_of, store};

/// The hash part of the seeds.
const ASKED: &str = "8rhh74q2l84v5z1fa0n941xhbpgw3ncf";

/// What is read is written and read as the same; it is trusted when it is signed, and no longer
/// when its size is another; its URL does not lead out of a directory.
pub fn check(bytes: &[u8]) {
    let info = match NarInfo::parse(bytes, &store(), ASKED) {
        Ok(info) => info,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(info.store_path.hash_part(), ASKED);
    let text = info.to_text(&store());
    let again = NarInfo::parse(text.as_bytes(), &store(), ASKED);
    assert_eq!(again.as_ref(), Ok(&info));
    if let Ok(name) = resolve("file:///d", &info.url) {
        let full = std::path::Path::new("/d").join(name);
        assert_eq!(canonicalise(&full), Some(full));
    }
    let _ = resolve("https://cache.example.org/x", &info.url);
    let key = SecretKey::from_seed("key-1", &[7; 32]);
    let trust = Trust {
        store_dir: store(),
        keys: vec![key.public()],
        require_sigs: true,
    };
    let mut signed = info;
    signed.ca = None;
    signed.sign(&[key], &store());
    assert_eq!(trust.check(&signed, false), Ok(()));
    signed.nar_size ^= 1;
    assert!(trust.check(&signed, false).is_err());
}

/// A file with everything, one with the least, and some that are none.
pub fn seeds() -> Vec<Vec<u8>> {
    let nar = HashAlgo::Sha256.hash(b"nar");
    let base = |name: &str| format!("{ASKED}-{name}");
    let full = format!(
        "StorePath: {}\nURL: nar/x.nar.xz?hash=1\nCompression: xz\nFileHash: {}\nFileSize: 7\n\
         NarHash: {}\nNarSize: 120\nReferences: {} {}\nDeriver: {}\nSystem: x86_64-linux\n\
         Sig: key-1:abcd\nCA: fixed:r:{}\n",
        path("x"),
        HashAlgo::Sha512.hash(b"file").sri(),
        nar.prefixed_base16(),
        base("a"),
        base("x"),
        base("x.drv"),
        nar.prefixed_base32(),
    );
    let least = format!(
        "StorePath: {}\nURL: https://cdn.example.org/x\nNarHash: {}\nNarSize: 1\n",
        path("x"),
        nar.sri()
    );
    let twice = format!("{least}CA: text:{0}\nCA: text:{0}\n", nar.sri());
    seeds_of([full, least, twice, "<html>\n".to_owned()])
}
