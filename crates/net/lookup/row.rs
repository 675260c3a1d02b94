//! A row of what a cache has, as Nix writes it and reads it.

use rusqlite::{CachedStatement, Row, params};
use windrow_components::content_address::ContentAddress;
use windrow_components::hash::{Hash, HashAlgo};
use windrow_components::store_path::StorePath;

use crate::compression::Compression;
use crate::narinfo::NarInfo;

/// What a row says of the path with that hash part; nothing if it says what can't be.
pub(super) fn read(row: &Row<'_>, hash_part: &str) -> rusqlite::Result<Option<NarInfo>> {
    let text = |column| row.get::<_, Option<String>>(column);
    let number = |column| row.get::<_, Option<i64>>(column);
    let raw = Raw {
        name: text(2)?.unwrap_or_default(),
        url: text(3)?.unwrap_or_default(),
        compression: text(4)?.unwrap_or_default(),
        file_hash: text(5)?,
        file_size: number(6)?,
        nar_hash: text(7)?.unwrap_or_default(),
        nar_size: number(8)?,
        references: text(9)?.unwrap_or_default(),
        deriver: text(10)?,
        sigs: text(11)?.unwrap_or_default(),
        ca: text(12)?,
    };
    Ok(raw.parsed(hash_part))
}

/// The columns of a row.
struct Raw {
    name: String,
    url: String,
    compression: String,
    file_hash: Option<String>,
    file_size: Option<i64>,
    nar_hash: String,
    nar_size: Option<i64>,
    references: String,
    deriver: Option<String>,
    sigs: String,
    ca: Option<String>,
}

impl Raw {
    fn parsed(self, hash_part: &str) -> Option<NarInfo> {
        let path = |text: &str| StorePath::from_base_name(text).ok();
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let hash = |text: &str| Hash::parse(text, None).ok();
        let size = |size: Option<i64>| size.and_then(|it| u64::try_from(it).ok());
        let mut references: Vec<_> = blank_separated(&self.references)
            .map(path)
            .collect::<Option<_>>()?;
        references.sort_unstable();
        references.dedup();
        let info = NarInfo {
            store_path: path(&format!("{hash_part}-{}", self.name))?,
            url: self.url,
            compression: Compression::from_name(&self.compression).ok()?,
            file_hash: given(self.file_hash)
                .map(|it| hash(&it).ok_or(()))
                .transpose()
                .ok()?,
            file_size: size(self.file_size).filter(|&size| size != 0),
            nar_hash: hash(&self.nar_hash)?,
            nar_size: size(self.nar_size)?,
            references,
            deriver: given(self.deriver)
                .map(|it| path(&it).ok_or(()))
                .transpose()
                .ok()?,
            sigs: blank_separated(&self.sigs).map(str::to_owned).collect(),
            ca: given(self.ca)
                .map(|ca| ContentAddress::parse(&ca).map(|ca| ca.to_string()))
                .transpose()
                .ok()?,
        };
        let whole = info.nar_size != 0 && !info.url.is_empty();
        (whole && info.nar_hash.algo() == HashAlgo::Sha256).then_some(info)
    }
}

fn blank_separated(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

/// Writes a row by the statement for rows of what a cache has.
pub(super) fn write(
    statement: &mut CachedStatement<'_>,
    cache: i64,
    hash_part: &str,
    now: i64,
    info: &NarInfo,
) -> rusqlite::Result<()> {
    let references: Vec<&str> = info.references.iter().map(StorePath::base_name).collect();
    statement
        .execute(params![
            cache,
            hash_part,
            info.store_path.name(),
            info.url,
            info.compression.name(),
            info.file_hash.map(|hash| hash.prefixed_base32()),
            info.file_size.map(|size| size as i64),
            info.nar_hash.prefixed_base32(),
            info.nar_size as i64,
            references.join(" "),
            info.deriver.as_ref().map(StorePath::base_name),
            info.sigs.join(" "),
            // Nix writes an empty text for none.
            info.ca.as_deref().unwrap_or_default(),
            now,
        ])
        .map(drop)
}
