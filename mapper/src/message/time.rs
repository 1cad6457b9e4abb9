//! The TIMESTAMP from a template's text.

use syslog::Timestamp;

/// Parses an RFC 3339 time or a Unix time. The magnitude of a number determines its
/// unit: seconds, milliseconds, microseconds or nanoseconds. A number may have a
/// fraction and an exponent. Returns `None` for any other text, and for numbers that
/// are negative or too large.
pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.trim();
    Timestamp::parse(text).ok().or_else(|| epoch(text))
}

/// The maximum number of digits before the decimal point of seconds (until the year
/// 5138), milliseconds (since 1973), microseconds and nanoseconds, with the power of
/// ten that converts each to nanoseconds.
const UNITS: [(i64, u32); 4] = [(11, 9), (14, 6), (17, 3), (20, 0)];

/// Parses a Unix time.
///
/// The conversion shifts decimal digits, because binary floating point would
/// sometimes lose a microsecond.
fn epoch(text: &str) -> Option<Timestamp> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() {
        return None;
    }
    let digits = || whole.bytes().chain(fraction.bytes());
    if !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let zeros = digits().take_while(|digit| *digit == b'0').count();
    // The number of digits before the decimal point; zero or less for numbers below 1.
    let before_point = whole.len() as i64 + i64::from(exponent) - zeros as i64;
    let (_, to_nanos) = *UNITS.iter().find(|(max, _)| before_point <= *max)?;

    let wanted = usize::try_from(before_point + i64::from(to_nanos)).unwrap_or(0);
    let nanos = digits()
        .skip(zeros)
        .chain(std::iter::repeat(b'0'))
        .take(wanted)
        .fold(0_u128, |value, digit| value * 10 + u128::from(digit - b'0'));
    let seconds = i64::try_from(nanos / 1_000_000_000).ok()?;
    Timestamp::from_unix(seconds, (nanos % 1_000_000_000) as u32).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64, nanos: u32) -> Option<Timestamp> {
        Timestamp::from_unix(seconds, nanos).ok()
    }

    #[test]
    fn the_magnitude_of_a_number_determines_its_unit() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1577934245", 1_577_934_245, 0),
            (" 1577934245.5\n", 1_577_934_245, 500_000_000),
            ("01577934245.", 1_577_934_245, 0),
            ("1577934245.123456789", 1_577_934_245, 123_456_789),
            ("1577934245.000001", 1_577_934_245, 1_000),
            ("1577934245123", 1_577_934_245, 123_000_000),
            ("1577934245123.0", 1_577_934_245, 123_000_000),
            ("1577934245123.456", 1_577_934_245, 123_456_000),
            ("1577934245123456", 1_577_934_245, 123_456_000),
            ("1577934245123456789", 1_577_934_245, 123_456_789),
            ("1.577934245123456e18", 1_577_934_245, 123_456_000),
            ("1.5779342451e9", 1_577_934_245, 100_000_000),
            ("15779342451E-1", 1_577_934_245, 100_000_000),
            // The largest and the smallest number of each unit.
            ("99999999999", 99_999_999_999, 0),
            ("100000000000", 100_000_000, 0),
            ("99999999999999", 99_999_999_999, 999_000_000),
            ("100000000000000", 100_000_000, 0),
            ("100000000000000000", 100_000_000, 0),
            ("99999999999999999999", 99_999_999_999, 999_999_999),
            ("0.000001", 0, 1_000),
            ("0.0000000001", 0, 0),
        ] {
            assert_eq!(parse(text.as_bytes()), at(seconds, nanos), "{text}");
        }
    }

    #[test]
    fn rfc_3339_times_keep_their_offset() {
        let expected = at(1_577_934_245, 500_000_000).unwrap().with_offset(60).ok();
        assert_eq!(parse(b" 2020-01-02T04:04:05.5+01:00 "), expected);
    }

    #[test]
    fn other_texts_are_not_times() {
        for text in [
            "",
            ".",
            ".5",
            "-",
            "nan",
            "NaN",
            "-nan",
            "inf",
            "-inf",
            "infinity",
            "null",
            "-1",
            "-0.5",
            "+1577934245",
            "1577934245Z",
            "1577934245 1",
            "1,577,934,245",
            "1_577_934_245",
            "0x5e0d",
            "1.2.3",
            "1e",
            "1e99999",
            "1e300",
            "100000000000000000000",
            "999999999999999999999999999999999999999999999",
            "yesterday",
            "2020-01-02",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn no_microsecond_is_lost(seconds in 0_i64..10_000_000_000, micros in 0_u32..1_000_000) {
            let expected = at(seconds, micros * 1000);
            for text in [format!("{seconds}.{micros:06}"), format!("{seconds}.{micros:06}789")] {
                prop_assert_eq!(parse(text.as_bytes()), expected);
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(text: String, number in "-?[0-9]{0,40}\\.?[0-9]{0,40}(e-?[0-9]{1,6})?") {
            parse(text.as_bytes());
            parse(number.as_bytes());
        }
    }
}
