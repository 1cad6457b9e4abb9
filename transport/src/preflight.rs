//! A look at the way to a server, step by step, for those who wonder why
//! nothing arrives. It blocks: nothing that delivers uses it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crossbeam_channel::bounded;

use crate::resolve::look_up;
use crate::tls::{Failed, TlsTarget};
use crate::{Endpoint, Error, Target, Transport};

/// A step on the way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which: `name`, `connect` or `tls`.
    pub name: &'static str,
    /// Whether it was made.
    pub passed: bool,
    /// What was found, or what went wrong.
    pub text: String,
    /// More of it, a line each.
    pub details: Vec<String>,
    /// What can be done about it, where that is known.
    pub hint: Option<&'static str>,
}

impl Step {
    fn passed(name: &'static str, text: String) -> Self {
        Self {
            name,
            passed: true,
            text,
            details: Vec::new(),
            hint: None,
        }
    }

    fn failed(name: &'static str, error: &Error) -> Self {
        Self {
            passed: false,
            hint: error.hint(),
            ..Self::passed(name, error.chain())
        }
    }
}

/// Goes to a server of a target as a sink would, up to the first message. The
/// last step is the one that failed, if one did.
#[must_use]
pub fn preflight(target: &Target, server: &Endpoint) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(addresses) = resolve(target, server, &mut steps) else {
        return steps;
    };
    if matches!(target.transport, Transport::Udp) {
        return steps;
    }
    let Some(stream) = connect(target, &addresses, &mut steps) else {
        return steps;
    };
    if let Some(tls) = target.transport.tls() {
        steps.push(shake_hands(target, tls, server, stream));
    }
    steps
}

/// The server's addresses. None where there are none, which is said.
fn resolve(target: &Target, server: &Endpoint, steps: &mut Vec<Step>) -> Option<Vec<SocketAddr>> {
    if let Some(address) = server.address() {
        return Some(vec![address]);
    }
    let host = server.host_name();
    let (answer, answers) = bounded(1);
    let asked = look_up(host.clone(), server.port(), move |found| {
        // It may come when nobody waits any more.
        drop(answer.send(found));
    });
    let timeout = target.policy.connect_timeout;
    let found = match asked.map(|_| answers.recv_timeout(timeout)) {
        Ok(Ok(found)) => found.map_err(|source| Error::Resolve { host, source }),
        Ok(Err(_)) => Err(Error::ConnectTimeout { peer: host }),
        Err(source) => Err(Error::Resolve { host, source }),
    };
    let found = found.and_then(|addresses| {
        let host = server.host_name();
        let is_known = !addresses.is_empty();
        is_known
            .then_some(addresses)
            .ok_or(Error::NoAddress { host })
    });
    match found {
        Ok(addresses) => {
            let shown: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
            steps.push(Step::passed("name", shown.join(", ")));
            Some(addresses)
        }
        Err(error) => {
            steps.push(Step::failed("name", &error));
            None
        }
    }
}

/// A connection to the first address that takes one. All are tried: a sink
/// goes on to the next as well, and somebody should mend the others.
fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    steps: &mut Vec<Step>,
) -> Option<(SocketAddr, TcpStream)> {
    let timeout = target.policy.connect_timeout;
    let mut stream = None;
    let mut taken = Vec::new();
    let mut failures = Vec::new();
    for &peer in addresses {
        let begun = Instant::now();
        match TcpStream::connect_timeout(&peer, timeout) {
            Ok(made) => {
                let took = begun.elapsed().as_secs_f64() * 1000.0;
                taken.push(format!("{peer} in {took:.1} ms"));
                stream.get_or_insert((peer, made));
            }
            Err(source) => failures.push(connect_error(peer, source)),
        }
    }
    let details = failures.iter().map(Error::chain);
    match (&stream, failures.last()) {
        (Some(_), _) => steps.push(Step {
            details: details.collect(),
            ..Step::passed("connect", taken.join(", "))
        }),
        (None, Some(last)) => steps.push(Step {
            details: details.take(failures.len() - 1).collect(),
            ..Step::failed("connect", last)
        }),
        (None, None) => {}
    }
    stream
}

