//! Conversion of loggers' levels to syslog severities.

use syslog::Severity;

/// Returns the severity of a container's stream: `info` for stdout, `err` for stderr.
/// Returns `None` for other streams.
#[must_use]
pub fn from_stream(stream: &[u8]) -> Option<Severity> {
    match stream {
        b"stdout" => Some(Severity::Informational),
        b"stderr" => Some(Severity::Error),
        _ => None,
    }
}

/// Returns the severity of a name that common loggers use, in any case, or of a
/// number.
///
/// The numbers 0 to 7 are syslog severities; 10 to 60 are the levels of pino and
/// Bunyan (10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal). Returns `None`
/// for any other text.
#[must_use]
pub fn from_name(name: &str) -> Option<Severity> {
    from_digits(name.as_bytes()).or_else(|| from_keyword(name.as_bytes()))
}

/// Returns the severity of a record's level, or of a log line that starts with one:
///
/// ```text
/// error   ERROR   E   3   50   40.0     only a name, a letter or a number
/// [error] text    <warn> text           a name or a letter in brackets
/// ERROR: text     error | text          a name followed by `:` or `|`
/// ERROR - text    WARN[0001] text       a name followed by ` - ` or `[`
/// ERROR text                            a name in capital letters
/// E1126 12:00:00.000000 ...             a klog header: letter, month and day, time
/// ```
///
/// Returns `None` for any other text, for example a sentence that starts with a name,
/// such as `information`.
#[must_use]
pub fn from_level(level: &[u8]) -> Option<Severity> {
    let level = level.trim_ascii();
    if let Some(severity) = from_number(level) {
        return Some(severity);
    }
    let (close, inner) = match level {
        [b'[', inner @ ..] => (b']', inner),
        [b'<', inner @ ..] => (b'>', inner),
        _ => return from_prefix(level).or_else(|| from_klog(level)),
    };
    let end = inner.iter().position(|byte| *byte == close)?;
    from_keyword(inner[..end].trim_ascii())
}

/// Returns the severity of a name at the start of a text, unless the text continues
/// like a sentence.
fn from_prefix(text: &[u8]) -> Option<Severity> {
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .count();
    let (name, rest) = text.split_at(length);
    let severity = from_keyword(name)?;
    let is_level = match rest {
        [] => true,
        // A single letter is ambiguous: it may be a drive, an answer or a list item.
        _ if name.len() == 1 => false,
        [b':' | b'|' | b'[', ..] => true,
        [space, ..] if space.is_ascii_whitespace() => match rest.trim_ascii_start() {
            [b':' | b'|', ..] | [b'-', b' ', ..] => true,
            _ => name.iter().all(u8::is_ascii_uppercase),
        },
        _ => false,
    };
    is_level.then_some(severity)
}

/// Returns the severity of a klog header: `Lmmdd hh:mm:ss.uuuuuu ...`, or only
/// `Lmmdd`.
fn from_klog(text: &[u8]) -> Option<Severity> {
    let ([letter, m1, m2, d1, d2], rest) = text.split_first_chunk()?;
    let severity = match letter {
        b'I' => Severity::Informational,
        b'W' => Severity::Warning,
        b'E' => Severity::Error,
        b'F' => Severity::Critical,
        _ => return None,
    };
    let number = |tens: u8, ones: u8| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| (tens - b'0') * 10 + ones - b'0')
    };
    let is_date = (1..=12).contains(&number(*m1, *m2)?) && (1..=31).contains(&number(*d1, *d2)?);
    let is_header = match rest {
        [] => true,
        [b' ', h1, h2, b':', ..] => number(*h1, *h2)? < 24,
        _ => false,
    };
    (is_date && is_header).then_some(severity)
}

/// Returns the severity of a number, which may have a fraction of zeros.
fn from_number(text: &[u8]) -> Option<Severity> {
    let point = text.iter().position(|byte| *byte == b'.');
    let (digits, fraction) = text.split_at(point.unwrap_or(text.len()));
    let zeros = fraction.iter().skip(1).all(|digit| *digit == b'0');
    if zeros { from_digits(digits) } else { None }
}

