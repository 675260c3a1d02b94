//! What people read who look at the cache with a browser.

use windrow_components::signing_key::SecretKey;

use super::Offer;

/// How the cache at `host` is used.
pub(super) fn text(offer: &Offer, host: &str) -> String {
    let keys: Vec<String> = offer.keys.iter().map(SecretKey::public_text).collect();
    let store = &offer.layout.store_dir;
    let version = env!("CARGO_PKG_VERSION");
    let trust = match keys.is_empty() {
        false => format!(
            "    extra-substituters = http://{host}\n    extra-trusted-public-keys = {}\n",
            keys.join(" ")
        ),
        true => format!(
            "    extra-substituters = http://{host}\n    extra-trusted-public-keys = …\n\n\
             It signs nothing itself: the keys are those that signed its paths before. Whoever \
             trusts this machine\nand the network can do without: http://{host}?trusted=true\n"
        ),
    };
    format!(
        "The store '{store}', served as a binary cache by windrow {version}.\n\n\
         To fetch from it, put this into nix.conf:\n\n{trust}"
    )
}
