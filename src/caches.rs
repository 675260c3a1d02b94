//! Which binary caches paths are fetched from, and how: by the settings and the environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use windrow_components::settings::Settings;
use windrow_components::signing_key::{PublicKey, SecretKey};
use windrow_components::store_path::StoreDir;
use windrow_net::client::{self, Limits, Notice};
use windrow_net::lookup::Ttl;
use windrow_net::store_url::{StoreUrl, UrlError};
use windrow_net::trust::Trust;
use windrow_net::{asker, copy, proxies};
use windrow_store::Layout;
use windrow_store::signer::Signer;
use windrow_systems::helpers::CacheConfig;

/// How long a cache may take at most for what it says of one path: there may be others that have
/// it, and it can be built.
const ANSWER: Duration = Duration::from_secs(15);

/// The binary caches that settings name, for the store that lies there.
pub(crate) fn cache_config(settings: &Settings, layout: &Layout) -> CacheConfig {
    let mut urls: Vec<StoreUrl> = Vec::new();
    for url in usable(settings).filter_map(Result::ok) {
        let is_same = |known: &StoreUrl| known.kind == url.kind && known.key() == url.key();
        if !urls.iter().any(is_same) {
            urls.push(url);
        }
    }
    let seconds = Duration::from_secs;
    let mut client = client_config(settings);
    client.limits.deadline = answer_timeout(settings) * 2;
    CacheConfig {
        urls,
        asker: asker::Config {
            client,
            trust: Trust {
                store_dir: StoreDir::new(&layout.store_dir),
                keys: trusted_keys(settings),
                require_sigs: settings.require_sigs,
            },
            lookup_dir: lookup_dir(&|name| std::env::var_os(name)),
            ttl: Ttl {
                positive: settings.narinfo_cache_positive_ttl,
                negative: settings.narinfo_cache_negative_ttl,
                ..Ttl::default()
            },
            downloads_dir: layout.state_dir.join("windrow-downloads"),
            // One attempt, and some time to get there.
            silence: answer_timeout(settings) * 4 / 3,
        },
        lacks_for: seconds(settings.narinfo_cache_negative_ttl),
    }
}

/// How a binary cache is written that paths of the store there are copied into; `notice` is told of
/// failures that are followed by another attempt.
pub(crate) fn copy_config(settings: &Settings, layout: &Layout, notice: Notice) -> copy::Config {
    let reading = cache_config(settings, layout).asker;
    copy::Config {
        client: client::Config {
            notice: Some(notice),
            ..reading.client
        },
        store_dir: reading.trust.store_dir,
        lookup_dir: reading.lookup_dir,
        ttl: reading.ttl,
        scratch_dir: std::env::temp_dir(),
    }
}

/// How a store is asked what it has; `notice` is told of failures that are followed by another
/// attempt.
pub(crate) fn inquiry_config(
    settings: &Settings,
    layout: &Layout,
    notice: Notice,
) -> asker::Config {
    let mut config = cache_config(settings, layout).asker;
    config.client.notice = Some(notice);
    config
}

/// The caches that settings name and that can be fetched from, or why one can't.
fn usable(settings: &Settings) -> impl Iterator<Item = Result<StoreUrl, String>> {
    let wanted = settings.substitute && settings.use_binary_caches;
    let urls = settings.substituters.iter().filter(move |_| wanted);
    urls.map(|text| StoreUrl::parse(text).map_err(|error: UrlError| error.to_string()))
}

fn client_config(settings: &Settings) -> client::Config {
    let seconds = Duration::from_secs;
    client::Config {
        connections: settings.http_connections as usize,
        limits: Limits {
            attempts: settings.download_attempts.max(1),
            connect_timeout: seconds(settings.connect_timeout),
            stalled_timeout: seconds(settings.stalled_download_timeout),
            answer_timeout: answer_timeout(settings),
            ..Limits::default()
        },
        speed: u64::from(settings.download_speed) << 10,
        netrc: Some(settings.netrc_file.clone()),
        ca_file: settings.ssl_cert_file.clone(),
        proxies: proxies::of_environment(),
        ..client::Config::default()
    }
}

/// How long a cache may take for what it says of one path.
fn answer_timeout(settings: &Settings) -> Duration {
    match settings.stalled_download_timeout {
        0 => ANSWER,
        seconds => Duration::from_secs(seconds).min(ANSWER),
    }
}

