//! Receivers' certificates that no CA issued for the receiver: which ones are accepted,
//! and which ones are rejected.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod common;

use std::sync::Arc;

use common::Fixture;
use common::tls::{
    Claiming, Identity, OpenSsl, Server, certificate, key, open_port, pem, version_1,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{SignatureScheme, SupportedProtocolVersion};
use transport::Sender;
use transport::tls::{Fingerprint, Pem, TlsOptions};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn unverified() -> TlsOptions {
    TlsOptions {
        insecure_skip_verify: true,
        ..TlsOptions::default()
    }
}

fn pinned(certificate: &CertificateDer<'_>) -> TlsOptions {
    TlsOptions {
        pins: vec![Fingerprint::of(certificate)],
        ..TlsOptions::default()
    }
}

fn configured(ca: Pem) -> TlsOptions {
    TlsOptions {
        ca: Some(ca),
        ..TlsOptions::default()
    }
}

/// Returns parameters like those of `openssl req -x509`: a CA certificate with the given
/// names.
fn openssl_defaults(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "logs.example.com");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Returns an X.509 version 1 certificate of the key.
fn version_1_certificate(key: &KeyPair) -> CertificateDer<'static> {
    let certificate = openssl_defaults(&[]).self_signed(key).unwrap();
    version_1(certificate.der(), key)
}

fn assert_rejected(fixture: &Fixture, problem: &str) {
    let error = fixture.wait_for("failed: ");
    assert!(error.contains(problem), "{problem:?} in {error}");
}

#[test]
fn a_version_1_certificate_is_accepted_if_unverified_pinned_or_configured() {
    let sender = Sender::start().unwrap();
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let old = version_1_certificate(&key);
        for version in VERSIONS {
            let server = Server::start(Identity::new(old.clone(), &key), version);
            for options in [unverified(), pinned(&old), configured(pem(&old))] {
                server.assert_receives(&server.open(&sender, "127.0.0.1", options));
            }
        }
    }
}

#[test]
fn a_receiver_without_the_key_of_its_certificate_is_rejected() {
    let sender = Sender::start().unwrap();
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let new = openssl_defaults(&[]).self_signed(&key).unwrap();
    for certificate in [version_1_certificate(&key), new.der().clone()] {
        for version in VERSIONS {
            let server = Server::start(Identity::new(certificate.clone(), &other), version);
            let ca = pem(&certificate);
            for options in [unverified(), pinned(&certificate), configured(ca)] {
                let fixture = server.open(&sender, "127.0.0.1", options);
                assert_rejected(
                    &fixture,
                    "the receiver does not have the certificate's private key",
                );
            }
        }
    }
}

#[test]
fn a_version_1_certificate_with_an_rsa_key_is_accepted() {
    let Some(openssl) = OpenSsl::find() else {
        return;
    };
    let sender = Sender::start().unwrap();
    openssl.run("req -newkey rsa:2048 -nodes -keyout key.pem -subj /CN=logs -out csr.pem");
    openssl.run("x509 -req -in csr.pem -signkey key.pem -out cert.pem");
    let cert = certificate(&openssl.path("cert.pem"));
    for options in [
        "-tls1_3",
        "-tls1_2",
        // TLS 1.3 does not allow PKCS #1 version 1.5.
        "-tls1_2 -sigalgs RSA+SHA256",
    ] {
        let mut server = openssl.serve(&format!("-key key.pem -cert cert.pem {options}"));
        let fixture = open_port(&sender, "127.0.0.1", server.port, pinned(&cert));
        fixture.deliver(&["one"]);
        server.wait_for("- - - - - - one");
    }
}

