//! The configuration keys of TLS, including `tlsconfig` of PKS.

use serde::Deserialize;
use transport::tls::{Identity, Pem, TlsError, TlsOptions, TlsTarget};

use super::ConfigError;
use super::options::Options;
use super::value;

/// The JSON that PKS writes into `tlsconfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsConfig {
    insecure_skip_verify: Flag,
    root_ca: String,
}

/// A boolean, which PKS writes as `"true"` and also accepts as `true`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

impl Default for Flag {
    fn default() -> Self {
        Self::Bool(false)
    }
}

impl Flag {
    fn value(&self) -> Result<bool, String> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::Text(text) if text.is_empty() => Ok(false),
            Self::Text(text) => value::flag(text),
        }
    }
}

const KEYS: [&str; 7] = [
    "tls_ca_file",
    "tls_cert_file",
    "tls_key_file",
    "tls_server_name",
    "tls_pins",
    "tls_verify",
    "tls_min_version",
];

/// Returns an error if a TLS key is set, for transports without TLS: ignoring the key
/// would leave the user with an unencrypted connection.
pub(super) fn reject_keys(options: &Options<'_>) -> Result<(), ConfigError> {
    let key = KEYS
        .into_iter()
        .chain(["tlsconfig"])
        .find(|key| options.text(key).is_some());
    match key {
        None => Ok(()),
        Some(key) => Err(options.error(key, "requires transport tls or relp+tls")),
    }
}

/// Parses the keys, and reads the files that they name.
pub(super) fn parse(
    options: &Options<'_>,
    warnings: &mut Vec<String>,
) -> Result<TlsTarget, ConfigError> {
    let pks = options
        .optional("tlsconfig", |text| {
            // Parsed as a map first: the derived code would also accept an array.
            let config: TlsConfig = serde_json::from_str(text)
                .map(serde_json::Value::Object)
                .and_then(serde_json::from_value)
                .map_err(|error| {
                    format!(
                        "invalid JSON, expected \
                         {{\"insecure_skip_verify\": true or false, \"root_ca\": \"file\"}}: {error}"
                    )
                })?;
            Ok((config.insecure_skip_verify.value()?, config.root_ca))
        })?
        .unwrap_or_default();
    let (pks_skip_verify, pks_root_ca) = pks;
    let pks_ca = Some(pks_root_ca).filter(|path| !path.is_empty());
    let ca = options
        .pem("tls_ca_file")
        .or(pks_ca.map(|path| Pem::File(path.into())));
    let verify = match options.text("tls_verify") {
        Some(_) => options.flag("tls_verify")?,
        None => !pks_skip_verify,
    };
    let tls = TlsOptions {
        ca,
        identity: identity(options)?,
        server_name: options.text("tls_server_name"),
        pins: options
            .optional("tls_pins", value::fingerprints)?
            .unwrap_or_default(),
        insecure_skip_verify: !verify,
        only_tls13: options.choice("tls_min_version", &[("1.2", false), ("1.3", true)])?,
    };
    if !verify && tls.pins.is_empty() {
        warnings.push(
            "the receiver's certificate is not verified: anyone can impersonate the receiver"
                .to_owned(),
        );
    }
    TlsTarget::new(tls.clone())
        .map_err(|error| options.error(key_of(&error, &tls), error.to_string()))
}

fn identity(options: &Options<'_>) -> Result<Option<Identity>, ConfigError> {
    match (options.pem("tls_cert_file"), options.pem("tls_key_file")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
        (Some(_), None) => Err(options.error(
            "tls_key_file",
            "missing, but tls_cert_file is set: set both or neither",
        )),
        (None, Some(_)) => Err(options.error(
            "tls_cert_file",
            "missing, but tls_key_file is set: set both or neither",
        )),
    }
}

/// Returns the configuration key that caused an error.
fn key_of(error: &TlsError, tls: &TlsOptions) -> &'static str {
    let key_of_pem = |pem: &str| match &tls.identity {
        Some(identity) if identity.certificate.to_string() == pem => "tls_cert_file",
        Some(identity) if identity.key.to_string() == pem => "tls_key_file",
        _ => "tls_ca_file",
    };
    match error {
        TlsError::Read { pem, .. }
        | TlsError::NotPem { pem, .. }
        | TlsError::Binary { pem, .. }
        | TlsError::EncryptedKey { pem }
        | TlsError::Missing { pem, .. }
        | TlsError::BadCa { pem, .. }
        | TlsError::UnsupportedKey { pem, .. }
        | TlsError::BadKey { pem }
        | TlsError::BadCertificate { pem } => key_of_pem(pem),
        TlsError::NoSystemRoots | TlsError::Verifier(_) => "tls_ca_file",
        TlsError::KeyMismatch { .. } => "tls_key_file",
        TlsError::ServerName(_) => "tls_server_name",
    }
}
