use std::io::Write;
use std::time::{Duration, Instant};

use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::Pki;
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuiteCommon, Tls12CipherSuite};
use syslog::{Batch, Framing, Outcome, Policy, ReplayBuffer};

use super::*;
use crate::connection::{Connection, Progress};
use crate::tls::{Pem, TlsOptions, TlsTarget};
use crate::{DeliveryEvent, Endpoint, Observer, Sender, Target, Transport};

const BOUND: Duration = Duration::from_secs(30);

/// Returns cipher suites of TLS 1.2 with AES-GCM whose keys are limited to `limit`
/// records instead of 2^24.
fn provider(limit: u64) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let suites = provider.cipher_suites.iter();
    let limited = suites.filter_map(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) if suite.common.confidentiality_limit < u64::MAX => {
            let suite = Tls12CipherSuite {
                common: CipherSuiteCommon {
                    suite: suite.common.suite,
                    hash_provider: suite.common.hash_provider,
                    confidentiality_limit: limit,
                },
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: suite.aead_alg,
            };
            Some(SupportedCipherSuite::Tls12(Box::leak(Box::new(suite))))
        }
        _ => None,
    });
    provider.cipher_suites = limited.collect();
    provider
}

/// Starts a receiver, and returns it with a target that uses [`provider`].
fn limited(limit: u64) -> (Pki, Receiver, Target) {
    let pki = Pki::new();
    let server = pki.server();
    let files = TlsFiles {
        cert: server.cert,
        key: server.key,
        client_ca: None,
    };
    let receiver = Receiver::start(Options::new(Listen::Tls(files))).unwrap();
    let options = TlsOptions {
        ca: Some(Pem::File(pki.ca())),
        ..TlsOptions::default()
    };
    let tls = TlsTarget::with_provider(options, provider(limit)).unwrap();
    let target = Target {
        servers: vec![Endpoint::new("127.0.0.1", receiver.port()).unwrap()],
        failback: BOUND,
        transport: Transport::Tls(tls),
        // No frame is sent again, which would produce more records.
        policy: Policy {
            replay_buffer: ReplayBuffer::Fixed(0),
            ..Policy::default()
        },
        keepalive: BOUND,
        user_timeout: BOUND,
    };
    (pki, receiver, target)
}

struct Ignore;

impl Observer for Ignore {
    fn on_event(&mut self, _: &DeliveryEvent<'_>) {}
}

#[test]
fn a_connection_is_replaced_near_its_key_limit_and_every_message_arrives_once() {
    const MESSAGES: u64 = 500;
    let (_pki, receiver, target) = limited(200);
    let sender = Sender::start().unwrap();
    let sink = sender.open(target, Box::new(Ignore), BOUND);
    for number in 0..MESSAGES {
        let mut batch = Batch::new(Framing::OctetCounting);
        let mut frame = batch.frame();
        write!(frame.bytes(), "<14>1 - - - - - - {number}").unwrap();
        frame.finish();
        // A batch that is in flight when the connection is replaced is retried.
        while sink.deliver(batch.clone(), 0).0 != Outcome::Delivered {}
    }
    let received = receiver.wait_for(MESSAGES, BOUND).unwrap();
    for (number, received) in received.iter().enumerate() {
        let message = received.message.as_ref().unwrap();
        assert_eq!(message.text(), number.to_string());
    }
    // Each connection uses 136 of its 200 records.
    assert_eq!(
        receiver.connections(),
        MESSAGES.div_ceil(200 - KEY_LIMIT_MARGIN)
    );
    assert_eq!(receiver.errors(), Vec::<String>::new());
}

#[test]
fn writing_with_exhausted_keys_is_an_error() {
    let (_pki, receiver, target) = limited(100);
    let address = receiver.address().parse().unwrap();
    let mut connection = Connection::open(&target, address).unwrap();
    let until = Instant::now() + BOUND;
    let mut progress = Progress::Connecting;
    while progress != Progress::Ready {
        assert!(Instant::now() < until);
        progress = connection.advance().unwrap();
        if progress == Progress::Established {
            let tls = target.transport.tls().unwrap();
            connection = connection.start_tls(tls, &target.servers[0]).unwrap();
        }
        std::thread::yield_now();
    }
    let error = (0..200).find_map(|_| connection.write(b"23 <14>1 - - - - - - hello").err());
    assert!(matches!(error, Some(Error::Stalled { .. })), "{error:?}");
    assert!(connection.is_near_key_limit());
}