/// The keys whose signatures are trusted: those that are named, and the public halves of those that
/// this store signs with.
fn trusted_keys(settings: &Settings) -> Vec<PublicKey> {
    let named = settings.trusted_public_keys.iter();
    let named = named.filter_map(|key| PublicKey::parse(key).ok());
    let mut signer = Signer::new(&settings.secret_key_files);
    // One that can't be read is told of when something is to be signed.
    let own = signer.load().unwrap_or_default().iter();
    named.chain(own.map(SecretKey::public)).collect()
}

/// Where Nix keeps what caches have said.
fn lookup_dir(env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    cache.map(|dir| dir.join("nix"))
}

/// What to warn of: caches that can't be used, and settings about them that are wrong.
pub(crate) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let unusable: Vec<String> = usable(settings).filter_map(Result::err).collect();
    if !unusable.is_empty() {
        warnings.push(format!(
            "the setting 'substituters' names what windrow can't fetch from: {}",
            unusable.join("; ")
        ));
    }
    let mut used = false;
    for url in usable(settings).filter_map(Result::ok) {
        used = true;
        if !url.params.unknown.is_empty() {
            let names = url.params.unknown.join("', '");
            warnings.push(format!(
                "'{url}' in the setting 'substituters' has parameters without effect: '{names}'"
            ));
        }
    }
    if used && settings.require_sigs {
        let keys = settings.trusted_public_keys.iter();
        let bad = keys.filter_map(|key| Trust::parse_keys(&[key]).err());
        warnings.extend(bad.map(|error| error.to_string()));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use windrow_components::settings::Known;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            assert_eq!(settings.set(name, value), Ok(Known::Yes));
        }
        settings
    }

    fn config(pairs: &[(&str, &str)]) -> CacheConfig {
        let layout = Layout {
            store_dir: "/s".to_owned(),
            real_store_dir: "/s".into(),
            state_dir: "/state".into(),
            log_dir: "/log".into(),
        };
        cache_config(&settings(pairs), &layout)
    }

    #[test]
    fn caches_are_those_of_the_setting_each_once() {
        let urls = |pairs: &[(&str, &str)]| {
            let urls = config(pairs).urls;
            urls.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let set = (
            "substituters",
            "https://h/ file:///c https://h?priority=1 ssh://x ssh-ng://x daemon ftp://x",
        );
        let all = ["https://h/", "file:///c", "ssh://x", "ssh-ng://x", "daemon"];
        assert_eq!(urls(&[set]), all);
        assert!(urls(&[]).is_empty());
        assert!(urls(&[set, ("substitute", "false")]).is_empty());
        assert!(urls(&[set, ("use-binary-caches", "false")]).is_empty());
    }

    #[test]
    fn settings_become_what_the_client_knows() {
        let config = config(&[
            ("http-connections", "7"),
            ("download-attempts", "0"),
            ("download-speed", "2"),
            ("connect-timeout", "3"),
            ("stalled-download-timeout", "4"),
            ("narinfo-cache-negative-ttl", "5"),
            ("require-sigs", "false"),
        ]);
        let client = &config.asker.client;
        assert_eq!((client.connections, client.limits.attempts), (7, 1));
        assert_eq!(client.speed, 2048);
        let second = Duration::from_secs;
        assert_eq!(client.limits.connect_timeout, second(3));
        assert_eq!(client.limits.stalled_timeout, second(4));
        assert_eq!(client.limits.deadline, second(8));
        assert_eq!(config.lacks_for, second(5));
        assert!(!config.asker.trust.require_sigs);
        assert_eq!(config.asker.trust.keys.len(), 1);
    }

    #[test]
    fn what_can_not_be_used_is_warned_of() {
        assert!(warnings(&settings(&[])).is_empty());
        let fine = ("substituters", "https://h?priority=1 file:///c");
        assert!(warnings(&settings(&[fine])).is_empty());
        let odd = settings(&[
            ("substituters", "ftp://x ssh://-h https://h?colour=red"),
            ("trusted-public-keys", "nonsense"),
        ]);
        let warnings = warnings(&odd);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("'ftp'") && warnings[0].contains("ssh://-h"));
        assert!(warnings[1].contains("'colour'"));
        assert!(warnings[2].contains("nonsense"));
    }

    #[test]
    fn answers_are_kept_where_nix_keeps_them() {
        let dir = |set: &'static [(&str, &str)]| {
            lookup_dir(&move |name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.into())
            })
        };
        assert_eq!(
            dir(&[("HOME", "/h")]).as_deref(),
            Some(Path::new("/h/.cache/nix"))
        );
        let both = &[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")];
        assert_eq!(dir(both).as_deref(), Some(Path::new("/c/nix")));
        assert_eq!(dir(&[("HOME", "relative")]), None);
    }
}
