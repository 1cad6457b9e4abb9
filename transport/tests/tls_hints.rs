//! TLS errors and hints: each describes the actual problem in plain text.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use common::Fixture;
use common::tls::{Identity, OpenSsl, Server, open_port, pem, version_1};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType, date_time_ymd,
};
use rig::pki::{Pair, Pki};
use rig::rsyslog::{Driver, Input, Rsyslog};
use rustls::version::{TLS12, TLS13};
use transport::Sender;
use transport::tls::{Fingerprint, Identity as Ours, Pem, TlsOptions};

/// A CA in memory.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: Pem,
}

impl Ca {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: pem(certificate.der()),
            issuer: Issuer::new(params, key),
        }
    }

    fn signs(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(certificate.der().clone(), &key)
    }

    fn trusted(&self) -> TlsOptions {
        TlsOptions {
            ca: Some(self.pem.clone()),
            ..TlsOptions::default()
        }
    }
}

/// Returns the parameters of a receiver's certificate with these names.
fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    params
}

/// Checks that the error and the hint contain all of `words`, and no names from the
/// source code.
fn assert_explained(fixture: &Fixture, words: &[&str]) {
    let error = fixture.wait_for("failed: ");
    for text in words {
        assert!(error.contains(text), "{text:?} in {error}");
    }
    for code in [
        "Error",
        "Other(",
        "Context",
        "::",
        " {",
        "DnsName",
        "UnknownIssuer",
    ] {
        assert!(!error.contains(code), "{code:?} in {error}");
    }
}

/// Connects to a server that presents `identity`, and checks the error.
fn assert_rejected(host: &str, identity: Identity, options: TlsOptions, words: &[&str]) {
    let sender = Sender::start().unwrap();
    let server = Server::start(identity, &TLS13);
    assert_explained(&server.open(&sender, host, options), words);
}

#[test]
fn a_certificate_of_an_unknown_ca_is_explained() {
    let (ca, other) = (Ca::new("Test CA"), Ca::new("Other CA"));
    let identity = ca.signs(&named(&["localhost"]));
    assert_rejected(
        "localhost",
        identity,
        other.trusted(),
        &[
            "no trusted CA signed the certificate",
            "set CA to the CA that signed the receiver's certificate",
            "issuer \"CN=Test CA\"",
        ],
    );
}

#[test]
fn a_ca_of_the_same_name_with_another_key_is_explained() {
    let (ca, renewed) = (Ca::new("Test CA"), Ca::new("Test CA"));
    let identity = ca.signs(&named(&["localhost"]));
    assert_rejected(
        "localhost",
        identity,
        renewed.trusted(),
        &[
            "invalid signature",
            "CA may contain a different CA with the same name",
        ],
    );
}

#[test]
fn a_self_signed_certificate_that_is_not_configured_is_explained() {
    let other = Ca::new("Other CA");
    let mut params = named(&["localhost"]);
    params.is_ca = IsCa::NoCa;
    assert_rejected(
        "localhost",
        Identity::self_signed(&params),
        other.trusted(),
        &[
            "the certificate is self-signed and not a configured CA",
            "set CA to exactly this certificate",
        ],
    );
}

