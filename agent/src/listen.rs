//! The address on which Fluent Bit answers for its metrics and health.

use std::net::TcpListener;

/// The variable that Fluent Bit's configuration refers to.
pub(crate) const VARIABLE: &str = "HTTP_LISTEN";
/// All addresses of a kernel without IPv6.
const IPV4: &str = "0.0.0.0";

/// Returns another address where this one is of IPv6 and the kernel has none, as with
/// `ipv6.disable=1`: Fluent Bit would run without answering anybody.
pub(crate) fn replacement(address: &str, has_ipv6: impl FnOnce() -> bool) -> Option<&'static str> {
    (address.starts_with('[') && !has_ipv6()).then_some(IPV4)
}

/// Returns whether the kernel has IPv6. An interface may still have no address of it.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind("[::]:0").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_the_kernel_lacks_are_replaced() {
        assert_eq!(replacement("[::]", || false), Some("0.0.0.0"));
        assert_eq!(replacement("[::]", || true), None);
        assert_eq!(replacement("127.0.0.1", || false), None);
    }
}
