//! TIMESTAMP (RFC 5424, section 6.2.3): a profile of RFC 3339.

use thiserror::Error;

/// A point in time with microsecond precision, and the UTC offset to write it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    seconds: i64,
    micros: u32,
    /// Minutes east of UTC.
    offset: i16,
    /// The number of digits after the decimal point, 0 to 6.
    digits: u8,
}

/// The reason why a value is not a valid timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimestampError {
    /// The year does not have four digits (DATE-FULLYEAR, RFC 5424, section 6).
    #[error("is outside the years 0000 to 9999")]
    Year,
    /// The text is not in the format of RFC 3339.
    #[error("is not an RFC 3339 time such as 2026-03-01T12:00:00.5+01:00")]
    Form,
}

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z.
const FIRST: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;

impl Timestamp {
    /// The maximum length in bytes: `2026-03-01T12:00:00.123456+01:00`.
    pub const MAX: usize = 32;

    /// Returns the time `nanos` nanoseconds after `seconds` of Unix time, written in UTC
    /// with six digits. The time is truncated to microseconds.
    ///
    /// # Errors
    ///
    /// Returns an error if the year does not have four digits, or if `nanos` is a second
    /// or more.
    pub fn from_unix(seconds: i64, nanos: u32) -> Result<Self, TimestampError> {
        if nanos >= 1_000_000_000 {
            return Err(TimestampError::Form);
        }
        Self {
            seconds,
            micros: nanos / 1000,
            offset: 0,
            digits: 6,
        }
        .in_range()
    }

    /// Returns the same time, written with an offset of `minutes` east of UTC.
    ///
    /// # Errors
    ///
    /// Returns an error if the offset is a day or more ([`TimestampError::Form`]), or if
    /// the local year does not have four digits.
    pub fn with_offset(self, minutes: i16) -> Result<Self, TimestampError> {
        if minutes.unsigned_abs() >= 24 * 60 {
            return Err(TimestampError::Form);
        }
        Self {
            offset: minutes,
            ..self
        }
        .in_range()
    }

    /// Returns the same time, written with `digits` digits after the decimal point, at
    /// most six (TIME-SECFRAC, RFC 5424, section 6).
    #[must_use]
    pub fn with_digits(self, digits: u8) -> Self {
        Self {
            digits: digits.min(6),
            ..self
        }
    }

    /// Parses an RFC 3339 time. It is truncated to microseconds.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not an RFC 3339 time, or has a leap second
    /// (`:60`), which RFC 5424, section 6.2.3, forbids.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        Self::read(text.as_bytes())
            .ok_or(TimestampError::Form)?
            .in_range()
    }

    fn read(text: &[u8]) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let (time, rest) = rest.split_at_checked(9)?;
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else {
            return None;
        };
        let [b'T' | b't' | b' ', h1, h2, b':', i1, i2, b':', s1, s2] = *time else {
            return None;
        };
        let year = number(&[y1, y2, y3, y4], 0, 9999)?;
        let month = number(&[m1, m2], 1, 12)?;
        let day = number(&[d1, d2], 1, days_in_month(year, month))?;
        let hour = number(&[h1, h2], 0, 23)?;
        let minute = number(&[i1, i2], 0, 59)?;
        let second = number(&[s1, s2], 0, 59)?;

        let (micros, zone) = match rest.strip_prefix(b".") {
            None => (0, rest),
            Some(rest) => {
                let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                let (digits, zone) = rest.split_at(length);
                let digits = digits.get(..6).unwrap_or(digits);
                let scale = 10_i64.pow(6 - digits.len() as u32);
                (number(digits, 0, 999_999)? * scale, zone)
            }
        };
        let offset = match *zone {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let minutes = number(&[h1, h2], 0, 23)? * 60 + number(&[m1, m2], 0, 59)?;
                if sign == b'-' { -minutes } else { minutes }
            }
            _ => return None,
        };
        let local = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Some(Self {
            seconds: local - offset * MINUTE,
            micros: micros as u32,
            offset: offset as i16,
            digits: 6,
        })
    }

    fn in_range(self) -> Result<Self, TimestampError> {
        if (FIRST..=LAST).contains(&self.local()) {
            Ok(self)
        } else {
            Err(TimestampError::Year)
        }
    }

    fn local(self) -> i64 {
        self.seconds.saturating_add(i64::from(self.offset) * MINUTE)
    }

    /// Appends the timestamp.
    pub fn encode(self, out: &mut Vec<u8>) {
        self.encode_with(&mut SecondCache::default(), out);
    }

    /// Appends the timestamp. `cache` holds the previous timestamp's second, which is
    /// likely the same.
    pub fn encode_with(self, cache: &mut SecondCache, out: &mut Vec<u8>) {
        let length = match self.digits {
            0 => 19,
            digits => 20 + usize::from(digits),
        };
        out.extend_from_slice(&cache.text_at(self.local(), self.micros)[..length]);
        if self.offset == 0 {
            out.push(b'Z');
        } else {
            let minutes = u32::from(self.offset.unsigned_abs());
            let mut zone = if self.offset < 0 {
                *b"-00:00"
            } else {
                *b"+00:00"
            };
            put_pair(&mut zone, 1, minutes / 60);
            put_pair(&mut zone, 4, minutes % 60);
            out.extend_from_slice(&zone);
        }
    }
}