#[test]
fn a_ca_certificate_that_is_not_configured_is_explained() {
    let other = Ca::new("Other CA");
    let mut params = named(&["localhost"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = other.signs(&params);
    for identity in [Identity::self_signed(&params), signed] {
        assert_rejected(
            "localhost",
            identity,
            other.trusted(),
            &[
                "the receiver's own certificate is a CA certificate (CA:TRUE)",
                "set CA to exactly this certificate",
                "reissue it without CA:TRUE",
            ],
        );
    }
}

#[test]
fn a_certificate_with_a_common_name_only_is_explained() {
    let ca = Ca::new("Test CA");
    for host in ["localhost", "127.0.0.1"] {
        assert_rejected(
            host,
            ca.signs(&named(&[])),
            ca.trusted(),
            &[
                "the certificate has no subjectAltName",
                "its common name (CN) is not compared",
                "reissue the certificate with a subjectAltName",
            ],
        );
    }
}

#[test]
fn an_ip_address_as_a_dns_name_is_explained() {
    let ca = Ca::new("Test CA");
    let mut params = named(&[]);
    let name = SanType::DnsName("127.0.0.1".try_into().unwrap());
    params.subject_alt_names = vec![name];
    assert_rejected(
        "127.0.0.1",
        ca.signs(&params),
        ca.trusted(),
        &[
            "the certificate contains 127.0.0.1 as a DNS name, not as an IP address",
            "subjectAltName=IP:",
        ],
    );
}

#[test]
fn a_certificate_with_only_dns_names_for_an_ip_address_is_explained() {
    let ca = Ca::new("Test CA");
    assert_rejected(
        "127.0.0.1",
        ca.signs(&named(&["a.example.com", "b.example.com"])),
        ca.trusted(),
        &[
            "not valid for 127.0.0.1, only for a.example.com, b.example.com",
            "set SERVER-NAME to one of the certificate's DNS names",
        ],
    );
}

#[test]
fn a_certificate_of_another_host_is_explained() {
    let ca = Ca::new("Test CA");
    assert_rejected(
        "localhost",
        ca.signs(&named(&["a.example.com", "10.0.0.1"])),
        ca.trusted(),
        &[
            "not valid for localhost, only for a.example.com, 10.0.0.1",
            "set SERVER-NAME to one of the names in the receiver's certificate",
        ],
    );
}

#[test]
fn a_certificate_that_is_not_valid_now_is_explained() {
    let ca = Ca::new("Test CA");
    let mut params = named(&["localhost"]);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 12, 31);
    assert_rejected(
        "localhost",
        ca.signs(&params),
        ca.trusted(),
        &[
            "the certificate expired at 2020-12-31T00:00:00Z",
            "the current time is 20",
            "renew the receiver's certificate",
        ],
    );
    params.not_before = date_time_ymd(2200, 1, 1);
    params.not_after = date_time_ymd(2201, 1, 1);
    assert_rejected(
        "localhost",
        ca.signs(&params),
        ca.trusted(),
        &[
            "the certificate is not valid before 2200-01-01T00:00:00Z",
            "the current time is 20",
            "check the clocks of this machine",
        ],
    );
}

#[test]
fn an_intermediate_that_expired_is_explained() {
    let ca = Ca::new("Test CA");
    let mut params = named(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "Intermediate");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 12, 31);
    let key = KeyPair::generate().unwrap();
    let intermediate = params.signed_by(&key, &ca.issuer).unwrap();
    let pem = ca.pem.clone();
    let sub = Ca {
        issuer: Issuer::new(params, key),
        pem,
    };
    let mut identity = sub.signs(&named(&["localhost"]));
    identity.chain.push(intermediate.der().clone());
    assert_rejected(
        "localhost",
        identity,
        ca.trusted(),
        &["a CA certificate of the chain expired at 2020-12-31T00:00:00Z"],
    );
}

