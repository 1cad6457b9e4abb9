//! The servers of a sink, in the syntax of the plugin's key `servers`.

use api::{Reason, Server, Transport};

use super::fields::{Field, HOST, PORT, SERVERS};
use super::refusal::Refusal;

/// Returns `host:port`, several with commas between them, and the field that has
/// them.
pub(super) fn addresses(
    host: Option<&str>,
    port: Option<u16>,
    servers: Option<&[Server]>,
    transport: Transport,
) -> Result<(Field, String), Refusal> {
    match (host, servers) {
        (Some(host), None) => Ok((HOST, address(HOST.name, host, PORT, port, transport)?)),
        (None, Some(servers)) if !servers.is_empty() => {
            let one = |(number, Server { host, port }): (usize, &Server)| {
                let name = |field: &str| format!("{}[{number}].{field}", SERVERS.name);
                address(&name(HOST.name), host, &name(PORT), *port, transport)
            };
            let all: Result<Vec<String>, Refusal> = servers.iter().enumerate().map(one).collect();
            Ok((SERVERS, all?.join(",")))
        }
        _ => Err(Refusal::new(
            Reason::InvalidValue,
            "either host or servers names where to send to",
        )),
    }
}

/// Returns `host:port`. Errors name the fields.
fn address(
    host_field: &str,
    host: &str,
    port_field: &str,
    port: Option<u16>,
    transport: Transport,
) -> Result<String, Refusal> {
    // A comma would be another server.
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(allowed) {
        let problem = "is neither a host name nor an address";
        return Err(Refusal::value(host_field, host, problem));
    }
    if port == Some(0) {
        return Err(Refusal::value(port_field, "0", "allowed is 1 to 65535"));
    }
    let port = port.unwrap_or(default_port(transport));
    Ok(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

const fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Tls => 6514,
        Transport::Tcp | Transport::Udp => 514,
        Transport::Relp | Transport::RelpTls => 2514,
    }
}

#[cfg(test)]
mod tests {
    use mapper::config::{Config, Properties};

    use super::*;
    use crate::plan::sink::transport_name;

    struct Keys(&'static str);

    impl Properties for Keys {
        fn get(&self, key: &str) -> Option<String> {
            let secure = self.0.ends_with("tls");
            match key {
                "servers" => Some("host".to_owned()),
                "cluster" => Some("on".to_owned()),
                "transport" => Some(self.0.to_owned()),
                "tls_verify" if secure => Some("off".to_owned()),
                _ => None,
            }
        }
    }

    #[test]
    fn default_ports_are_the_plugins() {
        for transport in [
            Transport::Tls,
            Transport::Tcp,
            Transport::Udp,
            Transport::Relp,
            Transport::RelpTls,
        ] {
            let config = Config::parse(&Keys(transport_name(transport))).unwrap();
            let port = config.targets[0].servers[0].port();
            assert_eq!(default_port(transport), port, "{transport:?}");
        }
    }
}
