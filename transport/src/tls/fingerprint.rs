//! Certificate fingerprints (RFC 5425, section 4.2.2), with SHA-256 as required by
//! RFC 9662.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use thiserror::Error;

/// The SHA-256 hash of a certificate in DER format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

/// The error for a text that is not a fingerprint.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "is not a SHA-256 fingerprint: must be 64 hexadecimal digits, with or without colons, such as sha-256:E1:2D:..."
)]
pub struct FingerprintError;

impl Fingerprint {
    /// Returns the fingerprint of a certificate in DER format.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Parses a fingerprint, with or without the prefix `sha-256:` of RFC 5425, and with
    /// or without colons.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let text = text.to_ascii_lowercase();
        let digits = text.strip_prefix("sha-256:").unwrap_or(&text);
        let digits: Vec<u8> = digits
            .bytes()
            .filter(|byte| *byte != b':')
            .map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or(FingerprintError)?;
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        if digits.len() != 2 * bytes.len() {
            return Err(FingerprintError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha-256")?;
        self.0.iter().try_for_each(|byte| write!(f, ":{byte:02X}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_common_formats_are_parsed() {
        // The hash of the empty string.
        let expected = Fingerprint::of(b"");
        let plain = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(plain.parse(), Ok(expected));
        assert_eq!(format!("SHA-256:{plain}").parse(), Ok(expected));
        let formatted = expected.to_string();
        assert!(formatted.starts_with("sha-256:E3:B0:C4:42:"), "{formatted}");
        assert_eq!(formatted.parse(), Ok(expected));
    }

    #[test]
    fn invalid_fingerprints_are_rejected() {
        for text in ["", "e3b0", "sha-1:E1:2D", &"g".repeat(64), &"0".repeat(66)] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }
}
