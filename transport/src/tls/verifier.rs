//! What a receiver's certificate has to be, and what the refused one was.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_cert::der::Decode;

use super::Fingerprint;

/// The certificate that was refused last, described for people. rustls names
/// the check that failed, but not always the certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<String>>>);

impl Verdict {
    /// Takes the description out.
    pub(crate) fn take(&self) -> Option<String> {
        self.0.lock().take()
    }
}

/// Checks the chain, the fingerprint, both or neither. That the receiver has
/// the certificate's key is checked always.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) chain: Option<Arc<WebPkiServerVerifier>>,
    pub(super) pins: Vec<Fingerprint>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) verdict: Verdict,
}

impl Verifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        if !self.pins.is_empty() && !self.pins.contains(&Fingerprint::of(end_entity)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.check(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => {
                *self.verdict.0.lock() = Some(describe(end_entity));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whose a certificate is, by whom, for how long, and its fingerprint.
fn describe(certificate: &CertificateDer<'_>) -> String {
    let fingerprint = Fingerprint::of(certificate);
    let Ok(parsed) = x509_cert::Certificate::from_der(certificate) else {
        return format!("not readable, {fingerprint}");
    };
    let certificate = parsed.tbs_certificate;
    format!(
        "subject {:?}, issuer {:?}, valid from {} to {}, {fingerprint}",
        certificate.subject.to_string(),
        certificate.issuer.to_string(),
        certificate.validity.not_before,
        certificate.validity.not_after,
    )
}
