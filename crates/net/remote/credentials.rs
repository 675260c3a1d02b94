//! What to sign requests to S3 with: from the environment, or from a profile in the files that
//! AWS's own tools read.

use std::ffi::OsString;
use std::path::PathBuf;

use rusty_s3::Credentials;
use windrow_sys::bounded;

/// What the environment says about credentials.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// The credentials for a profile; without one that is named, those of the environment, and then of
/// the profile that it names or that is called `default`. `None` if there are none, as for a
/// bucket that all may read.
///
/// # Errors
/// When a profile is named that is not there or has no key.
pub(crate) fn find(
    profile: Option<&str>,
    environment: Environment<'_>,
) -> Result<Option<Credentials>, String> {
    let text = |name: &str| {
        environment(name)?
            .into_string()
            .ok()
            .filter(|text| !text.is_empty())
    };
    if profile.is_none()
        && let (Some(key), Some(secret)) =
            (text("AWS_ACCESS_KEY_ID"), text("AWS_SECRET_ACCESS_KEY"))
    {
        return Ok(Some(credentials(key, secret, text("AWS_SESSION_TOKEN"))));
    }
    let named = profile.map(str::to_owned).or_else(|| text("AWS_PROFILE"));
    let name = named.as_deref().unwrap_or("default");
    for (variable, default, prefix) in [
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", ""),
        ("AWS_CONFIG_FILE", ".aws/config", "profile "),
    ] {
        let home = || Some(PathBuf::from(environment("HOME")?).join(default));
        let Some(file) = environment(variable).map(PathBuf::from).or_else(home) else {
            continue;
        };
        let Ok(file) = bounded::read_file(&file, bounded::NAMED_FILE_MAX) else {
            continue;
        };
        if let Some(found) = of_profile(&String::from_utf8_lossy(&file), name, prefix) {
            return Ok(Some(found));
        }
    }
    match named {
        Some(name) => Err(format!(
            "no file of credentials has a key for the profile '{name}'"
        )),
        None => Ok(None),
    }
}

fn credentials(key: String, secret: String, token: Option<String>) -> Credentials {
    match token {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    }
}

/// The credentials of a section, whose title may begin with `prefix`.
pub(crate) fn of_profile(text: &str, name: &str, prefix: &str) -> Option<Credentials> {
    let (mut key, mut secret, mut token) = (None, None, None);
    let mut within = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(title) = line.strip_prefix('[') {
            let title = title.split(']').next().unwrap_or_default().trim();
            within = title == name || title.strip_prefix(prefix).map(str::trim) == Some(name);
        }
        let Some((word, value)) = line.split_once('=').filter(|_| within) else {
            continue;
        };
        let value = Some(value.trim().to_owned());
        match word.trim() {
            "aws_access_key_id" => key = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    Some(credentials(key?, secret?, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_comes_before_files_but_not_before_a_profile() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(
            &file,
            "[default]\naws_access_key_id = d\naws_secret_access_key=s\n# [x]\n[ci]\n\
             aws_access_key_id=c\naws_secret_access_key=t\naws_session_token=u\n[half]\naws_access_key_id=h\n",
        )
        .unwrap();
        let config = dir.path().join("config");
        std::fs::write(
            &config,
            "[profile other]\nregion=x\naws_access_key_id=o\naws_secret_access_key=p\n",
        )
        .unwrap();
        let of = |profile: Option<&str>, variables: &[(&str, &str)]| {
            let environment = |name: &str| match name {
                "AWS_SHARED_CREDENTIALS_FILE" => Some(file.clone().into()),
                "AWS_CONFIG_FILE" => Some(config.clone().into()),
                _ => {
                    let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
                    Some((*value).into())
                }
            };
            let found = find(profile, &environment)?;
            Ok::<_, String>(
                found.map(|found| (found.key().to_owned(), found.token().map(str::to_owned))),
            )
        };
        let keys = [("AWS_ACCESS_KEY_ID", "e"), ("AWS_SECRET_ACCESS_KEY", "f")];
        let some =
            |key: &str, token: Option<&str>| Ok(Some((key.to_owned(), token.map(str::to_owned))));
        assert_eq!(of(None, &keys), some("e", None));
        assert_eq!(of(None, &keys[..1]), some("d", None));
        assert_eq!(of(Some("ci"), &keys), some("c", Some("u")));
        assert_eq!(of(None, &[("AWS_PROFILE", "other")]), some("o", None));
        assert!(of(Some("half"), &keys).is_err());
        assert!(of(Some("none"), &[]).unwrap_err().contains("'none'"));
        let nothing = |_: &str| None;
        assert!(find(None, &nothing).unwrap().is_none());
    }
}
