//! The address of a server: host and port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::{DnsName, ServerName};

/// The host, which is an IP address or a DNS name, and the port of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(DnsName<'static>),
}

impl Host {
    /// Returns the name that the host's certificate must have.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        match self {
            Self::Address(address) => ServerName::IpAddress((*address).into()),
            Self::Name(name) => ServerName::DnsName(name.clone()),
        }
    }
}

impl Endpoint {
    /// Creates an endpoint. Returns None if `host` is neither an IP address nor a
    /// valid DNS name.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(DnsName::try_from(host.to_owned()).ok()?),
        };
        Some(Self { host, port })
    }

    /// Returns the socket address. None if the host is a DNS name.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the host's name or IP address, without the port.
    #[must_use]
    pub fn host_name(&self) -> String {
        match &self.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.as_ref().to_owned(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{}:{}", name.as_ref(), self.port),
        }
    }
}
