//! TLS with a receiver: pins, session resumption, changed files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod common;

use std::fs;

use common::{BOUND, Fixture, open, open_name};
use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::{Pair, Pki};
use rig::rsyslog::{Driver, Input, Rsyslog};
use transport::tls::{Fingerprint, Identity, Pem, TlsOptions, TlsTarget};
use transport::{Sender, Transport};

fn receiver(pki: &Pki, server: Pair, mutual: bool) -> Receiver {
    let files = TlsFiles {
        cert: server.cert,
        key: server.key,
        client_ca: mutual.then(|| pki.ca()),
    };
    Receiver::start(Options::new(Listen::Tls(files))).unwrap()
}

fn options(pki: &Pki) -> TlsOptions {
    TlsOptions {
        ca: Some(Pem::File(pki.ca())),
        ..TlsOptions::default()
    }
}

fn fingerprint(pair: &Pair) -> Fingerprint {
    let pem = fs::read_to_string(&pair.cert).unwrap();
    Fingerprint::of(&pem_to_der(&pem))
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

fn connect(sender: &std::sync::Arc<Sender>, receiver: &Receiver, options: TlsOptions) -> Fixture {
    let target = TlsTarget::new(options).unwrap();
    open(sender, &receiver.address(), Transport::Tls(target))
}

#[test]
fn a_matching_pin_is_sufficient_and_a_different_pin_is_rejected() {
    let pki = Pki::new();
    let sender = Sender::start().unwrap();
    // The certificate has an untrusted CA and a different name.
    let receiver = receiver(&pki, pki.wrong_name(), false);
    let with_pins = |pins| TlsOptions {
        pins,
        ..TlsOptions::default()
    };
    let (right, wrong) = (fingerprint(&pki.wrong_name()), fingerprint(&pki.server()));
    connect(&sender, &receiver, with_pins(vec![wrong, right])).deliver(&["one"]);

    let refused = connect(&sender, &receiver, with_pins(vec![wrong]));
    let error = refused.wait_for("failed: ");
    assert!(
        error.contains("the certificate's fingerprint matches none of the configured pins"),
        "{error}"
    );
    assert!(error.contains("CN=wrong-name"), "{error}");
    assert!(error.contains(&right.to_string()), "{error}");
}

#[test]
fn with_a_ca_the_pin_and_the_chain_are_checked() {
    let pki = Pki::new();
    let sender = Sender::start().unwrap();
    let receiver = receiver(&pki, pki.expired(), false);
    let pinned = TlsOptions {
        pins: vec![fingerprint(&pki.expired())],
        ..options(&pki)
    };
    let error = connect(&sender, &receiver, pinned).wait_for("failed: ");
    for text in [
        "expired",
        "CN=expired",
        "CN=Test CA",
        "2020-01-01",
        "2020-12-31",
    ] {
        assert!(error.contains(text), "{text:?} in {error}");
    }
}

#[test]
fn sessions_are_resumed() {
    let pki = Pki::new();
    let sender = Sender::start().unwrap();
    let receiver = receiver(&pki, pki.server(), false);
    let fixture = connect(&sender, &receiver, options(&pki));
    fixture.deliver(&["one"]);
    let first = fixture.wait_for("connected to");
    assert!(!first.ends_with("resumed"), "{first}");
    receiver.reset();
    fixture.wait_for("resumed");
    fixture.deliver(&["two"]);
}

/// OpenSSL refuses to resume a session of a client with a certificate
/// (`internal_error`) unless the server sets a session id context, which rsyslog does
/// not do.
#[test]
fn reconnecting_to_rsyslog_with_a_client_certificate_works() {
    let pki = Pki::new();
    for driver in [Driver::OpenSsl, Driver::GnuTls] {
        let input = Input::Tls {
            driver,
            server: pki.server(),
            ca: pki.ca(),
            mutual: true,
        };
        let Some(rsyslog) = Rsyslog::start(&input) else {
            return;
        };
        let Pair { cert, key } = pki.client();
        let target = TlsTarget::new(TlsOptions {
            identity: Some(Identity {
                certificate: Pem::File(cert),
                key: Pem::File(key),
            }),
            ..options(&pki)
        })
        .unwrap();
        let sender = Sender::start().unwrap();
        for connection in 0..3 {
            let transport = Transport::Tls(target.clone());
            let fixture = open_name(&sender, "localhost", rsyslog.port(), transport);
            fixture.deliver(&["hello"]);
            let mut events = fixture.events.try_iter();
            assert!(
                events.all(|event| !event.contains("failed: ")),
                "{driver:?}, connection {connection}"
            );
        }
    }
}

#[test]
fn a_new_client_certificate_is_used_for_the_next_connection() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
    let put = |pair: &Pair| {
        fs::copy(&pair.cert, &cert).unwrap();
        fs::copy(&pair.key, &key).unwrap();
    };
    put(&pki.foreign_client());
    let sender = Sender::start().unwrap();
    let receiver = receiver(&pki, pki.server(), true);
    let fixture = connect(
        &sender,
        &receiver,
        TlsOptions {
            identity: Some(Identity {
                certificate: Pem::File(cert.clone()),
                key: Pem::File(key.clone()),
            }),
            ..options(&pki)
        },
    );
    fixture.wait_for("failed: ");
    receiver.wait_for_error(BOUND).unwrap();
    assert_eq!(receiver.count(), 0);

    // An inconsistent pair read between the two copies is replaced later.
    put(&pki.client());
    fixture.wait_for("reloaded the TLS files");
    fixture.deliver(&["one"]);

    fs::write(&cert, "nothing").unwrap();
    receiver.reset();
    fixture.wait_for("TLS files: ");
    fixture.deliver(&["two"]);
}
