//! Receivers' own certificates that are configured as CAs.
//!
//! `openssl req -x509` makes a self-signed CA certificate, and many a receiver
//! presents one. By RFC 5280 it can sign others and is none for a server, but
//! whoever configures exactly this certificate means the receiver that has its
//! key.
//!
//! That is no more than its key could do anyway: it can sign a certificate for
//! any name, unless its name constraints forbid that. One that has such
//! constraints is therefore not accepted for itself.

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

/// The certificates of `tls_ca_file`; none where the system's CAs are used.
#[derive(Debug, Default)]
pub(super) struct Configured(pub(super) Vec<CertificateDer<'static>>);

impl Configured {
    /// Checks a receiver's own certificate that is one of these, byte for
    /// byte: its dates, its extended key usage and, where it has any, its
    /// names. None where it is not one of these; the usual checks decide then.
    ///
    /// No `name` is checked of a certificate that is pinned.
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
                // There is nothing to compare.
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
