//! What to sign requests to S3 with: from the environment, or from a profile in the files that
//! AWS's own tools read.

use std::ffi::OsString;
use std::path::PathBuf;

use rusty_s3::Credentials;
use windrow_sys::bounded;

/// The profile of those who name none.
const DEFAULT_PROFILE: &str = "default";

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
    let name = named.as_deref().unwrap_or(DEFAULT_PROFILE);
    for (file, prefix) in files(environment) {
        let Ok(file) = bounded::read_file(&file, bounded::NAMED_FILE_MAX) else {
            continue;
        };
        if let Some(found) = of_profile(&String::from_utf8_lossy(&file), name, prefix) {
            return Ok(Some(found));
        }
    }
    match named {
        Some(name) => Err(format!(
            "there is no key for the profile '{name}' in {}",
            shown_files(environment)
        )),
        None => Ok(None),
    }
}

/// The files that may have profiles, and what the titles of these may begin with in each.
fn files(environment: Environment<'_>) -> Vec<(PathBuf, &'static str)> {
    let known = [
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", ""),
        ("AWS_CONFIG_FILE", ".aws/config", "profile "),
    ];
    let file = |(variable, default, prefix)| {
        let home = || Some(PathBuf::from(environment("HOME")?).join(default));
        let file = environment(variable).map(PathBuf::from).or_else(home)?;
        Some((file, prefix))
    };
    known.into_iter().filter_map(file).collect()
}

fn shown_files(environment: Environment<'_>) -> String {
    let files = files(environment).into_iter();
    let shown: Vec<String> = files
        .map(|(file, _)| format!("'{}'", file.display()))
        .collect();
    match shown.is_empty() {
        true => "a file, for HOME is not set".to_owned(),
        false => shown.join(" or "),
    }
}

/// Where was looked for credentials in vain.
pub(crate) fn none_found(environment: Environment<'_>) -> String {
    format!(
        "there are no credentials in the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, nor for \
         the profile '{DEFAULT_PROFILE}' in {}, and they are taken from nowhere else",
        shown_files(environment)
    )
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
        let error = of(Some("none"), &[]).unwrap_err();
        let files = format!("'{}' or '{}'", file.display(), config.display());
        assert!(
            error.contains("'none'") && error.ends_with(&files),
            "{error}"
        );
        let nothing = |_: &str| None;
        assert!(find(None, &nothing).unwrap().is_none());
        assert!(none_found(&nothing).contains("HOME is not set"));
        let home = |name: &str| (name == "HOME").then(|| "/no/home".into());
        let none = none_found(&home);
        for place in [
            "AWS_ACCESS_KEY_ID",
            "'/no/home/.aws/credentials'",
            "'/no/home/.aws/config'",
        ] {
            assert!(none.contains(place), "{none}");
        }
    }
}
