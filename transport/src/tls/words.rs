//! Fallback wording: the names of error variants of rustls as words.

use std::fmt::Debug;

/// Returns the name of an enum's variant in lower case, with `separator` between its
/// words: `UnknownCA` becomes `unknown_ca`. The variant's fields are left out.
pub(super) fn words(variant: &impl Debug, separator: char) -> String {
    let name = format!("{variant:?}");
    let end = name.find(|c: char| !c.is_ascii_alphanumeric());
    let name: Vec<char> = name[..end.unwrap_or(name.len())].chars().collect();
    let mut text = String::new();
    for (at, letter) in name.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| name[before]);
        let after = name.get(at + 1);
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| {
                !before.is_uppercase() || after.is_some_and(|after| after.is_lowercase())
            });
        if begins {
            text.push(separator);
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, InvalidMessage, PeerMisbehaved};

    use super::*;

    #[test]
    fn variant_names_are_split_into_words() {
        let alert = |alert: AlertDescription| words(&alert, '_');
        assert_eq!(alert(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(
            alert(AlertDescription::HandshakeFailure),
            "handshake_failure"
        );
        assert_eq!(
            alert(AlertDescription::UnknownPSKIdentity),
            "unknown_psk_identity"
        );
        assert_eq!(
            words(&PeerMisbehaved::SelectedUnofferedKxGroup, ' '),
            "selected unoffered kx group"
        );
        assert_eq!(
            words(&InvalidMessage::MissingData("x"), ' '),
            "missing data"
        );
        assert_eq!(words(&7, ' '), "7");
    }
}
