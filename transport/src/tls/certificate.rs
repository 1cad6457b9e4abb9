//! Certificates, described for people.

use std::fmt::Write;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::Fingerprint;

/// Whose a certificate is, by whom, for how long, and its fingerprint.
pub(super) fn describe(certificate: &CertificateDer<'_>) -> String {
    let fingerprint = Fingerprint::of(certificate);
    let Ok(parsed) = x509_cert::Certificate::from_der(certificate) else {
        return format!("not readable, {fingerprint}");
    };
    let certificate = parsed.tbs_certificate;
    let mut text = format!("subject {:?}", certificate.subject.to_string());
    if let Ok(Some((_, SubjectAltName(names)))) = certificate.get() {
        text.push_str(", names");
        for name in names.iter().filter_map(server_name) {
            write!(text, " {name}").expect("a String takes everything");
        }
    }
    write!(
        text,
        ", issuer {:?}, valid from {} to {}, {fingerprint}",
        certificate.issuer.to_string(),
        certificate.validity.not_before,
        certificate.validity.not_after,
    )
    .expect("a String takes everything");
    text
}

/// Whose a certificate is.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> String {
    match x509_cert::Certificate::from_der(certificate) {
        Ok(parsed) => format!("{:?}", parsed.tbs_certificate.subject.to_string()),
        Err(_) => "not readable".to_owned(),
    }
}

/// A name that a server can be asked for by. Whoever made the certificate chose
/// it: on a terminal it has to stay text.
fn server_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().escape_debug().to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
            v4().or_else(v6).map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn what_a_stranger_wrote_stays_text() {
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
        let garbage = CertificateDer::from(vec![1, 2, 3]);
        assert!(describe(&garbage).starts_with("not readable, sha-256:"));
        assert_eq!(subject(&garbage), "not readable");
    }
}
