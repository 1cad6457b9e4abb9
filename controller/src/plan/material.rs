//! Certificates and keys: found, and looked at before an agent has to.

use std::collections::BTreeMap;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::fields::{CA_CONFIG_MAP, CA_PEM, CA_SECRET, CLIENT_CERTIFICATE};
use super::refusal::Refusal;
use crate::resources::{CaSource, KeyReference, Reason};
use crate::snapshot::{Lookup, ObjectName, Snapshot, is_object_name};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The CA certificates that a sink names, in PEM.
pub(super) fn ca(
    source: &CaSource,
    namespace: &str,
    snapshot: &Snapshot,
) -> Result<Vec<u8>, Refusal> {
    let (subject, pem) = match source {
        CaSource {
            pem: Some(pem),
            secret: None,
            config_map: None,
        } => (CA_PEM.to_owned(), pem.as_bytes().to_vec()),
        CaSource {
            pem: None,
            secret: Some(reference),
            config_map: None,
        } => Kind::Secret.value(CA_SECRET, namespace, reference, snapshot)?,
        CaSource {
            pem: None,
            secret: None,
            config_map: Some(reference),
        } => Kind::ConfigMap.value(CA_CONFIG_MAP, namespace, reference, snapshot)?,
        CaSource { .. } => {
            let problem = "tls.ca: exactly one of pem, secret and configMap is needed";
            return Err(Refusal::new(Reason::InvalidValue, problem));
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem, &subject)? {
        roots.add(certificate).map_err(|error| {
            bad(
                &subject,
                &format!("holds a CA that cannot be used: {error}"),
            )
        })?;
    }
    Ok(pem)
}

/// The certificate and the key of a Secret, in PEM.
pub(super) fn identity(
    secret: &str,
    namespace: &str,
    snapshot: &Snapshot,
) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let value = |key: &str| {
        let reference = KeyReference {
            name: secret.to_owned(),
            key: key.to_owned(),
        };
        Kind::Secret.value(CLIENT_CERTIFICATE, namespace, &reference, snapshot)
    };
    let (cert_subject, cert) = value(CERTIFICATE)?;
    let (key_subject, key) = value(KEY)?;
    let chain = certificates(&cert, &cert_subject)?;
    let private = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| bad(&key_subject, "holds no private key in PEM"))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, private, &provider).map_err(|error| {
        bad(
            &key_subject,
            &format!("does not belong to {CERTIFICATE}, or cannot be used: {error}"),
        )
    })?;
    Ok((cert, key))
}

/// The kinds of objects that a sink can name.
#[derive(Clone, Copy)]
enum Kind {
    Secret,
    ConfigMap,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    const fn not_found(self) -> Reason {
        match self {
            Self::Secret => Reason::SecretNotFound,
            Self::ConfigMap => Reason::ConfigMapNotFound,
        }
    }

    const fn not_readable(self) -> Reason {
        match self {
            Self::Secret => Reason::SecretNotReadable,
            Self::ConfigMap => Reason::ConfigMapNotReadable,
        }
    }

    const fn objects(self, snapshot: &Snapshot) -> &BTreeMap<ObjectName, Lookup> {
        match self {
            Self::Secret => &snapshot.secrets,
            Self::ConfigMap => &snapshot.config_maps,
        }
    }

    /// Returns the value of an object's key, and the name of both for messages.
    fn value(
        self,
        field: &str,
        namespace: &str,
        reference: &KeyReference,
        snapshot: &Snapshot,
    ) -> Result<(String, Vec<u8>), Refusal> {
        let kind = self.name();
        if !is_object_name(&reference.name) {
            let problem = format!("is not the name of a {kind}");
            return Err(Refusal::value(field, &reference.name, &problem));
        }
        let name = ObjectName::new(namespace, &reference.name);
        let data = match self.objects(snapshot).get(&name) {
            Some(Lookup::Found(data)) => data,
            Some(Lookup::Unreadable(why)) => {
                let message = format!("{field}: the {kind} {name} cannot be read: {why}");
                return Err(Refusal::new(self.not_readable(), &message));
            }
            Some(Lookup::Missing) | None => {
                let message = format!("{field}: the {kind} {name} does not exist");
                return Err(Refusal::new(self.not_found(), &message));
            }
        };
        let subject = format!("{field}: key {:?} of the {kind} {name}", reference.key);
        if let Some(value) = data.get(&reference.key) {
            return Ok((subject, value.clone()));
        }
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        let message = format!("{subject} does not exist, only {}", keys.join(", "));
        Err(Refusal::new(Reason::KeyNotFound, &message))
    }
}

fn certificates(pem: &[u8], subject: &str) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(bad(subject, "holds no certificate in PEM")),
        Err(error) => Err(bad(subject, &format!("is not valid PEM: {error}"))),
    }
}

fn bad(subject: &str, problem: &str) -> Refusal {
    Refusal::new(Reason::BadCertificate, &format!("{subject} {problem}"))
}
