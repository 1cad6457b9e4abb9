//! Where a receiver listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::{DnsName, ServerName};

/// A host and a port.
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
    /// The name that the host's certificate has to have.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        match self {
            Self::Address(address) => ServerName::IpAddress((*address).into()),
            Self::Name(name) => ServerName::DnsName(name.clone()),
        }
    }
}

impl Endpoint {
    /// The endpoint at a host, which is an IP address or a DNS name. None
    /// where it is neither.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(DnsName::try_from(host.to_owned()).ok()?),
        };
        Some(Self { host, port })
    }

    /// The address, where no name has to be looked up.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// The name or the address, without the port.
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