#[test]
fn signatures_for_version_1_certificates_follow_the_rules_of_the_tls_version() {
    let Some(openssl) = OpenSsl::find() else {
        return;
    };
    let sender = Sender::start().unwrap();
    openssl.run("req -newkey rsa:2048 -nodes -keyout key.pem -subj /CN=logs -out csr.pem");
    openssl.run("x509 -req -in csr.pem -signkey key.pem -out cert.pem");
    let certificate = certificate(&openssl.path("cert.pem"));
    let server = |actual, claimed, version| {
        let key = key(&openssl.path("key.pem"));
        let key = Arc::new(Claiming {
            key,
            actual,
            claimed,
        });
        let chain = vec![certificate.clone()];
        Server::start(Identity { chain, key }, version)
    };
    let (pss, pkcs1) = (
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PKCS1_SHA256,
    );
    for (actual, version) in [(pss, &TLS13), (pss, &TLS12), (pkcs1, &TLS12)] {
        let server = server(actual, actual, version);
        server.assert_receives(&server.open(&sender, "127.0.0.1", pinned(&certificate)));
    }
    // TLS 1.3 allows PKCS #1 version 1.5 only for the signatures of certificates.
    let forbidden = server(pkcs1, pkcs1, &TLS13);
    let fixture = forbidden.open(&sender, "127.0.0.1", pinned(&certificate));
    assert_rejected(&fixture, "signed handshake with unadvertised sig scheme");
    for version in VERSIONS {
        let lying = server(pss, SignatureScheme::RSA_PSS_SHA512, version);
        let fixture = lying.open(&sender, "127.0.0.1", pinned(&certificate));
        assert_rejected(
            &fixture,
            "the receiver does not have the certificate's private key",
        );
        let other = server(pss, SignatureScheme::ECDSA_NISTP256_SHA256, version);
        let fixture = other.open(&sender, "127.0.0.1", pinned(&certificate));
        fixture.wait_for("failed: ");
    }
}

#[test]
fn the_scheme_determines_the_curve_only_in_tls_1_3() {
    let Some(openssl) = OpenSsl::find() else {
        return;
    };
    let sender = Sender::start().unwrap();
    openssl.run("req -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout key.pem -subj /CN=logs -out csr.pem");
    openssl.run("x509 -req -in csr.pem -signkey key.pem -out cert.pem");
    let certificate = certificate(&openssl.path("cert.pem"));
    let mut server = openssl.serve("-key key.pem -cert cert.pem -tls1_2 -sigalgs ECDSA+SHA256");
    let fixture = open_port(&sender, "127.0.0.1", server.port, pinned(&certificate));
    fixture.deliver(&["one"]);
    server.wait_for("- - - - - - one");

    let key = Arc::new(Claiming {
        key: key(&openssl.path("key.pem")),
        actual: SignatureScheme::ECDSA_NISTP384_SHA384,
        claimed: SignatureScheme::ECDSA_NISTP256_SHA256,
    });
    let chain = vec![certificate.clone()];
    let server = Server::start(Identity { chain, key }, &TLS13);
    let fixture = server.open(&sender, "127.0.0.1", pinned(&certificate));
    assert_rejected(
        &fixture,
        "an algorithm that does not match the certificate's key",
    );
}

#[test]
fn a_self_signed_certificate_that_is_configured_as_the_ca_is_accepted() {
    let Some(openssl) = OpenSsl::find() else {
        return;
    };
    let sender = Sender::start().unwrap();
    openssl.run("req -x509 -newkey rsa:2048 -nodes -subj /CN=logs -keyout key.pem -out cert.pem");
    let mut server = openssl.serve("-key key.pem -cert cert.pem");
    let options = configured(openssl.pem("cert.pem"));
    let fixture = open_port(&sender, "localhost", server.port, options);
    fixture.deliver(&["one"]);
    server.wait_for("- - - - - - one");
}

/// Checks that a server with a self-signed certificate is accepted as `localhost` if that
/// certificate is the only CA, or is rejected with `problem`.
fn check_as_own_ca(sender: &Arc<Sender>, params: &CertificateParams, problem: Option<&str>) {
    for version in VERSIONS {
        let identity = Identity::self_signed(params);
        let options = configured(identity.pem());
        let server = Server::start(identity, version);
        let fixture = server.open(sender, "localhost", options);
        match problem {
            None => server.assert_receives(&fixture),
            Some(problem) => assert_rejected(&fixture, problem),
        }
    }
}

