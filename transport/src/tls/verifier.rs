//! The verification of a receiver's certificate: pins, chain and name.
//!
//! A certificate that the user names exactly, by a pin or among the CAs, is verified by
//! its key. webpki verifies chains and names, reads only X.509 version 3, and
//! accepts no CA certificate from a server, but here there is no chain to verify. The
//! receiver must still prove that it has the key, with a certificate of any version of
//! X.509 (`signature.rs`). A certificate among the CAs is also checked for dates, usage
//! and names (`configured.rs`).
//!
//! The errors of rustls are translated into messages with advice in `failure.rs` for
//! handshakes, and in `refusal.rs` for certificates.

use std::iter;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::configured::Configured;
use super::notes::{Notes, Refused};
use super::{Fingerprint, signature};

/// Verifies the chain, the fingerprint, both or neither. In every case the receiver
/// must prove that it has the certificate's private key.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Option<Trust>,
    pub(super) pins: Vec<Fingerprint>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) notes: Notes,
}

/// The trusted certificates.
#[derive(Debug)]
pub(super) struct Trust {
    /// The verifier of certificates signed by a trusted CA.
    pub(super) chain: Arc<WebPkiServerVerifier>,
    /// The configured certificates, without the system's CAs.
    pub(super) configured: Configured,
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
        let pinned = self.pins.contains(&Fingerprint::of(end_entity));
        if !self.pins.is_empty() && !pinned {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let Some(trust) = &self.trust else {
            return Ok(());
        };
        let name = (!pinned).then_some(server_name);
        if let Some(checked) = trust.configured.check(end_entity, name, now) {
            return checked;
        }
        trust
            .chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map(drop)
    }

    /// Notes the certificate if the handshake's signature is invalid.
    fn note<T>(
        &self,
        certificate: &CertificateDer<'_>,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        result.inspect_err(|_| {
            self.notes.refuse(Refused {
                chain: vec![certificate.clone().into_owned()],
                for_signature: true,
            });
        })
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
        self.check(end_entity, intermediates, server_name, ocsp_response, now)
            .map(|()| ServerCertVerified::assertion())
            .inspect_err(|_| {
                let chain = iter::once(end_entity).chain(intermediates);
                self.notes.refuse(Refused {
                    chain: chain.map(|c| c.clone().into_owned()).collect(),
                    for_signature: false,
                });
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = signature::verify_tls12(message, cert, dss, algorithms);
        self.note(cert, verified)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = signature::verify_tls13(message, cert, dss, algorithms);
        self.note(cert, verified)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
