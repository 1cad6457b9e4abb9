//! What a receiver's certificate has to be, and what the refused one was.

use std::iter;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::{Fingerprint, certificate};

/// The chain that was refused last, the receiver's certificate first. rustls
/// names the check that failed, but not always the certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl Verdict {
    /// Takes the receiver's certificate out, described for people.
    pub(crate) fn take(&self) -> Option<String> {
        self.take_chain().first().map(certificate::describe)
    }

    /// Takes the chain out; it is empty where none was refused.
    pub(super) fn take_chain(&self) -> Vec<CertificateDer<'static>> {
        std::mem::take(&mut self.0.lock())
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
                let chain = iter::once(end_entity).chain(intermediates);
                *self.verdict.0.lock() = chain.map(|c| c.clone().into_owned()).collect();
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