#[test]
fn the_fields_of_a_configured_certificate_are_checked() {
    let sender = Sender::start().unwrap();
    // A certificate without names is accepted, with or without CA:TRUE.
    check_as_own_ca(&sender, &openssl_defaults(&[]), None);
    let mut no_ca = openssl_defaults(&[]);
    no_ca.is_ca = IsCa::NoCa;
    check_as_own_ca(&sender, &no_ca, None);

    check_as_own_ca(&sender, &openssl_defaults(&["localhost"]), None);
    let another = openssl_defaults(&["elsewhere.example"]);
    check_as_own_ca(&sender, &another, Some("not valid for localhost"));

    let mut expired = openssl_defaults(&[]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2020, 12, 31);
    check_as_own_ca(&sender, &expired, Some("expired at 2020-12-31T00:00:00Z"));
    let mut future = openssl_defaults(&[]);
    future.not_before = date_time_ymd(2200, 1, 1);
    future.not_after = date_time_ymd(2201, 1, 1);
    let problem = "not valid before 2200-01-01T00:00:00Z";
    check_as_own_ca(&sender, &future, Some(problem));

    let mut server = openssl_defaults(&[]);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    check_as_own_ca(&sender, &server, None);
    let mut client = openssl_defaults(&[]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    check_as_own_ca(
        &sender,
        &client,
        Some("does not include server authentication"),
    );

    // The key may sign only for these names, so the certificate is not accepted.
    let mut constrained = openssl_defaults(&[]);
    constrained.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    check_as_own_ca(&sender, &constrained, Some("CA certificate"));
}

#[test]
fn a_configured_and_pinned_certificate_may_have_any_name() {
    let sender = Sender::start().unwrap();
    let identity = Identity::self_signed(&openssl_defaults(&["elsewhere.example"]));
    let options = TlsOptions {
        ca: Some(identity.pem()),
        ..pinned(&identity.chain[0])
    };
    let server = Server::start(identity, &TLS13);
    server.assert_receives(&server.open(&sender, "localhost", options));
}

#[test]
fn exactly_the_certificates_of_a_bundle_are_accepted() {
    let sender = Sender::start().unwrap();
    let key = KeyPair::generate().unwrap();
    let root = openssl_defaults(&[]).self_signed(&key).unwrap();
    let issuer = Issuer::new(openssl_defaults(&[]), key);
    let mut params = openssl_defaults(&["localhost"]);
    params
        .distinguished_name
        .push(DnType::CommonName, "intermediate");
    let key = KeyPair::generate().unwrap();
    let intermediate = params.signed_by(&key, &issuer).unwrap();
    let other = Identity::self_signed(&openssl_defaults(&[]));

    let bundle = |certificates: &[&CertificateDer<'_>]| {
        let blocks = certificates
            .iter()
            .map(|certificate| match pem(certificate) {
                Pem::Text { text, .. } => text,
                Pem::File(_) => panic!("expected a PEM in memory"),
            });
        configured(Pem::Text {
            name: "a bundle".to_owned(),
            text: blocks.flatten().collect(),
        })
    };
    let server = Server::start(Identity::new(intermediate.der().clone(), &key), &TLS13);
    let open = |options| server.open(&sender, "localhost", options);
    server.assert_receives(&open(bundle(&[&other.chain[0], intermediate.der()])));
    // Rejected as a CA certificate, although a trusted CA signed it for this host.
    assert_rejected(
        &open(bundle(&[&other.chain[0], root.der()])),
        "CA certificate",
    );
}

#[test]
fn unsupported_keys_are_rejected_and_named() {
    let Some(openssl) = OpenSsl::find() else {
        return;
    };
    let sender = Sender::start().unwrap();
    openssl.run("req -x509 -newkey rsa:1024 -nodes -subj /CN=logs -keyout key.pem -out cert.pem");
    let cert = certificate(&openssl.path("cert.pem"));
    for version in ["-tls1_2", "-tls1_3"] {
        let server = openssl.serve(&format!(
            "-key key.pem -cert cert.pem -cipher DEFAULT:@SECLEVEL=0 {version}"
        ));
        let fixture = open_port(&sender, "127.0.0.1", server.port, pinned(&cert));
        assert_rejected(&fixture, "RSA with 1024 bits");
    }
}