fn connect_error(peer: SocketAddr, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::TimedOut {
        return Error::ConnectTimeout {
            peer: peer.to_string(),
        };
    }
    Error::Connect { peer, source }
}

fn shake_hands(
    target: &Target,
    tls: &TlsTarget,
    server: &Endpoint,
    (peer, mut stream): (SocketAddr, TcpStream),
) -> Step {
    let timeout = Some(target.policy.connect_timeout);
    let bounded = stream
        .set_read_timeout(timeout)
        .and_then(|()| stream.set_write_timeout(timeout));
    if let Err(source) = bounded {
        return Step::failed("tls", &Error::Broken { peer, source });
    }
    let handshake = tls.shake_hands(server.host(), &mut stream);
    let step = match handshake.outcome {
        Ok(agreed) if tls.verifies() => Step::passed("tls", agreed),
        Ok(agreed) => Step::passed("tls", format!("{agreed}; the certificate is not verified")),
        Err(failed) => Step::failed(
            "tls",
            &handshake_error(peer, handshake.lacks_identity, failed),
        ),
    };
    let presented = handshake.presented.iter().enumerate();
    let presented = presented.map(|(number, text)| format!("certificate {number}: {text}"));
    let trusted = tls.trusted();
    let trusted = trusted.map(|names| format!("trusted CAs: {}", names.join(", ")));
    Step {
        details: presented.chain(trusted).collect(),
        ..step
    }
}

