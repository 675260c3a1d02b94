//! Where the file is that a narinfo's `URL` names, seen from its cache.

use url::Url;

/// Why a narinfo's `URL` can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its field URL, '{url}', {reason}")]
pub struct ResolveError {
    /// The URL.
    pub url: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Where the file is that a narinfo calls `url`.
///
/// For a cache behind HTTP, whose URL without a trailing slash is `base`, that is an absolute URL,
/// perhaps of another server. For any other it is a name below `base`, which is checked to stay
/// there.
///
/// # Errors
/// When it leads out of the cache, or to something other than HTTP.
pub fn resolve(base: &str, url: &str) -> Result<String, ResolveError> {
    let bad = |reason: String| ResolveError {
        url: url.to_owned(),
        reason,
    };
    if base.starts_with("http://") || base.starts_with("https://") {
        let base = Url::parse(&format!("{base}/")).map_err(|error| bad(error.to_string()))?;
        let found = base.join(url).map_err(|error| bad(error.to_string()))?;
        return match found.scheme() {
            "http" | "https" => Ok(found.into()),
            scheme => Err(bad(format!("leads to '{scheme}' and should lead to HTTP"))),
        };
    }
    let odd = |name: &str| matches!(name, "" | "." | "..") || name.contains(['\0', '\\']);
    if url.contains("://") || url.split('/').any(odd) {
        return Err(bad("is not the name of a file in the cache".to_owned()));
    }
    Ok(url.to_owned())
}