#[test]
fn a_certificate_without_the_server_auth_usage_is_explained() {
    let ca = Ca::new("Test CA");
    let mut params = named(&["localhost"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_rejected(
        "localhost",
        ca.signs(&params),
        ca.trusted(),
        &[
            "the certificate's extended key usage does not include server authentication",
            "extended key usage serverAuth",
        ],
    );
}

#[test]
fn a_certificate_with_an_unknown_critical_extension_is_explained() {
    let ca = Ca::new("Test CA");
    let mut params = named(&["localhost"]);
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions = vec![extension];
    assert_rejected(
        "localhost",
        ca.signs(&params),
        ca.trusted(),
        &["an unsupported critical extension"],
    );
}

#[test]
fn a_certificate_of_version_1_that_a_ca_signed_is_explained() {
    let ca = Ca::new("Test CA");
    let key = KeyPair::generate().unwrap();
    let certificate = named(&[]).signed_by(&key, &ca.issuer).unwrap();
    let old = version_1(certificate.der(), ca.issuer.key());
    assert_rejected(
        "localhost",
        Identity::new(old, &key),
        ca.trusted(),
        &[
            "the certificate is X.509 version 1",
            "reissue the certificate as version 3",
        ],
    );
}

#[test]
fn a_fingerprint_that_is_not_configured_is_explained() {
    let pins = vec![Fingerprint::of(b"another")];
    assert_rejected(
        "localhost",
        Identity::self_signed(&named(&["localhost"])),
        TlsOptions {
            pins,
            ..TlsOptions::default()
        },
        &[
            "the certificate's fingerprint matches none of the configured pins",
            "PINS",
        ],
    );
}

#[test]
fn a_server_with_a_different_protocol_is_explained() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Fails if the client has already disconnected.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let sender = Sender::start().unwrap();
    assert_explained(
        &open_port(&sender, "localhost", port, unverified()),
        &[
            "the receiver's answer is not TLS",
            "the receiver may not speak TLS on this port: see TRANSPORT",
        ],
    );
}

fn unverified() -> TlsOptions {
    TlsOptions {
        insecure_skip_verify: true,
        ..TlsOptions::default()
    }
}

/// Connects to an `openssl s_server` with a generated certificate, and checks the error.
fn with_openssl(generate: &str, serve: &str, options: TlsOptions, words: &[&str]) {
    let Some(openssl) = OpenSsl::find() else {
        return;
    };
    openssl.run(&format!(
        "req -x509 {generate} -nodes -subj /CN=logs -keyout key.pem -out cert.pem"
    ));
    let server = openssl.serve(&format!("-key key.pem -cert cert.pem {serve}"));
    let sender = Sender::start().unwrap();
    assert_explained(
        &open_port(&sender, "localhost", server.port, options),
        words,
    );
}

const RSA: &str = "-newkey rsa:2048";
const P521: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-521";

#[test]
fn a_server_without_a_common_cipher_suite_is_explained() {
    for cipher in ["AES128-SHA", "ECDHE-RSA-AES128-SHA256"] {
        with_openssl(
            RSA,
            &format!("-tls1_2 -cipher {cipher}"),
            unverified(),
            &[
                "the receiver supports none of the offered cipher suites, groups or signature algorithms",
                "handshake_failure",
                "ECDHE",
                "P-521 is not supported",
            ],
        );
    }
}

#[test]
fn a_server_with_only_an_old_version_of_tls_is_explained() {
    let old = "-tls1_1 -cipher DEFAULT:@SECLEVEL=0";
    with_openssl(
        RSA,
        old,
        unverified(),
        &[
            "the receiver supports none of the offered TLS versions",
            "enable TLS 1.2 or 1.3 on the receiver",
        ],
    );
    let options = TlsOptions {
        only_tls13: true,
        ..unverified()
    };
    with_openssl(
        RSA,
        "-tls1_2",
        options,
        &[
            "the receiver supports none of the offered TLS versions",
            "set MIN-VERSION to 1.2",
        ],
    );
}

#[test]
fn a_server_with_a_p_521_key_is_explained() {
    for version in ["-tls1_2", "-tls1_3"] {
        with_openssl(
            P521,
            version,
            unverified(),
            &[
                "the receiver supports none of the offered cipher suites, groups or signature algorithms",
                "P-521 is not supported",
            ],
        );
    }
}

#[test]
fn a_server_with_only_an_unsupported_group_is_explained() {
    for version in ["-tls1_2", "-tls1_3"] {
        with_openssl(
            RSA,
            &format!("{version} -groups P-521"),
            unverified(),
            &["the receiver supports none of the offered cipher suites, groups"],
        );
    }
}

#[test]
fn a_ca_with_an_unsupported_key_or_signature_is_explained() {
    let Some(openssl) = OpenSsl::find() else {
        return;
    };
    for (key, digest, problem) in [
        (P521, "sha256", "P-521"),
        (P521, "sha512", "P-521"),
        (RSA, "sha1", "RSA with SHA-1"),
        ("-newkey rsa:1024", "sha256", "RSA with 1024 bits"),
    ] {
        openssl.run(&format!(
            "req -x509 {key} -nodes -subj /CN=ca -keyout ca.key -out ca.pem"
        ));
        openssl.run(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a -addext subjectAltName=DNS:localhost -keyout key.pem -out csr.pem",
        );
        openssl.run(&format!(
            "x509 -req -in csr.pem -copy_extensions copyall -CA ca.pem -CAkey ca.key -{digest} -out cert.pem"
        ));
        let server = openssl
            .serve("-key key.pem -cert cert.pem -cert_chain ca.pem -cipher DEFAULT:@SECLEVEL=0");
        let sender = Sender::start().unwrap();
        let other = Ca::new("Other CA");
        // A supported CA in the bundle, since a bundle without one is rejected.
        let both = [&openssl.pem("ca.pem"), &other.pem].map(|pem| match pem {
            Pem::File(path) => std::fs::read(path).unwrap(),
            Pem::Text { text, .. } => text.clone(),
        });
        let options = TlsOptions {
            ca: Some(Pem::Text {
                name: "two CAs".to_owned(),
                text: both.concat(),
            }),
            ..TlsOptions::default()
        };
        assert_explained(
            &open_port(&sender, "localhost", server.port, options),
            &[problem],
        );
    }
}

#[test]
fn a_server_that_requires_a_client_certificate_is_explained() {
    for version in ["-tls1_2", "-tls1_3"] {
        with_openssl(
            RSA,
            &format!("{version} -Verify 1"),
            unverified(),
            &[
                "the receiver requires a client certificate",
                "set CLIENT-IDENTITY",
            ],
        );
    }
}

#[test]
fn a_server_that_rejects_the_client_certificate_is_explained() {
    let client = Ca::new("Client CA");
    let mut expired = named(&["client"]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2020, 12, 31);
    for (params, words) in [
        (
            named(&["client"]),
            [
                "unknown_ca",
                "the receiver does not trust the CA that signed the certificate in CLIENT-CERTIFICATE",
            ],
        ),
        (
            expired,
            [
                "certificate_expired",
                "renew the certificate in CLIENT-CERTIFICATE",
            ],
        ),
    ] {
        let Some(openssl) = OpenSsl::find() else {
            return;
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &client.issuer).unwrap();
        let ours = || {
            Some(Ours {
                certificate: pem(certificate.der()),
                key: Pem::Text {
                    name: "the key".to_owned(),
                    text: key.serialize_pem().into_bytes(),
                },
            })
        };
        let trusted = match &client.pem {
            Pem::Text { text, .. } if words[0] == "certificate_expired" => text.clone(),
            _ => Vec::new(),
        };
        std::fs::write(openssl.path("client-ca.pem"), trusted).unwrap();
        openssl.run(&format!(
            "req -x509 {RSA} -nodes -subj /CN=logs -keyout key.pem -out cert.pem"
        ));
        for version in ["-tls1_2", "-tls1_3"] {
            let trust = if words[0] == "certificate_expired" {
                "-CAfile client-ca.pem"
            } else {
                ""
            };
            let server = openssl.serve(&format!(
                "-key key.pem -cert cert.pem {version} -Verify 1 -verify_return_error {trust}"
            ));
            let sender = Sender::start().unwrap();
            let options = TlsOptions {
                identity: ours(),
                ..unverified()
            };
            let fixture = open_port(&sender, "localhost", server.port, options);
            assert_explained(&fixture, &words);
            assert_explained(&fixture, &["the receiver rejected the client certificate"]);
        }
    }
}

#[test]
fn an_expired_certificate_that_is_configured_itself_is_explained() {
    let mut params = named(&[]);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 12, 31);
    let identity = Identity::self_signed(&params);
    let options = TlsOptions {
        ca: Some(identity.pem()),
        ..TlsOptions::default()
    };
    let sender: Arc<Sender> = Sender::start().unwrap();
    let server = Server::start(identity, &TLS12);
    assert_explained(
        &server.open(&sender, "localhost", options),
        &[
            "the certificate expired at 2020-12-31T00:00:00Z",
            "renew the receiver's certificate",
        ],
    );
}

