//! The certificate authorities that are trusted: the file of the setting `ssl-cert-file`, or the
//! machine's own.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use windrow_sys::bounded;

/// Where systems keep the certificate authorities that they trust.
const OF_SYSTEMS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with the certificate authorities to trust: the one that a setting names, or that of the
/// machine, if it has one.
pub fn file(named: Option<&Path>) -> Option<PathBuf> {
    let of_system = || {
        OF_SYSTEMS
            .iter()
            .map(PathBuf::from)
            .find(|file| file.is_file())
    };
    named.map(Path::to_owned).or_else(of_system)
}

/// The certificates of such a file. One that is malformed is one that is not trusted.
///
/// # Errors
/// What to do about it, when there is no file, it can't be read, or has no certificate in it.
pub fn read(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(file) = file else {
        return Err(
            "there is no file with certificate authorities on this machine; name one in the setting \
             'ssl-cert-file'"
                .to_owned(),
        );
    };
    let text = bounded::read_file(file, bounded::NAMED_FILE_MAX)
        .map_err(|error| format!("cannot read the certificate authorities: {error}"))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .filter_map(Result::ok)
        .collect();
    if certificates.is_empty() {
        return Err("the file of the setting 'ssl-cert-file' has no certificates in it".to_owned());
    }
    Ok(certificates)
}

/// What servers' certificates are checked against.
///
/// # Errors
/// As [`read`].
pub(crate) fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(read(file)?);
    if added == 0 {
        return Err(
            "no certificate in the file of the setting 'ssl-cert-file' can be used".to_owned(),
        );
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_refused() {
        assert!(read(None).unwrap_err().contains("ssl-cert-file"));
        assert!(read(Some(Path::new("/no/such"))).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            std::fs::write(file.path(), text).unwrap();
            assert!(
                read(Some(file.path()))
                    .unwrap_err()
                    .contains("no certificates"),
                "{text}"
            );
        }
        std::fs::write(
            file.path(),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(
            roots(Some(file.path()))
                .unwrap_err()
                .contains("can be used")
        );
        assert_eq!(super::file(Some(Path::new("/x"))), Some("/x".into()));
    }
}
