//! A test of the connection to a server, step by step, which shows why messages do
//! not arrive. The test blocks, and is independent of the event loop.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crossbeam_channel::bounded;

use crate::resolve::look_up;
use crate::tls::{HandshakeError, TlsTarget};
use crate::{Endpoint, Error, Target, Transport};

/// A step of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The look-up of the host's name.
    Name,
    /// The TCP connection.
    Connect,
    /// The TLS handshake.
    Tls,
}

/// The result of a step.
#[derive(Debug)]
pub struct Finding {
    /// The step.
    pub step: Step,
    /// The result as text for the user, or the error.
    pub result: Result<String, Error>,
    /// Details for the user, one line each.
    pub details: Vec<String>,
}

impl Finding {
    fn new(step: Step, result: Result<String, Error>) -> Self {
        Self {
            step,
            result,
            details: Vec::new(),
        }
    }
}

/// Connects to a server of a target like a sink, but sends no message. Returns the
/// results of the steps in order. The first error ends the test, so only the last
/// result can be an error.
#[must_use]
pub fn test_connection(target: &Target, server: &Endpoint) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(addresses) = resolve(target, server, &mut findings) else {
        return findings;
    };
    if matches!(target.transport, Transport::Udp) {
        return findings;
    }
    let Some(stream) = connect(target, &addresses, &mut findings) else {
        return findings;
    };
    if let Some(tls) = target.transport.tls() {
        findings.push(handshake(target, tls, server, stream));
    }
    findings
}

/// Returns the server's addresses, or None if the look-up fails.
fn resolve(
    target: &Target,
    server: &Endpoint,
    findings: &mut Vec<Finding>,
) -> Option<Vec<SocketAddr>> {
    if let Some(address) = server.address() {
        return Some(vec![address]);
    }
    let host = server.host_name();
    let (sender, results) = bounded(1);
    let thread = look_up(host.clone(), server.port(), move |result| {
        // Fails if the wait has timed out.
        drop(sender.send(result));
    });
    let timeout = target.policy.connect_timeout;
    let found = match thread.map(|_| results.recv_timeout(timeout)) {
        Ok(Ok(found)) => found.map_err(|source| Error::Resolve { host, source }),
        Ok(Err(_)) => Err(Error::ConnectTimeout { peer: host }),
        Err(source) => Err(Error::Resolve { host, source }),
    };
    let found = found.and_then(|addresses| {
        let host = server.host_name();
        let has_address = !addresses.is_empty();
        has_address
            .then_some(addresses)
            .ok_or(Error::NoAddress { host })
    });
    match found {
        Ok(addresses) => {
            let shown: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
            findings.push(Finding::new(Step::Name, Ok(shown.join(", "))));
            Some(addresses)
        }
        Err(error) => {
            findings.push(Finding::new(Step::Name, Err(error)));
            None
        }
    }
}