#[test]
fn rsyslog_that_requires_a_trusted_client_certificate_is_explained() {
    let pki = Pki::new();
    let input = Input::Tls {
        driver: Driver::OpenSsl,
        server: pki.server(),
        ca: pki.ca(),
        mutual: true,
    };
    let Some(rsyslog) = Rsyslog::start(&input) else {
        return;
    };
    let trusted = |identity| TlsOptions {
        ca: Some(Pem::File(pki.ca())),
        identity,
        ..TlsOptions::default()
    };
    let Pair { cert, key } = pki.foreign_client();
    let foreign = Ours {
        certificate: Pem::File(cert),
        key: Pem::File(key),
    };
    let sender = Sender::start().unwrap();
    for (identity, words) in [
        (
            None,
            [
                "the receiver requires a client certificate",
                "set CLIENT-IDENTITY",
            ],
        ),
        (
            Some(foreign),
            [
                "the receiver rejected the client certificate (alert unknown_ca)",
                "does not trust the CA that signed the certificate in CLIENT-CERTIFICATE",
            ],
        ),
    ] {
        let fixture = open_port(&sender, "localhost", rsyslog.port(), trusted(identity));
        assert_explained(&fixture, &words);
    }
}

#[test]
fn a_close_without_an_alert_for_a_missing_client_certificate_is_explained() {
    // rsyslog's gtls driver requests a certificate, and closes without an alert.
    let ca = Ca::new("Test CA");
    let sender = Sender::start().unwrap();
    let server = Server::requesting_client_certificate(ca.signs(&named(&["localhost"])));
    assert_explained(
        &server.open(&sender, "localhost", ca.trusted()),
        &[
            "closed the connection during the handshake, after it asked for a client certificate",
            "the receiver may require a client certificate: set CLIENT-IDENTITY",
        ],
    );
}
