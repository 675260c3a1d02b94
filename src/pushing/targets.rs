//! Which caches are pushed to, by the setting `upload-caches`, and what the queue calls them.

use windrow_components::settings::Settings;
use windrow_net::store_url::{Kind, StoreUrl};
use windrow_store::own::uploads::Cache;

use crate::error::{Error, Result};

/// Understands the URL of a cache that can be pushed to.
///
/// # Errors
/// When it names none.
pub(super) fn parse(text: &str) -> Result<StoreUrl> {
    let url = StoreUrl::parse(text).map_err(|error| Error::Unsupported(error.to_string()))?;
    match url.kind {
        Kind::Http(_) | Kind::File(_) | Kind::S3 { .. } => Ok(url),
        Kind::Local(_) | Kind::Ssh(_) | Kind::SshNg(_) | Kind::Daemon { .. } => {
            Err(Error::Unsupported(format!(
                "cannot push to '{url}': it is no binary cache (http, https, file or s3)"
            )))
        }
    }
}

/// The caches that settings name, each once.
pub(super) fn caches(settings: &Settings) -> Vec<StoreUrl> {
    let mut urls: Vec<StoreUrl> = Vec::new();
    for url in settings.upload_caches.iter().flat_map(|text| parse(text)) {
        if !urls.iter().any(|known| known.key() == url.key()) {
            urls.push(url);
        }
    }
    urls
}

/// What to warn of: caches that can't be pushed to, and parameters that nobody looks at.
pub(crate) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    for text in &settings.upload_caches {
        match parse(text) {
            Err(error) => warnings.push(format!("in the setting 'upload-caches': {error}")),
            Ok(url) if !url.params.unknown.is_empty() => warnings.push(format!(
                "'{url}' in the setting 'upload-caches' has parameters without effect: '{}'",
                url.params.unknown.join("', '")
            )),
            Ok(_) => {}
        }
    }
    warnings
}

/// A cache as the queue names it.
pub(super) fn as_queued(url: &StoreUrl) -> Cache {
    Cache {
        key: url.key(),
        // Without the password.
        url: url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_that_can_be_pushed_to_are_named_once_and_others_are_warned_of() {
        let mut settings = Settings::default();
        let urls = "http://u:p@h/?priority=3 s3://b http://u:q@h file:///c?colour=red ssh://h \
                    /other nonsense";
        let set = settings.set("upload-caches", urls).unwrap();
        assert_eq!(set, windrow_components::settings::Known::Yes);
        let queued: Vec<Cache> = caches(&settings).iter().map(as_queued).collect();
        let keys: Vec<&str> = queued.iter().map(|cache| &*cache.key).collect();
        assert_eq!(keys, ["http://u:***@h", "s3://b", "file:///c"]);
        assert_eq!(queued[0].url, "http://u:***@h/?priority=3");
        let warnings = warnings(&settings);
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(warnings[0].contains("'colour'"));
        assert!(warnings[1].contains("ssh://h") && warnings[2].contains("/other"));
        assert!(warnings[3].contains("nonsense"));
    }
}
