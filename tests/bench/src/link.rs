//! The transports between a sender and the counting receiver.

use std::fmt;
use std::path::PathBuf;

use host::{Host, Run};
use receiver::{Listen, Options, Receiver, Splitter, TlsFiles};
use rig::pki::Pki;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Tcp,
    Tls,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS 1.3",
        })
    }
}

/// The receivers' certificates, and the CA that senders need.
#[derive(Debug)]
pub(crate) struct Links {
    pki: Pki,
}

impl Links {
    pub(crate) fn new() -> Self {
        Self { pki: Pki::new() }
    }

    /// Returns the CA of the receivers' certificates.
    pub(crate) fn ca(&self, link: Link) -> Option<PathBuf> {
        (link == Link::Tls).then(|| self.pki.ca())
    }

    pub(crate) fn listen(&self, link: Link) -> Listen {
        match link {
            Link::Tcp => Listen::Tcp,
            Link::Tls => {
                let server = self.pki.server();
                Listen::Tls(TlsFiles {
                    cert: server.cert,
                    key: server.key,
                    client_ca: None,
                })
            }
        }
    }

    /// Starts a receiver that only counts messages.
    pub(crate) fn receiver(&self, link: Link) -> Receiver {
        start(Options {
            keep: false,
            ..Options::new(self.listen(link))
        })
    }

    /// Starts a receiver that only counts lines.
    pub(crate) fn line_receiver(&self, link: Link) -> Receiver {
        start(Options {
            keep: false,
            splitter: Splitter::newline(1024 * 1024),
            ..Options::new(self.listen(link))
        })
    }

    /// Returns the options of an output that sends over this link.
    pub(crate) fn options(&self, link: Link, address: &str) -> Vec<(&'static str, String)> {
        let mut options = vec![("servers", address.to_owned())];
        match link {
            Link::Tcp => options.push(("transport", "tcp".to_owned())),
            Link::Tls => options.extend([
                ("tls_ca_file", self.pki.ca().display().to_string()),
                ("tls_min_version", "1.3".to_owned()),
            ]),
        }
        options
    }

    /// Delivers chunks with the host and one output. Each chunk must end with OK.
    pub(crate) fn deliver(
        &self,
        host: Host,
        link: Link,
        receiver: &Receiver,
        chunks: &[(String, Vec<u8>)],
    ) -> Run {
        deliver(host, &self.options(link, &receiver.address()), chunks)
    }
}

/// Delivers chunks with an output with these options. Each chunk must end with OK.
pub(crate) fn deliver(host: Host, options: &[(&str, String)], chunks: &[(String, Vec<u8>)]) -> Run {
    let run = add_output(host, "sink", options).run(chunks);
    assert_eq!(run.outputs[0].ok as usize, run.flushes.len(), "{}", run.log);
    run
}

pub(crate) fn start(options: Options) -> Receiver {
    Receiver::start(options).expect("a port is free")
}

pub(crate) fn add_output(host: Host, name: &str, options: &[(&str, String)]) -> Host {
    let options: Vec<(&str, &str)> = options
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    host.output(name, &options)
}
