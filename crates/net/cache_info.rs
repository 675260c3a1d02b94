//! What a cache says of itself, its file `nix-cache-info`.

use std::fmt;

/// Why a file is no `nix-cache-info`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheInfoError {
    /// It is not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// A login page or the like stands where the cache should be.
    #[error("it is a web page, so no binary cache is there")]
    WebPage,
    /// Its priority is no number.
    #[error("its field Priority is bad: '{0}' is no whole number")]
    Priority(String),
}

/// What a cache says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheInfo {
    /// The store directory of its paths, if it says; paths of another one are of no use.
    pub store_dir: Option<String>,
    /// Whether it may be asked for many paths that are merely to be listed.
    pub want_mass_query: bool,
    /// Lower is asked first. A cache that says nothing has 0, and so comes before all others.
    pub priority: i64,
}

impl CacheInfo {
    /// The file's name in a cache.
    pub const NAME: &str = "nix-cache-info";

    /// Reads the file: unknown fields and lines without a colon are passed over, as by Nix.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheInfoError> {
        if bytes.trim_ascii_start().starts_with(b"<") {
            return Err(CacheInfoError::WebPage);
        }
        let text = str::from_utf8(bytes).map_err(|_| CacheInfoError::NotText)?;
        let mut info = Self::default();
        for (name, value) in text.split('\n').filter_map(|line| line.split_once(':')) {
            let value = value.trim_ascii();
            match name {
                "StoreDir" => info.store_dir = Some(value.to_owned()),
                "WantMassQuery" => info.want_mass_query = value == "1",
                "Priority" => {
                    let number = value.parse();
                    let bad = |_| CacheInfoError::Priority(value.to_owned());
                    info.priority = number.map_err(bad)?;
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

impl fmt::Display for CacheInfo {
    /// The file, as it is written for a new cache.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dir) = &self.store_dir {
            writeln!(f, "StoreDir: {dir}")?;
        }
        writeln!(f, "WantMassQuery: {}", u8::from(self.want_mass_query))?;
        writeln!(f, "Priority: {}", self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_of_caches_are_read_as_nix_does() {
        let read = |text: &str| CacheInfo::parse(text.as_bytes());
        let official = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n";
        let expected = CacheInfo {
            store_dir: Some("/nix/store".to_owned()),
            want_mass_query: true,
            priority: 40,
        };
        assert_eq!(read(official).unwrap(), expected);
        assert_eq!(expected.to_string(), official);
        assert_eq!(read("").unwrap(), CacheInfo::default());
        let odd = "no colon\n\nPriority:-7\r\nWantMassQuery: true\nX: y\nStoreDir:  /a b ";
        let info = read(odd).unwrap();
        assert_eq!(info.store_dir.as_deref(), Some("/a b"));
        assert_eq!((info.want_mass_query, info.priority), (false, -7));
        assert_eq!(read("\n <!DOCTYPE html>\n"), Err(CacheInfoError::WebPage));
        for text in [
            "Priority: x\n",
            "Priority:\n",
            "Priority: 99999999999999999999\n",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("Priority is bad"), "{error}");
        }
        assert_eq!(CacheInfo::parse(b"X: \xff\n"), Err(CacheInfoError::NotText));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(dir in "(/[a-z ]{0,8}[a-z])?", mass in any::<bool>(), priority in any::<i64>()) {
            let info = CacheInfo {
                store_dir: (!dir.is_empty()).then_some(dir),
                want_mass_query: mass,
                priority,
            };
            prop_assert_eq!(CacheInfo::parse(info.to_string().as_bytes()), Ok(info));
        }

        #[test]
        fn no_text_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = CacheInfo::parse(&bytes);
        }
    }
}
