//! What servers of caches say beside what they hold: when to come again, which part they send, why
//! they refuse; and files of credentials.

use std::time::{Duration, SystemTime};

use windrow_net::error::Kind;
use windrow_net::fuzzing::{content_range, profile, s3_error, wait};

use crate::shared::seeds as seeds_of;

/// Parts lie in their files, reasons are one line of a bearable length, and a status stays what it
/// is or becomes a refusal.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    if let Some(wait) = wait(&text, now) {
        let seconds = text.trim().parse() == Ok(wait.as_secs());
        assert!(seconds || text.contains(':'), "{wait:?}");
    }
    if let Some((start, all)) = content_range(&text) {
        assert!(all.is_none_or(|all| start < all));
    }
    for status in [200, 403, 503] {
        let (kind, reason) = s3_error(status, &text);
        assert!(matches!(kind, Kind::Denied) || kind == Kind::Status(status));
        assert!(reason.chars().count() <= 400 && !reason.contains(char::is_control));
    }
    for name in ["default", "ci", ""] {
        let Some((key, token)) = profile(&text, name) else {
            continue;
        };
        assert!(text.contains(&key) && token.is_none_or(|token| text.contains(&token)));
    }
}

/// One of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "120",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "bytes 5-9/10",
        "bytes 0-0/*",
        "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
        "<Error><Code>SlowDown</Code><Message>\n</Message></Error>",
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\n[profile ci]\n\
         aws_access_key_id=c\naws_secret_access_key=d\naws_session_token=e\n",
    ])
}
