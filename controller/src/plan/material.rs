//! Certificates and keys: looked up, and checked before an agent reads them.

use std::collections::BTreeMap;

use api::{CaSource, KeyReference, Reason};
use transport::tls::{Identity, Pem, TlsError};

use super::fields::{CA_CONFIG_MAP, CA_PEM, CA_SECRET, CLIENT_CERTIFICATE};
use super::refusal::Refusal;
use crate::snapshot::{Lookup, ObjectName, Snapshot, is_object_name};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Returns the CA certificates of a sink, in PEM.
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
    in_memory(subject, &pem)
        .check_ca()
        .map_err(|error| bad(&error))?;
    Ok(pem)
}

/// Returns the client certificate and its key from a Secret, in PEM.
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
    let identity = Identity {
        certificate: in_memory(cert_subject, &cert),
        key: in_memory(key_subject, &key),
    };
    identity.check().map_err(|error| bad(&error))?;
    Ok((cert, key))
}

fn in_memory(name: String, text: &[u8]) -> Pem {
    let text = text.to_vec();
    Pem::Text { name, text }
}

/// The kinds of objects that a sink can refer to.
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
            Some(Lookup::Unknown(why)) => {
                let message = format!("{field}: the {kind} {name} could not be read yet: {why}");
                return Err(Refusal::new(Reason::NotLookedUp, &message));
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

fn bad(error: &TlsError) -> Refusal {
    Refusal::new(Reason::BadCertificate, &error.to_string())
}