fn handshake_error(peer: SocketAddr, lacks_identity: bool, failed: Failed) -> Error {
    match failed {
        Failed::Tls(source) => Error::Tls {
            peer,
            certificate: None,
            source,
        },
        Failed::Io(source) => match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                Error::ClosedInHandshake {
                    peer,
                    lacks_identity,
                }
            }
            io::ErrorKind::TimedOut => Error::ConnectTimeout {
                peer: peer.to_string(),
            },
            _ => Error::Broken { peer, source },
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use receiver::{Listen, Options, Receiver, TlsFiles};
    use rig::pki::{Pair, Pki};
    use rig::port::free_port;
    use syslog::Policy;

    use super::*;
    use crate::tls::{Identity, Pem, TlsOptions};

    fn target(transport: Transport) -> Target {
        let patience = std::time::Duration::from_secs(30);
        Target {
            servers: Vec::new(),
            failback: patience,
            transport,
            policy: Policy {
                connect_timeout: patience,
                ..Policy::default()
            },
            keepalive: patience,
            user_timeout: patience,
        }
    }

    /// How a look at a server on this machine ends, whose name is `localhost`.
    fn last(transport: Transport, port: u16) -> (Vec<&'static str>, Step) {
        let server = Endpoint::new("localhost", port).unwrap();
        let steps = preflight(&target(transport), &server);
        let names = steps.iter().map(|step| step.name).collect();
        (names, steps.into_iter().next_back().unwrap())
    }

    fn tls(ca: &std::path::Path, more: TlsOptions) -> Transport {
        let options = TlsOptions {
            ca: Some(Pem::File(ca.to_owned())),
            ..more
        };
        Transport::Tls(TlsTarget::new(options).unwrap())
    }

    fn receiver(Pair { cert, key }: Pair) -> Receiver {
        let client_ca = None;
        let files = TlsFiles {
            cert,
            key,
            client_ca,
        };
        Receiver::start(Options::new(Listen::Tls(files))).unwrap()
    }

    #[test]
    fn a_good_server_passes_every_step() {
        let pki = Pki::new();
        let receiver = receiver(pki.server());
        let transport = tls(&pki.ca(), TlsOptions::default());
        let (names, step) = last(transport, receiver.port());
        assert_eq!(names, ["name", "connect", "tls"]);
        assert!(step.passed, "{step:?}");
        assert!(step.text.starts_with("TLSv1_3 with TLS13_"), "{step:?}");
        let details = step.details.join("\n");
        for words in [
            "certificate 0: subject \"CN=server\", names localhost 127.0.0.1 ::1, issuer \"CN=Test CA\"",
            "sha-256:",
            "trusted CAs: \"CN=Test CA\"",
        ] {
            assert!(details.contains(words), "{details}");
        }
    }

    #[test]
    fn a_refused_certificate_is_shown_and_explained() {
        let pki = Pki::new();
        for (pair, ca, problem, hint) in [
            (pki.server(), pki.other_ca(), "no trusted CA", "tls_ca_file"),
            (
                pki.wrong_name(),
                pki.ca(),
                "not valid for localhost, only for elsewhere.example",
                "tls_server_name",
            ),
            (pki.expired(), pki.ca(), "expired", "renew"),
        ] {
            let receiver = receiver(pair);
            let transport = tls(&ca, TlsOptions::default());
            let (_, step) = last(transport, receiver.port());
            assert!(!step.passed && step.name == "tls", "{step:?}");
            assert!(step.text.contains(problem), "{step:?}");
            assert!(step.hint.unwrap().contains(hint), "{step:?}");
            assert!(
                step.details[0].starts_with("certificate 0: subject"),
                "{step:?}"
            );
        }
    }

    #[test]
    fn a_server_that_requires_a_client_certificate_is_explained() {
        let pki = Pki::new();
        let Pair { cert, key } = pki.server();
        let client_ca = Some(pki.ca());
        let files = TlsFiles {
            cert,
            key,
            client_ca,
        };
        let receiver = Receiver::start(Options::new(Listen::Tls(files))).unwrap();
        let ours = |Pair { cert, key }: Pair| TlsOptions {
            identity: Some(Identity {
                certificate: Pem::File(cert),
                key: Pem::File(key),
            }),
            ..TlsOptions::default()
        };
        for (more, problem) in [
            (TlsOptions::default(), "requires a client certificate"),
            (ours(pki.foreign_client()), "refused the client certificate"),
        ] {
            let (_, step) = last(tls(&pki.ca(), more), receiver.port());
            assert!(!step.passed && step.name == "tls", "{step:?}");
            assert!(step.text.contains(problem), "{step:?}");
            assert!(step.hint.unwrap().contains("tls_cert_file"), "{step:?}");
        }
        let (_, step) = last(tls(&pki.ca(), ours(pki.client())), receiver.port());
        assert!(step.passed, "{step:?}");
    }

    #[test]
    fn a_certificate_that_nobody_looks_at_is_said_to_be_so() {
        let pki = Pki::new();
        let receiver = receiver(pki.expired());
        let more = TlsOptions {
            insecure_skip_verify: true,
            ..TlsOptions::default()
        };
        let (_, step) = last(tls(&pki.ca(), more), receiver.port());
        assert!(
            step.passed && step.text.ends_with("not verified"),
            "{step:?}"
        );
    }

    #[test]
    fn where_the_way_ends_is_the_last_step() {
        let pki = Pki::new();
        let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
        let port = receiver.port();
        let (names, step) = last(Transport::Tcp, port);
        assert!(names == ["name", "connect"] && step.passed, "{step:?}");
        let (names, step) = last(Transport::Tcp, free_port());
        assert!(names == ["name", "connect"] && !step.passed, "{step:?}");
        assert!(step.text.contains("Connection refused"), "{step:?}");
        // One that closes what it does not understand.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closing = std::thread::spawn(move || drop(listener.accept()));
        let transport = tls(&pki.ca(), TlsOptions::default());
        let (names, step) = last(transport, port);
        closing.join().unwrap();
        assert!(names.len() == 3 && !step.passed, "{step:?}");
        let hint = step.hint.unwrap();
        assert!(hint.contains("speak this transport"), "{step:?}");
        let nowhere = Endpoint::new("no-such-host.invalid", 514).unwrap();
        let steps = preflight(&target(Transport::Udp), &nowhere);
        assert!(matches!(&steps[..], [step] if step.name == "name" && !step.passed));
    }
}
