use std::fs;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

struct Files {
    dir: TempDir,
}

impl Files {
    /// Two self-signed certificates, `a` and `b`, with their keys.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec!["localhost".to_owned()])
                .unwrap()
                .self_signed(&key)
                .unwrap();
            fs::write(dir.path().join(format!("{name}.crt")), certificate.pem()).unwrap();
            fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        fs::write(dir.path().join("empty"), "").unwrap();
        fs::write(dir.path().join("text"), "not a certificate\n").unwrap();
        fs::write(
            dir.path().join("torn"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
        )
        .unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn with_ca(&self, name: &str) -> Result<TlsTarget, TlsError> {
        let options = TlsOptions {
            ca_file: Some(self.path(name)),
            ..TlsOptions::default()
        };
        TlsTarget::new(&options, "localhost")
    }

    fn with_identity(&self, cert: &str, key: &str) -> Result<TlsTarget, TlsError> {
        let options = TlsOptions {
            ca_file: Some(self.path("a.crt")),
            identity: Some(Identity {
                cert_file: self.path(cert),
                key_file: self.path(key),
            }),
            ..TlsOptions::default()
        };
        TlsTarget::new(&options, "localhost")
    }
}

#[test]
fn files_that_fit_are_taken() {
    let files = Files::new();
    files.with_ca("a.crt").unwrap().client().unwrap();
    files.with_identity("b.crt", "b.key").unwrap();
}

#[test]
fn a_ca_file_is_there_and_holds_certificates() {
    let files = Files::new();
    assert!(matches!(files.with_ca("none"), Err(TlsError::Read { .. })));
    for name in ["empty", "text", "a.key"] {
        assert!(
            matches!(
                files.with_ca(name),
                Err(TlsError::Missing {
                    wanted: "certificate",
                    ..
                })
            ),
            "{name}"
        );
    }
    assert!(matches!(
        files.with_ca("torn"),
        Err(TlsError::NotPem { .. })
    ));
}

#[test]
fn an_identity_is_a_certificate_and_its_own_key() {
    let files = Files::new();
    assert!(matches!(
        files.with_identity("a.crt", "b.key"),
        Err(TlsError::KeyMismatch { .. })
    ));
    assert!(matches!(
        files.with_identity("a.crt", "a.crt"),
        Err(TlsError::Missing {
            wanted: "private key",
            ..
        })
    ));
    assert!(matches!(
        files.with_identity("empty", "a.key"),
        Err(TlsError::Missing {
            wanted: "certificate",
            ..
        })
    ));
}

#[test]
fn a_server_name_is_a_name_or_an_address() {
    let files = Files::new();
    let mut options = TlsOptions {
        ca_file: Some(files.path("a.crt")),
        ..TlsOptions::default()
    };
    TlsTarget::new(&options, "10.0.0.1").unwrap();
    TlsTarget::new(&options, "::1").unwrap();
    options.server_name = Some("no such name".to_owned());
    assert!(matches!(
        TlsTarget::new(&options, "localhost"),
        Err(TlsError::ServerName(name)) if name == "no such name"
    ));
}