/// The text of the second that was written last.
#[derive(Clone, Debug)]
pub struct SecondCache {
    /// Seconds since 1970-01-01T00:00:00, of local time.
    second: i64,
    text: [u8; 26],
}

impl Default for SecondCache {
    fn default() -> Self {
        Self {
            second: 0,
            text: *b"1970-01-01T00:00:00.000000",
        }
    }
}

impl SecondCache {
    fn text_at(&mut self, second: i64, micros: u32) -> &[u8; 26] {
        if self.second != second {
            self.set(second);
        }
        put_pair(&mut self.text, 20, micros / 10_000);
        put_pair(&mut self.text, 22, micros / 100 % 100);
        put_pair(&mut self.text, 24, micros % 100);
        &self.text
    }

    fn set(&mut self, second: i64) {
        let (year, month, day) = civil_from_days(second.div_euclid(DAY));
        let of_day = second.rem_euclid(DAY) as u32;
        put_pair(&mut self.text, 0, year / 100);
        put_pair(&mut self.text, 2, year % 100);
        put_pair(&mut self.text, 5, month);
        put_pair(&mut self.text, 8, day);
        put_pair(&mut self.text, 11, of_day / 3600);
        put_pair(&mut self.text, 14, of_day / 60 % 60);
        put_pair(&mut self.text, 17, of_day % 60);
        self.second = second;
    }
}

fn put_pair(text: &mut [u8], at: usize, value: u32) {
    text[at] = b'0' + (value / 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

fn number(digits: &[u8], min: i64, max: i64) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_i64, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i64::from(digit - b'0'))
    })?;
    (min..=max).contains(&value).then_some(value)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

// Both conversions count years from 1 March, so that the leap day is the last day of
// the year and the first day of each month is a linear function of the month.

/// Days between 0000-03-01 and 1970-01-01.
const EPOCH: i64 = 719_468;
const DAYS_IN_400_YEARS: i64 = 146_097;

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let cycle = year.div_euclid(400);
    let year_of_cycle = year.rem_euclid(400);
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * DAYS_IN_400_YEARS + day_of_cycle - EPOCH
}

