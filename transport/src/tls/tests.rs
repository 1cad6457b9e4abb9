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
fn consistent_files_are_accepted() {
    let files = Files::new();
    let target = files.with_ca("a.crt").unwrap();
    for host in ["localhost", "10.0.0.1", "::1"] {
        let endpoint = Endpoint::new(host, 6514).unwrap();
        target.client(endpoint.host()).unwrap();
    }
    files.with_identity("b.crt", "b.key").unwrap();
}

#[test]
fn a_ca_file_must_exist_and_contain_certificates() {
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
fn an_identity_must_be_a_certificate_and_its_key() {
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
fn a_server_name_must_be_a_dns_name_or_an_ip_address() {
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
fn changed_files_are_read_again_and_errors_are_reported_once() {
    let files = Files::new();
    let target = files.with_identity("a.crt", "a.key").unwrap();
    let config = || Arc::clone(&target.loaded.lock().config);
    assert!(target.refresh().is_none());
    let first = config();

    // The certificate has been replaced, but not yet the key.
    fs::copy(files.path("b.crt"), files.path("a.crt")).unwrap();
    let refreshed = target.refresh();
    assert!(matches!(refreshed, Some(Err(TlsError::KeyMismatch { .. }))));
    assert!(target.refresh().is_none());
    assert!(Arc::ptr_eq(&first, &config()));

    fs::copy(files.path("b.key"), files.path("a.key")).unwrap();
    assert!(matches!(target.refresh(), Some(Ok(()))));
    assert!(target.refresh().is_none());
    assert!(!Arc::ptr_eq(&first, &config()));

    fs::remove_file(files.path("a.key")).unwrap();
    let refreshed = target.refresh();
    assert!(matches!(refreshed, Some(Err(TlsError::Read { .. }))));
}

#[test]
fn pem_in_memory_is_accepted_and_not_shown() {
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
        "the private key in the Secret's b.key does not belong to the certificate in the Secret's a.crt"
    );
}

/// Returns the error of a CA file with this content, and the error of a key file with
/// this content.
fn errors(content: &[u8]) -> [String; 2] {
    let files = Files::new();
    fs::write(files.path("file"), content).unwrap();
    let name = files.path("file").display().to_string();
    let errors = [files.with_ca("file"), files.with_identity("a.crt", "file")];
    errors.map(|error| {
        let text = error.unwrap_err().to_string();
        // Brackets would mean a byte array in the text.
        assert!(!text.contains('['), "{text}");
        text.replace(&name, "FILE")
    })
}

#[test]
fn the_error_for_der_names_the_command_that_converts_it_to_pem() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    for der in [certificate.der().to_vec(), key.serialize_der()] {
        let [ca, key] = errors(&der);
        let problem = "FILE is DER, must be PEM: convert it with";
        assert_eq!(
            ca,
            format!("{problem} `openssl x509 -inform der -in FILE -out NEW`")
        );
        assert_eq!(
            key,
            format!("{problem} `openssl pkey -inform der -in FILE -out NEW`")
        );
    }
}

#[test]
fn the_error_for_other_files_describes_their_content() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let [ca, _] = errors(key.as_bytes());
    assert_eq!(
        ca,
        "FILE contains no certificate in PEM format (found: \"PRIVATE KEY\")"
    );
    let [ca, key] = errors(b"-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n");
    let found = "in PEM format (found: \"TRUSTED CERTIFICATE\")";
    assert!(
        ca.ends_with("the line -----END TRUSTED CERTIFICATE----- is missing"),
        "{ca}"
    );
    assert!(
        key.ends_with("the line -----END TRUSTED CERTIFICATE----- is missing"),
        "{key}"
    );
    let [ca, key] =
        errors(b"-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n");
    assert_eq!(ca, format!("FILE contains no certificate {found}"));
    assert_eq!(key, format!("FILE contains no private key {found}"));
    let [ca, _] = errors(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    assert_eq!(ca, "FILE is not valid PEM: a block is not valid Base64");
    let [ca, _] = errors(b"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n");
    assert_eq!(
        ca,
        "FILE is not valid PEM: a line that begins with -----BEGIN does not end with -----"
    );
    let [ca, _] = errors(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_eq!(
        ca,
        "FILE contains an unusable CA certificate: the certificate is invalid: bad encoding"
    );
}

#[test]
fn byte_order_marks_and_utf_16_are_accepted() {
    let files = Files::new();
    let text = fs::read_to_string(files.path("a.crt")).unwrap();
    let marked = format!("\u{feff}{text}");
    let units = || marked.encode_utf16();
    let forms: [(&str, Vec<u8>); 3] = [
        ("UTF-8", marked.clone().into_bytes()),
        ("UTF-16 LE", units().flat_map(u16::to_le_bytes).collect()),
        ("UTF-16 BE", units().flat_map(u16::to_be_bytes).collect()),
    ];
    for (form, bytes) in forms {
        fs::write(files.path("marked"), bytes).unwrap();
        let read = files.pem("marked").certificates().unwrap();
        assert_eq!(read, files.pem("a.crt").certificates().unwrap(), "{form}");
    }
}

#[test]
fn every_certificate_of_a_bundle_is_read() {
    let files = Files::new();
    let text = |name: &str| fs::read_to_string(files.path(name)).unwrap();
    let (a, b) = (text("a.crt"), text("b.crt"));
    for bundle in [
        format!("{a}{b}"),
        // The output of `cat` for files without a final line feed, or with byte order
        // marks.
        format!("{}{b}", a.trim_end()),
        format!("\u{feff}{a}\u{feff}{b}"),
        format!(
            "a comment\r\n{}",
            [a.clone(), b.clone()].concat().replace('\n', "\r\n")
        ),
    ] {
        fs::write(files.path("bundle"), &bundle).unwrap();
        let certificates = files.pem("bundle").certificates().unwrap();
        assert_eq!(certificates.len(), 2, "{bundle:?}");
    }
}

/// Runs a command of OpenSSL in the folder. Returns None if OpenSSL is not installed.
fn openssl(files: &Files, command: &str) -> Option<()> {
    let Some(program) = rig::program("openssl") else {
        rig::skip("openssl is not installed (Debian: openssl)");
        return None;
    };
    let mut openssl = std::process::Command::new(program);
    openssl
        .args(command.split_whitespace())
        .current_dir(files.dir.path());
    rig::process::run(&mut openssl);
    Some(())
}

#[test]
fn an_encrypted_key_has_a_specific_error() {
    let files = Files::new();
    for command in [
        // These write ENCRYPTED PRIVATE KEY and Proc-Type: 4,ENCRYPTED.
        "pkey -in a.key -aes256 -passout pass:secret -out file",
        "ec -in a.key -aes256 -passout pass:secret -out file",
    ] {
        if openssl(&files, command).is_none() {
            return;
        }
        let error = files.with_identity("a.crt", "file").unwrap_err();
        assert!(matches!(error, TlsError::EncryptedKey { .. }), "{error:?}");
        let error = error.to_string();
        let advice = "decrypt it with `openssl pkey -in FILE -out NEW`";
        assert!(
            error.contains("is encrypted") && error.ends_with(advice),
            "{error}"
        );
    }
}

#[test]
fn pkcs_12_has_a_specific_error() {
    let files = Files::new();
    let command = "pkcs12 -export -in a.crt -inkey a.key -passout pass:secret -out file";
    if openssl(&files, command).is_none() {
        return;
    }
    let error = files
        .with_identity("a.crt", "file")
        .unwrap_err()
        .to_string();
    let advice = "is PKCS #12, must be PEM: convert it with \
                  `openssl pkcs12 -nocerts -noenc -in FILE -out NEW`";
    assert!(error.ends_with(advice), "{error}");
}

#[test]
fn unsupported_keys_are_named_in_the_error() {
    let files = Files::new();
    for (key, name) in [
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-521", "P-521"),
        (
            "-newkey ec -pkeyopt ec_paramgen_curve:secp256k1",
            "secp256k1",
        ),
        ("-newkey ed448", "Ed448"),
        ("-newkey rsa:1024", "RSA with 1024 bits"),
        (
            "-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048",
            "RSASSA-PSS",
        ),
    ] {
        let command = format!("req -x509 {key} -nodes -subj /CN=a -keyout x.key -out x.crt");
        if openssl(&files, &command).is_none() {
            return;
        }
        let allowed = "must be RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519";
        let end = format!("x.crt has an unsupported key ({name}), {allowed}");
        for error in [
            files.with_ca("x.crt"),
            files.with_identity("x.crt", "x.key"),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.ends_with(&end), "{error}");
        }
        let error = files
            .with_identity("a.crt", "x.key")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("x.key is damaged or not supported"),
            "{error}"
        );
        // An unsupported certificate beside supported ones is not an error.
        let both = ["x.crt", "a.crt"].map(|name| fs::read(files.path(name)).unwrap());
        fs::write(files.path("bundle"), both.concat()).unwrap();
        files.with_ca("bundle").unwrap();
    }
}

#[test]
fn a_client_certificate_may_be_x509_version_1() {
    let files = Files::new();
    for command in [
        "req -new -key a.key -subj /CN=client -out a.csr",
        "x509 -req -in a.csr -CA b.crt -CAkey b.key -out old.crt",
    ] {
        if openssl(&files, command).is_none() {
            return;
        }
    }
    files.with_identity("old.crt", "a.key").unwrap();
    let error = files.with_identity("old.crt", "b.key");
    assert!(matches!(error, Err(TlsError::KeyMismatch { .. })));
}