/// Returns a connection to the first address that accepts one. All addresses are
/// tried, because a sink may use any of them: failures are added to the details.
fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    findings: &mut Vec<Finding>,
) -> Option<(SocketAddr, TcpStream)> {
    let timeout = target.policy.connect_timeout;
    let mut stream = None;
    let mut connected = Vec::new();
    let mut failures = Vec::new();
    for &peer in addresses {
        let start = Instant::now();
        match TcpStream::connect_timeout(&peer, timeout) {
            Ok(connection) => {
                let took = start.elapsed().as_secs_f64() * 1000.0;
                connected.push(format!("{peer} in {took:.1} ms"));
                stream.get_or_insert((peer, connection));
            }
            Err(source) => failures.push(connect_error(peer, source)),
        }
    }
    let result = match (&stream, failures.pop()) {
        (Some(_), last) => {
            failures.extend(last);
            Ok(connected.join(", "))
        }
        (None, Some(last)) => Err(last),
        (None, None) => return None,
    };
    findings.push(Finding {
        details: failures.iter().map(Error::chain).collect(),
        ..Finding::new(Step::Connect, result)
    });
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

fn handshake(
    target: &Target,
    tls: &TlsTarget,
    server: &Endpoint,
    (peer, mut stream): (SocketAddr, TcpStream),
) -> Finding {
    let timeout = Some(target.policy.connect_timeout);
    let is_set = stream
        .set_read_timeout(timeout)
        .and_then(|()| stream.set_write_timeout(timeout));
    if let Err(source) = is_set {
        return Finding::new(Step::Tls, Err(Error::Broken { peer, source }));
    }
    let handshake = tls.handshake(server.host(), &mut stream);
    let result = match handshake.outcome {
        Ok(agreed) if tls.verifies() => Ok(agreed),
        Ok(agreed) => Ok(format!("{agreed}; the certificate is not verified")),
        Err(failed) => Err(handshake_error(peer, handshake.lacks_identity, failed)),
    };
    let presented = handshake.presented.iter().enumerate();
    let presented = presented.map(|(number, text)| format!("certificate {number}: {text}"));
    let trusted = tls.trusted_subjects();
    let trusted = trusted.map(|names| format!("trusted CAs: {}", names.join(", ")));
    Finding {
        details: presented.chain(trusted).collect(),
        ..Finding::new(Step::Tls, result)
    }
}

fn handshake_error(peer: SocketAddr, lacks_identity: bool, failed: HandshakeError) -> Error {
    match failed {
        HandshakeError::Tls(source) => Error::Tls {
            peer,
            certificate: None,
            source,
        },
        HandshakeError::Io(source) => match source.kind() {
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
    use crate::Setting;
    use crate::tls::{Identity, Pem, TlsOptions};

    fn target(transport: Transport) -> Target {
        let timeout = std::time::Duration::from_secs(30);
        Target {
            servers: Vec::new(),
            failback: timeout,
            transport,
            policy: Policy {
                connect_timeout: timeout,
                ..Policy::default()
            },
            keepalive: timeout,
            user_timeout: timeout,
        }
    }

    /// Tests a server at `localhost`. Returns the steps and the last finding.
    fn last(transport: Transport, port: u16) -> (Vec<Step>, Finding) {
        let server = Endpoint::new("localhost", port).unwrap();
        let findings = test_connection(&target(transport), &server);
        let steps = findings.iter().map(|finding| finding.step).collect();
        (steps, findings.into_iter().next_back().unwrap())
    }

    /// Returns the error of a finding, and its hint with placeholders for settings.
    fn failure(finding: &Finding) -> (String, String) {
        let error = finding.result.as_ref().unwrap_err();
        let hint = error.hint().map(|hint| {
            hint.text(|setting| match setting {
                Setting::Ca => "CA",
                Setting::ServerName => "SERVER-NAME",
                Setting::ClientIdentity | Setting::ClientCertificate => "CLIENT-CERTIFICATE",
                _ => "ANOTHER",
            })
        });
        (error.chain(), hint.unwrap_or_default())
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
        let (steps, finding) = last(transport, receiver.port());
        assert_eq!(steps, [Step::Name, Step::Connect, Step::Tls]);
        let agreed = finding.result.as_ref().unwrap();
        assert!(agreed.starts_with("TLSv1_3 with TLS13_"), "{finding:?}");
        let details = finding.details.join("\n");
        for words in [
            "certificate 0: subject \"CN=server\", names localhost 127.0.0.1 ::1, issuer \"CN=Test CA\"",
            "sha-256:",
            "trusted CAs: \"CN=Test CA\"",
        ] {
            assert!(details.contains(words), "{details}");
        }
    }

    #[test]
    fn a_rejected_certificate_is_described_in_the_details() {
        let pki = Pki::new();
        for (pair, ca, problem, hint) in [
            (pki.server(), pki.other_ca(), "no trusted CA", "CA"),
            (
                pki.wrong_name(),
                pki.ca(),
                "not valid for localhost, only for elsewhere.example",
                "SERVER-NAME",
            ),
            (pki.expired(), pki.ca(), "expired", "renew"),
        ] {
            let receiver = receiver(pair);
            let transport = tls(&ca, TlsOptions::default());
            let (_, finding) = last(transport, receiver.port());
            let (text, advice) = failure(&finding);
            assert_eq!(finding.step, Step::Tls, "{finding:?}");
            assert!(
                text.contains(problem) && advice.contains(hint),
                "{text} {advice}"
            );
            assert!(
                finding.details[0].starts_with("certificate 0: subject"),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn a_missing_or_rejected_client_certificate_is_reported() {
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
            (
                ours(pki.foreign_client()),
                "rejected the client certificate",
            ),
        ] {
            let (_, finding) = last(tls(&pki.ca(), more), receiver.port());
            let (text, hint) = failure(&finding);
            assert_eq!(finding.step, Step::Tls, "{finding:?}");
            assert!(text.contains(problem), "{text}");
            assert!(hint.contains("CLIENT-CERTIFICATE"), "{hint}");
        }
        let (_, finding) = last(tls(&pki.ca(), ours(pki.client())), receiver.port());
        assert!(finding.result.is_ok(), "{finding:?}");
    }

    #[test]
    fn an_unverified_certificate_is_reported_as_such() {
        let pki = Pki::new();
        let receiver = receiver(pki.expired());
        let more = TlsOptions {
            insecure_skip_verify: true,
            ..TlsOptions::default()
        };
        let (_, finding) = last(tls(&pki.ca(), more), receiver.port());
        let agreed = finding.result.as_ref().unwrap();
        assert!(agreed.ends_with("not verified"), "{finding:?}");
    }

    #[test]
    fn a_failed_step_is_the_last_one() {
        let pki = Pki::new();
        let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
        let port = receiver.port();
        let (steps, finding) = last(Transport::Tcp, port);
        assert_eq!(steps, [Step::Name, Step::Connect]);
        assert!(finding.result.is_ok(), "{finding:?}");
        let (steps, finding) = last(Transport::Tcp, free_port());
        assert_eq!(steps, [Step::Name, Step::Connect]);
        let (text, _) = failure(&finding);
        assert!(text.contains("Connection refused"), "{text}");
        // A server that closes the connection during the handshake.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closing = std::thread::spawn(move || drop(listener.accept()));
        let transport = tls(&pki.ca(), TlsOptions::default());
        let (steps, finding) = last(transport, port);
        closing.join().unwrap();
        assert_eq!(steps.len(), 3);
        let (_, hint) = failure(&finding);
        assert!(hint.contains("speak this transport"), "{hint}");
        let nowhere = Endpoint::new("no-such-host.invalid", 514).unwrap();
        let findings = test_connection(&target(Transport::Udp), &nowhere);
        assert!(matches!(&findings[..], [only] if only.step == Step::Name && only.result.is_err()));
    }
}