fn civil_from_days(days: i64) -> (u32, u32, u32) {
    let days = days + EPOCH;
    let cycle = days.div_euclid(DAYS_IN_400_YEARS);
    let day_of_cycle = days.rem_euclid(DAYS_IN_400_YEARS);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524
        - day_of_cycle / (DAYS_IN_400_YEARS - 1))
        / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(timestamp: Timestamp) -> String {
        let mut out = Vec::new();
        timestamp.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_times_are_written() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 1_999, "2000-02-29T00:00:00.000001Z"),
            (1_772_366_400, 123_456_789, "2026-03-01T12:00:00.123456Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999Z"),
            (FIRST, 0, "0000-01-01T00:00:00.000000Z"),
            (LAST, 0, "9999-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(
                text(Timestamp::from_unix(seconds, nanos).unwrap()),
                expected
            );
        }
    }

    #[test]
    fn years_without_four_digits_are_rejected() {
        assert_eq!(Timestamp::from_unix(LAST + 1, 0), Err(TimestampError::Year));
        assert_eq!(
            Timestamp::from_unix(FIRST - 1, 0),
            Err(TimestampError::Year)
        );
        assert_eq!(Timestamp::from_unix(i64::MAX, 0), Err(TimestampError::Year));
        let last = Timestamp::from_unix(LAST, 0).unwrap();
        assert_eq!(last.with_offset(60), Err(TimestampError::Year));
    }

    #[test]
    fn offsets_and_digits_are_written() {
        let timestamp = Timestamp::from_unix(0, 120_000_000).unwrap();
        assert_eq!(
            text(timestamp.with_offset(-90).unwrap().with_digits(2)),
            "1969-12-31T22:30:00.12-01:30"
        );
        assert_eq!(
            text(timestamp.with_offset(330).unwrap().with_digits(0)),
            "1970-01-01T05:30:00+05:30"
        );
        assert_eq!(timestamp.with_offset(1440), Err(TimestampError::Form));
    }

    #[test]
    fn rfc_3339_times_are_parsed() {
        for (from, expected) in [
            ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520000Z"),
            ("1985-04-12t23:20:50z", "1985-04-12T23:20:50.000000Z"),
            (
                "2003-08-24T05:14:15.000003-07:00",
                "2003-08-24T05:14:15.000003-07:00",
            ),
            (
                "2003-08-24T05:14:15.123456789+01:00",
                "2003-08-24T05:14:15.123456+01:00",
            ),
        ] {
            assert_eq!(Timestamp::parse(from).map(text).as_deref(), Ok(expected));
        }
        for wrong in [
            "",
            "2003-08-24",
            "2003-02-29T00:00:00Z",
            "2003-08-24T05:14:60Z",
            "2003-08-24T24:14:15Z",
            "2003-08-24T05:14:15",
            "2003-08-24T05:14:15.Z",
            "2003-08-24T05:14:15+1:00",
            "2003-13-24T05:14:15Z",
            "2003-08-24T05:14:15Zx",
            "+003-08-24T05:14:15Z",
        ] {
            assert_eq!(
                Timestamp::parse(wrong),
                Err(TimestampError::Form),
                "{wrong}"
            );
        }
    }

    fn any_timestamp() -> impl Strategy<Value = Timestamp> {
        let parts = (FIRST + DAY..LAST - DAY, 0_u32..1_000_000, -1439_i16..1440);
        parts.prop_map(|(seconds, micros, offset)| {
            let timestamp = Timestamp::from_unix(seconds, micros * 1000).unwrap();
            timestamp.with_offset(offset).unwrap()
        })
    }

    proptest! {
        #[test]
        fn a_written_timestamp_is_parsed(timestamp in any_timestamp()) {
            prop_assert_eq!(Timestamp::parse(&text(timestamp)), Ok(timestamp));
        }

        #[test]
        fn the_cache_does_not_change_the_text(
            from in any_timestamp(),
            steps in proptest::collection::vec((-2_i64..3, -60_i16..61), 1..20),
        ) {
            let mut cache = SecondCache::default();
            for (seconds, offset) in steps {
                let timestamp = Timestamp { seconds: from.seconds + seconds, offset, ..from };
                let mut out = Vec::new();
                timestamp.encode_with(&mut cache, &mut out);
                prop_assert_eq!(String::from_utf8(out).unwrap(), text(timestamp));
            }
        }
    }
}
