use std::fs;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::Endpoint;

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

    fn pem(&self, name: &str) -> Pem {
        Pem::File(self.path(name))
    }

    fn with_ca(&self, name: &str) -> Result<TlsTarget, TlsError> {
        let options = TlsOptions {
            ca: Some(self.pem(name)),
            ..TlsOptions::default()
        };
        TlsTarget::new(options)
    }

    fn with_identity(&self, cert: &str, key: &str) -> Result<TlsTarget, TlsError> {
        let options = TlsOptions {
            ca: Some(self.pem("a.crt")),
            identity: Some(Identity {
                certificate: self.pem(cert),
                key: self.pem(key),
            }),
            ..TlsOptions::default()
        };
        TlsTarget::new(options)
    }
}

#[test]
fn files_that_fit_are_taken() {
    let files = Files::new();
    let target = files.with_ca("a.crt").unwrap();
    for host in ["localhost", "10.0.0.1", "::1"] {
        let endpoint = Endpoint::new(host, 6514).unwrap();
        target.client(endpoint.host()).unwrap();
    }
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
    let with_name = |name: &str| {
        TlsTarget::new(TlsOptions {
            ca: Some(files.pem("a.crt")),
            server_name: Some(name.to_owned()),
            ..TlsOptions::default()
        })
    };
    for name in ["logs.example", "10.0.0.1", "::1"] {
        with_name(name).unwrap();
    }
    assert!(matches!(
        with_name("no such name"),
        Err(TlsError::ServerName(name)) if name == "no such name"
    ));
}

#[test]
fn files_that_change_are_read_again_and_bad_ones_are_told_once() {
    let files = Files::new();
    let target = files.with_identity("a.crt", "a.key").unwrap();
    let config = || Arc::clone(&target.loaded.lock().config);
    assert!(target.refresh().is_none());
    let first = config();

    // The certificate is new, and the key is not yet.
    fs::copy(files.path("b.crt"), files.path("a.crt")).unwrap();
    let told = target.refresh();
    assert!(matches!(told, Some(Err(TlsError::KeyMismatch { .. }))));
    assert!(target.refresh().is_none());
    assert!(Arc::ptr_eq(&first, &config()));

    fs::copy(files.path("b.key"), files.path("a.key")).unwrap();
    assert!(matches!(target.refresh(), Some(Ok(()))));
    assert!(target.refresh().is_none());
    assert!(!Arc::ptr_eq(&first, &config()));

    fs::remove_file(files.path("a.key")).unwrap();
    let told = target.refresh();
    assert!(matches!(told, Some(Err(TlsError::Read { .. }))));
}

#[test]
fn what_is_in_memory_is_as_good_as_a_file_and_is_not_shown() {
    let files = Files::new();
    let pem = |name: &str| Pem::Text {
        name: format!("the Secret's {name}"),
        text: fs::read(files.path(name)).unwrap(),
    };
    let with_identity = |certificate: &str, key: &str| {
        TlsTarget::new(TlsOptions {
            ca: Some(pem("a.crt")),
            identity: Some(Identity {
                certificate: pem(certificate),
                key: pem(key),
            }),
            ..TlsOptions::default()
        })
    };
    let target = with_identity("a.crt", "a.key").unwrap();
    assert!(target.refresh().is_none());
    assert!(!format!("{target:?}").contains("BEGIN"));
    let error = with_identity("a.crt", "b.key").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the key the Secret's b.key does not belong to the certificate the Secret's a.crt"
    );
}
