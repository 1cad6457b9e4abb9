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

/// A name that a server can be asked for by.
fn server_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
            v4().or_else(v6).map(|address| address.to_string())
        }
        _ => None,
    }
}
