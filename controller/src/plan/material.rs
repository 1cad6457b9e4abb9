//! Certificates and keys: found, and checked before an agent reads them.

use std::collections::BTreeMap;

use transport::tls::{Identity, Pem, TlsError};

use super::refusal::Refusal;
use crate::resources::{CaSource, KeyReference};
use crate::snapshot::{Lookup, ObjectName, Snapshot, is_object_name};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The CA certificates that a sink names, in PEM.
pub(super) fn ca(
    source: &CaSource,
    namespace: &str,
    snapshot: &Snapshot,
) -> Result<Vec<u8>, Refusal> {
    let (field, pem) = match source {
        CaSource {
            pem: Some(pem),
            secret: None,
            config_map: None,
        } => ("tls.ca.pem".to_owned(), pem.as_bytes().to_vec()),
        CaSource {
            pem: None,
            secret: Some(reference),
            config_map: None,
        } => key_of("Secret", &snapshot.secrets, namespace, reference)?,
        CaSource {
            pem: None,
            secret: None,
            config_map: Some(reference),
        } => key_of("ConfigMap", &snapshot.config_maps, namespace, reference)?,
        CaSource { .. } => {
            let problem = "tls.ca: exactly one of pem, secret and configMap is needed";
            return Err(Refusal::new("InvalidValue", problem));
        }
    };
    in_memory(field, &pem)
        .check_ca()
        .map_err(|error| bad(&error))?;
    Ok(pem)
}

/// The certificate and the key of a Secret, in PEM.
pub(super) fn identity(
    secret: &str,
    namespace: &str,
    snapshot: &Snapshot,
) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let reference = |key: &str| KeyReference {
        name: secret.to_owned(),
        key: key.to_owned(),
    };
    let (cert_field, cert) = key_of(
        "Secret",
        &snapshot.secrets,
        namespace,
        &reference(CERTIFICATE),
    )?;
    let (key_field, key) = key_of("Secret", &snapshot.secrets, namespace, &reference(KEY))?;
    let identity = Identity {
        certificate: in_memory(cert_field, &cert),
        key: in_memory(key_field, &key),
    };
    identity.check().map_err(|error| bad(&error))?;
    Ok((cert, key))
}

fn in_memory(name: String, text: &[u8]) -> Pem {
    let text = text.to_vec();
    Pem::Text { name, text }
}

/// A key of an object, and how to call it.
fn key_of(
    kind: &str,
    objects: &BTreeMap<ObjectName, Lookup>,
    namespace: &str,
    reference: &KeyReference,
) -> Result<(String, Vec<u8>), Refusal> {
    if !is_object_name(&reference.name) {
        let problem = format!("is not the name of a {kind}");
        return Err(Refusal::value("tls", &reference.name, &problem));
    }
    let name = ObjectName::new(namespace, &reference.name);
    let data = match objects.get(&name) {
        Some(Lookup::Found(data)) => data,
        Some(Lookup::Unreadable(why)) => {
            let message = format!("the {kind} {name} cannot be read: {why}");
            return Err(Refusal::new(&format!("{kind}NotReadable"), &message));
        }
        Some(Lookup::Missing) | None => {
            let message = format!("the {kind} {name} does not exist");
            return Err(Refusal::new(&format!("{kind}NotFound"), &message));
        }
    };
    let field = format!("key {:?} of the {kind} {name}", reference.key);
    if let Some(value) = data.get(&reference.key) {
        return Ok((field, value.clone()));
    }
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    let message = format!("{field} does not exist, only {}", keys.join(", "));
    Err(Refusal::new("KeyNotFound", &message))
}

fn bad(error: &TlsError) -> Refusal {
    Refusal::new("BadCertificate", &error.to_string())
}
