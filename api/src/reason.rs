//! The reasons of conditions.

use std::fmt;

/// Defines [`Reason`] with the names that conditions show, so that a reason
/// cannot be missing from [`Reason::ALL`].
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The reason of a condition, in camel case, for programs.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as conditions and Events have it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    // Of `Accepted`.
    /// The sink can be configured.
    Accepted,
    /// A field has an invalid value.
    InvalidValue,
    /// A Secret that the sink names does not exist.
    SecretNotFound,
    /// The controller has no right to read a Secret that the sink names.
    SecretNotReadable,
    /// A `ConfigMap` that the sink names does not exist.
    ConfigMapNotFound,
    /// The controller cannot read a `ConfigMap` that the sink names.
    ConfigMapNotReadable,
    /// The API server has not answered yet for an object that the sink names.
    NotLookedUp,
    /// The named key is not in the Secret or `ConfigMap`.
    KeyNotFound,
    /// A certificate or private key cannot be used.
    BadCertificate,
    /// The stored object does not match the current schema.
    InvalidObject,
    /// The limit for the number of sinks is reached.
    TooManySinks,
    /// The namespace's limit for configuration and certificates is reached.
    TooLarge,

    // Of `Configured`.
    /// All nodes run a ready agent with the sink.
    Complete,
    /// Agents are being replaced.
    RollingOut,
    /// Agents did not become ready with the sink, and the last good configuration was
    /// restored.
    RolledBack,

    // Of `Configured` and `Delivering`.
    /// The sink is not accepted.
    NotAccepted,

    // Of `Delivering`.
    /// All agents are connected to the server, and it accepts what they send.
    Connected,
    /// Some agents are not connected yet.
    Connecting,
    /// No agent with the sink has reported yet.
    NotObserved,
    /// The receiver accepts less than is written: messages wait on the nodes' disks.
    Behind,
    /// The host name cannot be resolved.
    NameNotResolved,
    /// Nothing accepts connections at the host and port.
    ConnectFailed,
    /// The receiver did not answer in time.
    TimedOut,
    /// The TLS handshake failed.
    TlsFailed,
    /// The receiver does not speak RELP, or refused a message.
    RelpFailed,
    /// A connection broke.
    ConnectionBroken,
    /// The receiver closed a connection.
    ConnectionClosed,
}

impl Reason {
    /// Returns whether a sink that is not accepted stays so until somebody changes it. A
    /// missing Secret, on the other hand, may be created at any time, for example by
    /// cert-manager.
    #[must_use]
    pub const fn needs_change(self) -> bool {
        matches!(
            self,
            Self::InvalidValue
                | Self::BadCertificate
                | Self::InvalidObject
                | Self::TooManySinks
                | Self::TooLarge
        )
    }
}

impl Reason {
    /// Returns the reason with this name; none where a controller of another
    /// version wrote it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut reasons = Self::ALL.iter();
        reasons.find(|reason| reason.as_str() == name).copied()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::from_name("accepted"), None);
    }

    #[test]
    fn every_reason_is_documented() {
        let controller = include_str!("../../docs/CONTROLLER.md");
        let operations = include_str!("../../docs/OPERATIONS.md");
        for reason in Reason::ALL {
            let name = format!("`{reason}`");
            assert!(controller.contains(&name), "{name} in CONTROLLER.md");
            let is_good = matches!(
                reason,
                Reason::Accepted | Reason::Complete | Reason::Connected
            );
            let is_explained = is_good || operations.contains(&name);
            assert!(is_explained, "{name} in OPERATIONS.md");
        }
    }
}
