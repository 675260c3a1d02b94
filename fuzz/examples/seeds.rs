//! Writes the seeds of all targets into fuzz/corpus, where the fuzzer looks for them:
//! `cargo run -p windrow-fuzz --example seeds`.

use std::path::Path;

use windrow_components::hash::sha256;
use windrow_components::nix32;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in windrow_fuzz::TARGETS {
        let directory = corpus.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for seed in (target.seeds)() {
            std::fs::write(directory.join(nix32::encode(&sha256(&seed)[..20])), seed)?;
        }
    }
    Ok(())
}