fn from_digits(digits: &[u8]) -> Option<Severity> {
    let number: u8 = std::str::from_utf8(digits).ok()?.parse().ok()?;
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

fn from_keyword(name: &[u8]) -> Option<Severity> {
    NAMES
        .iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
        .map(|(_, severity)| *severity)
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stderr_is_an_error() {
        assert_eq!(from_stream(b"stdout"), Some(Severity::Informational));
        assert_eq!(from_stream(b"stderr"), Some(Severity::Error));
        assert_eq!(from_stream(b"other"), None);
    }

    #[test]
    fn levels_of_common_loggers_are_recognized() {
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
            ("40.0", Severity::Warning),
            ("3.000", Severity::Error),
            ("50.", Severity::Error),
        ] {
            assert_eq!(from_level(level.as_bytes()), Some(severity), "{level}");
        }
    }

    #[test]
    fn levels_at_the_start_of_a_line_are_recognized() {
        for (line, severity) in [
            ("[error]", Severity::Error),
            ("[error] cannot connect", Severity::Error),
            ("[ WARN ] slow", Severity::Warning),
            ("[E] cannot connect", Severity::Error),
            ("<warn> slow", Severity::Warning),
            ("ERROR: cannot connect", Severity::Error),
            ("error: cannot connect", Severity::Error),
            ("Warning:slow", Severity::Warning),
            ("panic: runtime error", Severity::Emergency),
            ("error:", Severity::Error),
            ("ERROR | cannot connect", Severity::Error),
            ("error : cannot connect", Severity::Error),
            ("Error - cannot connect", Severity::Error),
            ("WARN[0001] slow", Severity::Warning),
            ("error[E0425]: cannot find value", Severity::Error),
            ("ERROR cannot connect", Severity::Error),
            ("WARN\tslow", Severity::Warning),
            ("WARN  [main] slow", Severity::Warning),
            (
                "E1126 12:00:00.000000       1 main.go:7] no",
                Severity::Error,
            ),
            (
                "I0101 00:00:00.123456       1 main.go:7] yes",
                Severity::Informational,
            ),
            ("W1231 23:59:59.999999 1 a.go:1] slow", Severity::Warning),
            ("F0229 01:02:03.000000 1 a.go:1] over", Severity::Critical),
            ("E1126", Severity::Error),
            ("[error] \u{fffd}", Severity::Error),
        ] {
            assert_eq!(from_level(line.as_bytes()), Some(severity), "{line}");
        }
        assert_eq!(from_level(b"[error] not \xff UTF-8"), Some(Severity::Error));
    }

    #[test]
    fn other_texts_have_no_severity() {
        for text in [
            "",
            "8",
            "61",
            "-1",
            "loud",
            "3.5",
            "40.0.0",
            ".0",
            "information technology",
            "Information about errors",
            "errors: 0",
            "error(s): 0",
            "error_count: 0",
            "error-prone",
            "Error 404 is not an error",
            "no error: 0",
            "log in",
            "note that it is late",
            "alert manager started",
            "I am here",
            "E alone",
            "I: am a letter",
            "C:\\Windows",
            "D: drive",
            "(c) 2026",
            "[error",
            "[error code 5]",
            "[main] ERROR",
            "[]",
            "[",
            "E1326 12:00:00.000000 no month",
            "E1100 12:00:00.000000 no day",
            "E1126 is an error code",
            "E1126: no",
            "E11261 12:00:00",
            "E1000 adapter",
            "D1126 12:00:00.000000 no klog",
            "I am",
        ] {
            assert_eq!(from_level(text.as_bytes()), None, "{text}");
        }
        assert_eq!(from_level(b"\xff"), None);
    }

    #[test]
    fn a_name_must_be_the_whole_text() {
        assert_eq!(from_name("WARNING"), Some(Severity::Warning));
        assert_eq!(from_name("4"), Some(Severity::Warning));
        for text in ["", "error: text", "[error]", "40.0", "E1126"] {
            assert_eq!(from_name(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_texts_do_not_panic(
            bytes: Vec<u8>,
            text in "[\\[<]?(error|WARN|[IWEF])[0-9]{0,5}[ :|\\]>-]{0,4}[0-9: ]{0,6}",
        ) {
            let _ = from_level(&bytes);
            let _ = from_level(text.as_bytes());
        }
    }
}
