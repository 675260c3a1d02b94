//! What several targets need: a store directory, texts as seeds, files of a corpus.

use std::path::Path;

use windrow_components::store_path::StoreDir;

/// A store path with that name, for seeds.
pub(crate) fn path(name: &str) -> String {
    format!("/nix/store/8rhh74q2l84v5z1fa0n941xhbpgw3ncf-{name}")
}

/// The store that inputs are about.
pub(crate) fn store() -> StoreDir {
    StoreDir::new("/nix/store")
}

pub(crate) fn seeds<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    texts.into_iter().map(|it| it.as_ref().to_vec()).collect()
}

/// The smallest files of a directory of the corpus that lies beside the source, if it does, whose
/// names end so: large ones teach a fuzzer nothing but patience.
pub(crate) fn corpus(directory: &str, ending: &str) -> Vec<Vec<u8>> {
    const FILE_LEN_MAX: u64 = 16 << 10;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let mut found = Vec::new();
    let mut directories = vec![root.join(directory)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            if metadata.is_dir() {
                directories.push(path);
            } else if path
                .as_os_str()
                .as_encoded_bytes()
                .ends_with(ending.as_bytes())
                && metadata.len() <= FILE_LEN_MAX
            {
                found.extend(std::fs::read(path));
            }
        }
    }
    found.sort_by_key(Vec::len);
    found.truncate(200);
    found
}
