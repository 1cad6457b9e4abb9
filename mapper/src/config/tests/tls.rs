use std::fs;

use super::*;

#[test]
fn tls_is_the_default_transport_with_its_own_port() {
    let config = parse(&[("servers", "host"), ("tls_verify", "off")]).unwrap();
    assert!(matches!(config.targets[0].transport, Transport::Tls(_)));
    assert_eq!(config.targets[0].servers[0].port(), 6514);
    assert!(config.warnings[0].contains("not verified"));
}

#[test]
fn tls_keys_require_a_tls_transport() {
    let error = error(&[("tls_ca_file", "/ca.pem")]);
    assert_eq!(
        error,
        r#"tls_ca_file "/ca.pem": requires transport tls or relp+tls"#
    );
}

#[test]
fn tls_files_are_validated_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    let error =
        |keys: &[(&str, &str)]| parse(&[&[("servers", "host")], keys].concat()).unwrap_err();
    assert_eq!(error(&[("tls_ca_file", "/no/such")]).key, "tls_ca_file");
    assert!(
        error(&[("tls_ca_file", empty)])
            .problem
            .contains("contains no certificate")
    );
    let keys = [("tls_verify", "off"), ("tls_cert_file", empty)];
    assert_eq!(error(&keys).key, "tls_key_file");
    let keys = [("tls_verify", "off"), ("tls_key_file", empty)];
    assert_eq!(error(&keys).key, "tls_cert_file");
    let keys = [
        ("tls_verify", "off"),
        ("tls_cert_file", empty),
        ("tls_key_file", "/no/such"),
    ];
    assert_eq!(error(&keys).key, "tls_cert_file");
    let encrypted = dir.path().join("encrypted.pem");
    let label = "ENCRYPTED PRIVATE KEY";
    let block = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    fs::write(&encrypted, block).unwrap();
    let pki = rig::pki::Pki::new();
    let certificate = pki.client().cert;
    let keys = [
        ("tls_verify", "off"),
        ("tls_cert_file", certificate.to_str().unwrap()),
        ("tls_key_file", encrypted.to_str().unwrap()),
    ];
    let encrypted = error(&keys);
    assert_eq!(encrypted.key, "tls_key_file");
    assert!(encrypted.problem.contains("is encrypted"), "{encrypted:?}");
    let keys = [("tls_verify", "off"), ("tls_server_name", "no name")];
    assert_eq!(error(&keys).key, "tls_server_name");
}

#[test]
fn pins_are_sha_256_fingerprints() {
    let pins = |text: &str| parse(&[("servers", "host"), ("tls_pins", text)]);
    let pin = "ab".repeat(32);
    // With a pin, no CA is needed.
    let config = pins(&format!("{pin}, sha-256:{pin}")).unwrap();
    assert!(config.warnings.is_empty());
    let error = pins(&format!("{pin},abc")).unwrap_err().to_string();
    assert!(
        error.contains(r#""abc" is not a SHA-256 fingerprint"#),
        "{error}"
    );
}
