//! The fields of certificates, and their description for users.

use std::fmt::Write;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::TbsCertificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::Fingerprint;

/// The maximum number of names in a description. The receiver controls their number.
const SHOWN: usize = 10;

/// A name of a server in its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Dns(String),
    Address(IpAddr),
}

/// Parses the signed fields of a certificate of any X.509 version. Returns None if the
/// certificate cannot be parsed.
pub(super) fn parse(certificate: &CertificateDer<'_>) -> Option<TbsCertificate> {
    let parsed = x509_cert::Certificate::from_der(certificate);
    parsed.ok().map(|parsed| parsed.tbs_certificate)
}

/// Returns the names in the certificate's `subjectAltName`. None if the certificate does
/// not have this extension.
pub(super) fn names(certificate: &TbsCertificate) -> Option<Vec<Name>> {
    let SubjectAltName(names) = match certificate.get() {
        Ok(extension) => extension?.1,
        Err(_) => return Some(Vec::new()),
    };
    Some(names.iter().filter_map(name).collect())
}

/// Converts a name. Control characters are escaped, since the receiver is not trusted
/// and the name may be printed to a terminal.
fn name(name: &GeneralName) -> Option<Name> {
    match name {
        GeneralName::DnsName(name) => Some(Name::Dns(name.as_str().escape_debug().to_string())),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
            v4().or_else(v6).map(Name::Address)
        }
        _ => None,
    }
}

/// Returns the names in one line, separated by `separator`.
pub(super) fn list(names: &[Name], separator: &str) -> String {
    let texts = names.iter().take(SHOWN).map(|name| match name {
        Name::Dns(name) => name.clone(),
        Name::Address(address) => address.to_string(),
    });
    let text = texts.collect::<Vec<_>>().join(separator);
    match names.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Describes a certificate: subject, names, issuer, dates and fingerprint.
pub(super) fn describe(certificate: &CertificateDer<'_>) -> String {
    let fingerprint = Fingerprint::of(certificate);
    let Some(certificate) = parse(certificate) else {
        return format!("not readable, {fingerprint}");
    };
    let mut text = format!("subject {:?}", certificate.subject.to_string());
    if let Some(names) = names(&certificate) {
        write!(text, ", names {}", list(&names, " ")).expect("writing to a String cannot fail");
    }
    write!(
        text,
        ", issuer {:?}, valid from {} to {}, {fingerprint}",
        certificate.issuer.to_string(),
        certificate.validity.not_before,
        certificate.validity.not_after,
    )
    .expect("writing to a String cannot fail");
    text
}

/// Returns the certificate's subject.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> String {
    match parse(certificate) {
        Some(certificate) => format!("{:?}", certificate.subject.to_string()),
        None => "not readable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_description_escapes_control_characters_and_limits_the_names() {
        let names = vec!["a\u{1b}[31m".to_owned(), "10.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let text = describe(certificate.der());
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(
            text.contains(r"names a\u{1b}[31m 10.0.0.1, issuer"),
            "{text}"
        );
        let many = (0..12).map(|number| format!("h{number}"));
        let params = CertificateParams::new(many.collect::<Vec<_>>()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let text = describe(certificate.der());
        assert!(
            text.contains("names h0 h1 h2 h3 h4 h5 h6 h7 h8 h9 and 2 more, "),
            "{text}"
        );
        let garbage = CertificateDer::from(vec![1, 2, 3]);
        assert!(describe(&garbage).starts_with("not readable, sha-256:"));
        assert_eq!(subject(&garbage), "not readable");
    }
}
