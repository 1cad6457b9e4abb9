//! Receivers' certificates that are themselves configured as CAs.
//!
//! `openssl req -x509` creates a self-signed CA certificate, and many receivers
//! present one. According to RFC 5280 such a certificate can sign others, but is not
//! a server's. A user who configures exactly this certificate nevertheless trusts the
//! receiver that has its key.
//!
//! Accepting it grants the key no additional power: the key could sign a certificate
//! for any name, unless name constraints forbid that. A CA certificate with name
//! constraints is therefore not accepted for a server.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use x509_cert::TbsCertificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::ext::pkix::{ExtendedKeyUsage, NameConstraints, SubjectAltName};

use super::certificate;

/// serverAuth and anyExtendedKeyUsage (RFC 5280, section 4.2.1.12).
const FOR_SERVERS: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
];

/// The configured CA certificates. Empty if the system's CAs are used.
#[derive(Debug, Default)]
pub(super) struct Configured(pub(super) Vec<CertificateDer<'static>>);

impl Configured {
    /// Checks a receiver's certificate that is byte for byte a configured one: its
    /// dates, its extended key usage and, if it has any, its names. Returns None if it
    /// is not a configured one: then the usual checks decide.
    ///
    /// `name` is None if the certificate is pinned: then no name is checked.
    pub(super) fn check(
        &self,
        certificate: &CertificateDer<'_>,
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Option<Result<(), Error>> {
        if !self.0.iter().any(|configured| configured == certificate) {
            return None;
        }
        let signed = certificate::parse(certificate)?;
        if has::<NameConstraints>(&signed) {
            return None;
        }
        Some(check_dates(&signed, now).and_then(|()| {
            check_usage(&signed)?;
            match name {
                Some(name) if has::<SubjectAltName>(&signed) => {
                    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
                }
                // The certificate has no name, or the name is not checked.
                _ => Ok(()),
            }
        }))
    }
}

fn has<T: AssociatedOid>(signed: &TbsCertificate) -> bool {
    let mut extensions = signed.extensions.iter().flatten();
    extensions.any(|extension| extension.extn_id == T::OID)
}

fn check_dates(signed: &TbsCertificate, time: UnixTime) -> Result<(), Error> {
    let validity = &signed.validity;
    let unix = |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
    let (not_before, not_after) = (unix(validity.not_before), unix(validity.not_after));
    if time < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if time > not_after {
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    Ok(())
}

fn check_usage(signed: &TbsCertificate) -> Result<(), Error> {
    let usage = signed.get::<ExtendedKeyUsage>();
    match usage.map_err(|_| CertificateError::BadEncoding)? {
        Some((_, ExtendedKeyUsage(usages)))
            if !usages.iter().any(|usage| FOR_SERVERS.contains(usage)) =>
        {
            Err(CertificateError::InvalidPurpose.into())
        }
        _ => Ok(()),
    }
}
