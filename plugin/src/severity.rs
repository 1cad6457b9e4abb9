//! The severities of other loggers, as syslog's.

use syslog::Severity;

/// The severity of a container's stream: what goes to stderr is an error.
#[must_use]
pub fn from_stream(stream: &[u8]) -> Option<Severity> {
    match stream {
        b"stdout" => Some(Severity::Informational),
        b"stderr" => Some(Severity::Error),
        _ => None,
    }
}

/// The severity of a level's name, as the usual loggers have them, in any
/// case, or of its number: 0 to 7 are syslog's own, 10 to 60 are those of
/// pino and Bunyan (10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal).
#[must_use]
pub fn from_level(level: &[u8]) -> Option<Severity> {
    let level = std::str::from_utf8(level).ok()?.trim();
    if let Ok(number) = level.parse::<u8>() {
        return from_number(number);
    }
    NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(level))
        .map(|(_, severity)| *severity)
}

fn from_number(number: u8) -> Option<Severity> {
    Some(match number {
        0..=7 => return Severity::from_number(number),
        10..=29 => Severity::Debug,
        30..=39 => Severity::Informational,
        40..=49 => Severity::Warning,
        50..=59 => Severity::Error,
        60 => Severity::Critical,
        _ => return None,
    })
}

const NAMES: [(&str, Severity); 36] = [
    ("emergency", Severity::Emergency),
    ("emerg", Severity::Emergency),
    ("panic", Severity::Emergency),
    ("alert", Severity::Alert),
    ("critical", Severity::Critical),
    ("crit", Severity::Critical),
    ("fatal", Severity::Critical),
    ("dpanic", Severity::Critical),
    ("f", Severity::Critical),
    ("c", Severity::Critical),
    ("error", Severity::Error),
    ("err", Severity::Error),
    ("eror", Severity::Error),
    ("severe", Severity::Error),
    ("failure", Severity::Error),
    ("e", Severity::Error),
    ("warning", Severity::Warning),
    ("warn", Severity::Warning),
    ("w", Severity::Warning),
    ("notice", Severity::Notice),
    ("note", Severity::Notice),
    ("n", Severity::Notice),
    ("informational", Severity::Informational),
    ("information", Severity::Informational),
    ("info", Severity::Informational),
    ("i", Severity::Informational),
    ("log", Severity::Informational),
    ("config", Severity::Informational),
    ("debug", Severity::Debug),
    ("dbg", Severity::Debug),
    ("d", Severity::Debug),
    ("trace", Severity::Debug),
    ("verbose", Severity::Debug),
    ("fine", Severity::Debug),
    ("finer", Severity::Debug),
    ("finest", Severity::Debug),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams() {
        assert_eq!(from_stream(b"stdout"), Some(Severity::Informational));
        assert_eq!(from_stream(b"stderr"), Some(Severity::Error));
        assert_eq!(from_stream(b"other"), None);
    }

    #[test]
    fn levels_of_the_usual_loggers() {
        for (level, severity) in [
            ("INFO", Severity::Informational),
            ("Warning", Severity::Warning),
            ("WARN", Severity::Warning),
            (" error ", Severity::Error),
            ("E", Severity::Error),
            ("fatal", Severity::Critical),
            ("trace", Severity::Debug),
            ("0", Severity::Emergency),
            ("7", Severity::Debug),
            ("10", Severity::Debug),
            ("30", Severity::Informational),
            ("50", Severity::Error),
            ("60", Severity::Critical),
        ] {
            assert_eq!(from_level(level.as_bytes()), Some(severity), "{level}");
        }
        for unknown in ["", "8", "61", "-1", "loud", "3.5"] {
            assert_eq!(from_level(unknown.as_bytes()), None, "{unknown}");
        }
        assert_eq!(from_level(b"\xff"), None);
    }
}
