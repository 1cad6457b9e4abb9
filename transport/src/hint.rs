//! Advice on errors, without the names that one front end has for its settings.
//!
//! The plugin has keys, a custom resource has fields. Each of them names a
//! [`Setting`] in one table of its own, and turns a [`Hint`] into text with it.

/// A setting of a target that advice can refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The protocol: [`Transport`](crate::Transport).
    Transport,
    /// The CAs that are trusted: [`TlsOptions::ca`](crate::tls::TlsOptions::ca).
    Ca,
    /// The client's certificate: [`Identity::certificate`](crate::tls::Identity::certificate).
    ClientCertificate,
    /// The client's certificate and its key: [`Identity`](crate::tls::Identity).
    ClientIdentity,
    /// The name expected in the certificate: [`TlsOptions::server_name`](crate::tls::TlsOptions::server_name).
    ServerName,
    /// The fingerprints: [`TlsOptions::pins`](crate::tls::TlsOptions::pins).
    Pins,
    /// The oldest version of TLS: [`TlsOptions::only_tls13`](crate::tls::TlsOptions::only_tls13).
    MinVersion,
    /// The maximum size of a message, which whoever makes the batches keeps.
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
    /// Returns the text, in which each setting has the name that `name` gives it.
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

/// A [`Hint`] from texts and settings: `hint!("set ", Ca, " to ...")`.
macro_rules! hint {
    (@part $text:literal) => { $crate::hint::Part::Text($text) };
    (@part $setting:ident) => { $crate::hint::Part::Name($crate::hint::Setting::$setting) };
    ($($part:tt),+ $(,)?) => { $crate::hint::Hint(&[$($crate::hint::hint!(@part $part)),+]) };
}
pub(crate) use hint;
