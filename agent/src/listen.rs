//! The listen address of Fluent Bit's HTTP server for metrics and health.

use std::net::TcpListener;

/// The environment variable that Fluent Bit's configuration refers to.
pub(crate) const VARIABLE: &str = "HTTP_LISTEN";
/// The wildcard address of IPv4.
const IPV4: &str = "0.0.0.0";

/// Returns a replacement for an IPv6 address if the kernel does not support IPv6, as
/// with `ipv6.disable=1`: Fluent Bit would otherwise run without its HTTP server.
pub(crate) fn replacement(address: &str, has_ipv6: impl FnOnce() -> bool) -> Option<&'static str> {
    (address.starts_with('[') && !has_ipv6()).then_some(IPV4)
}

/// Whether the kernel supports IPv6, even if no interface has an IPv6 address.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind("[::]:0").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_replaced_if_the_kernel_does_not_support_it() {
        assert_eq!(replacement("[::]", || false), Some("0.0.0.0"));
        assert_eq!(replacement("[::]", || true), None);
        assert_eq!(replacement("127.0.0.1", || false), None);
    }
}
