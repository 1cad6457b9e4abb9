//! Advice on errors, independent of how a front end names its settings.
//!
//! The plugin has configuration keys, a custom resource has fields. Each front
//! end maps every [`Setting`] to its own name for it, and renders a [`Hint`] as
//! text with this mapping.

/// A setting of a target that a hint can refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The protocol: [`Transport`](crate::Transport).
    Transport,
    /// The trusted CAs: [`TlsOptions::ca`](crate::tls::TlsOptions::ca).
    Ca,
    /// The client's certificate: [`Identity::certificate`](crate::tls::Identity::certificate).
    ClientCertificate,
    /// The client's certificate and private key: [`Identity`](crate::tls::Identity).
    ClientIdentity,
    /// The name expected in the certificate: [`TlsOptions::server_name`](crate::tls::TlsOptions::server_name).
    ServerName,
    /// The pinned fingerprints: [`TlsOptions::pins`](crate::tls::TlsOptions::pins).
    Pins,
    /// The minimum version of TLS: [`TlsOptions::only_tls13`](crate::tls::TlsOptions::only_tls13).
    MinVersion,
    /// The maximum size of a message, which the encoder of the batches enforces.
    MaxMessageSize,
}

/// Advice for the reader of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint(pub(crate) &'static [Part]);

/// A part of a hint's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(&'static str),
    Name(Setting),
}

impl Hint {
    /// Returns the hint as text, with each setting named by `name`.
    ///
    /// ```
    /// use transport::{Error, Setting};
    ///
    /// let peer = "192.0.2.1:6514".parse().unwrap();
    /// let error = Error::ClosedInHandshake { peer, lacks_identity: true };
    /// let name = |setting| match setting {
    ///     Setting::ClientIdentity => "--client-certificate",
    ///     _ => "another option",
    /// };
    /// assert_eq!(
    ///     error.hint().unwrap().text(name),
    ///     "the receiver may require a client certificate: set --client-certificate",
    /// );
    /// ```
    #[must_use]
    pub fn text(self, name: impl Fn(Setting) -> &'static str) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Name(setting) => name(*setting),
        });
        parts.collect()
    }
}

/// Builds a [`Hint`] from texts and settings: `hint!("set ", Ca, " to ...")`.
macro_rules! hint {
    (@part $text:literal) => { $crate::hint::Part::Text($text) };
    (@part $setting:ident) => { $crate::hint::Part::Name($crate::hint::Setting::$setting) };
    ($($part:tt),+ $(,)?) => { $crate::hint::Hint(&[$($crate::hint::hint!(@part $part)),+]) };
}
pub(crate) use hint;
