//! The receiving side: rsyslog if it is installed, else the receiver of the tests.

use receiver::{Listen, Message, Options, Receiver, TlsFiles};
use rig::pki::Pki;
use rig::rsyslog::{Driver, Input, Parsed, Rsyslog};
use rig::wait::BOUND;

/// A receiver with TLS.
pub(crate) enum Arrivals {
    Rsyslog(Rsyslog),
    Own(Receiver),
}

/// A message that arrived.
pub(crate) struct Arrived {
    pub(crate) time: String,
    pub(crate) host: String,
    pub(crate) app_name: String,
    pub(crate) severity: usize,
    pub(crate) structured_data: String,
    pub(crate) text: String,
}

impl Arrivals {
    pub(crate) fn start(pki: &Pki) -> Self {
        let input = Input::Tls {
            driver: Driver::OpenSsl,
            server: pki.server(),
            ca: pki.ca(),
            mutual: false,
        };
        if let Some(rsyslog) = Rsyslog::start(&input) {
            return Self::Rsyslog(rsyslog);
        }
        let files = TlsFiles {
            cert: pki.server().cert,
            key: pki.server().key,
            client_ca: None,
        };
        Self::Own(Receiver::start(Options::new(Listen::Tls(files))).expect("a free port"))
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Rsyslog(_) => "rsyslog",
            Self::Own(_) => "the receiver of the tests (rsyslog is not installed)",
        }
    }

    pub(crate) fn address(&self) -> String {
        match self {
            Self::Rsyslog(rsyslog) => rsyslog.address(),
            Self::Own(receiver) => receiver.address(),
        }
    }

    /// Waits for `count` messages, or until no more arrive, and returns all of them.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Arrived> {
        match self {
            Self::Rsyslog(rsyslog) => {
                // The summary reports missing messages.
                let _ = rsyslog.wait_for(count, BOUND);
                rsyslog.messages().into_iter().map(Arrived::from).collect()
            }
            Self::Own(receiver) => {
                let _ = receiver.wait_for(count as u64, BOUND);
                let received = receiver.received().into_iter();
                received
                    .filter_map(|r| r.message.ok())
                    .map(Arrived::from)
                    .collect()
            }
        }
    }
}

impl From<Parsed> for Arrived {
    fn from(parsed: Parsed) -> Self {
        Self {
            time: parsed.timestamp,
            host: parsed.hostname,
            app_name: parsed.app_name,
            severity: parsed.severity.parse().unwrap_or(usize::MAX),
            structured_data: parsed.structured_data,
            text: parsed.msg,
        }
    }
}

impl From<Message> for Arrived {
    fn from(message: Message) -> Self {
        let text = message.text().to_owned();
        let elements = message.structured_data.iter().map(|element| {
            let params = element
                .params
                .iter()
                .map(|(name, value)| format!(" {name}={value:?}"));
            format!("[{}{}]", element.id, params.collect::<String>())
        });
        Self {
            structured_data: elements.collect(),
            time: message.timestamp.map(|time| time.text).unwrap_or_default(),
            host: message.hostname.unwrap_or_default(),
            severity: message.severity.into(),
            app_name: message.app_name.unwrap_or_default(),
            text,
        }
    }
}
