//! What fuzz targets need of this directory.

use crate::error::Fault;

pub(crate) use super::download::content_range;

pub(crate) fn s3_error(fault: Fault, text: &str) -> Fault {
    super::s3::with_error(fault, text)
}

pub(crate) fn profile(text: &str, name: &str) -> Option<(String, Option<String>)> {
    let found = super::credentials::of_profile(text, name, "profile ")?;
    Some((found.key().to_owned(), found.token().map(str::to_owned)))
}
