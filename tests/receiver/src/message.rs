//! A strict parser of the grammar in RFC 5424, section 6. It is written from the RFC
//! and independent of the encoder that it is used to test.

use serde::Serialize;
use thiserror::Error;

/// A parsed message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The facility, from 0 to 23.
    pub facility: u8,
    /// The severity, from 0 to 7.
    pub severity: u8,
    /// The TIMESTAMP. `None` for the NILVALUE, as in the following fields.
    pub timestamp: Option<Timestamp>,
    /// HOSTNAME.
    pub hostname: Option<String>,
    /// APP-NAME.
    pub app_name: Option<String>,
    /// PROCID.
    pub procid: Option<String>,
    /// MSGID.
    pub msgid: Option<String>,
    /// The SD-ELEMENTs in their order.
    pub structured_data: Vec<Element>,
    /// MSG; `None` if not even the space before it is present.
    pub msg: Option<Vec<u8>>,
    /// Whether MSG starts with a byte order mark.
    pub bom: bool,
}

/// TIMESTAMP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timestamp {
    /// The text of the message.
    pub text: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// The microseconds within the second.
    pub micros: u32,
    /// The offset in minutes east of UTC.
    pub offset: i32,
}

/// SD-ELEMENT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Element {
    /// SD-ID.
    pub id: String,
    /// The PARAM-NAMEs and their unescaped values.
    pub params: Vec<(String, String)>,
}

/// The rule that a message violates, and the position.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize)]
#[error("at byte {at}: {rule}")]
pub struct ParseError {
    /// The offset of the byte that violates the rule.
    pub at: usize,
    /// The violated rule.
    pub rule: &'static str,
}

impl Message {
    /// Returns MSG as text.
    ///
    /// # Panics
    ///
    /// Panics if MSG is not UTF-8.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the plugin's messages are always UTF-8")]
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.msg.as_deref().unwrap_or_default()).expect("MSG is UTF-8")
    }

    /// Returns the value of the first parameter with this name in the element `id`.
    #[must_use]
    pub fn param(&self, id: &str, name: &str) -> Option<&str> {
        self.structured_data
            .iter()
            .find(|element| element.id == id)?
            .params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Parses one SYSLOG-MSG without framing.
///
/// # Errors
///
/// Returns the first rule that the message violates.
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let pri = cursor.pri()?;
    cursor.expect(b'1', "VERSION is 1 (6.2.2)")?;
    cursor.space()?;
    let timestamp = cursor.timestamp()?;
    cursor.space()?;
    let hostname = cursor.field(255, "HOSTNAME is 1 to 255 PRINTUSASCII (6.2.4)")?;
    cursor.space()?;
    let app_name = cursor.field(48, "APP-NAME is 1 to 48 PRINTUSASCII (6.2.5)")?;
    cursor.space()?;
    let procid = cursor.field(128, "PROCID is 1 to 128 PRINTUSASCII (6.2.6)")?;
    cursor.space()?;
    let msgid = cursor.field(32, "MSGID is 1 to 32 PRINTUSASCII (6.2.7)")?;
    cursor.space()?;
    let structured_data = cursor.structured_data()?;
    let (msg, bom) = cursor.msg()?;
    Ok(Message {
        facility: pri / 8,
        severity: pri % 8,
        timestamp,
        hostname,
        app_name,
        procid,
        msgid,
        structured_data,
        msg,
        bom,
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn error<T>(&self, rule: &'static str) -> Result<T, ParseError> {
        Err(ParseError { at: self.at, rule })
    }

    /// Returns an error at the start of a part, instead of at the current position.
    fn error_at<T>(start: usize, rule: &'static str) -> Result<T, ParseError> {
        Err(ParseError { at: start, rule })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8, rule: &'static str) -> Result<(), ParseError> {
        if self.peek() != Some(byte) {
            return self.error(rule);
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) -> Result<(), ParseError> {
        self.expect(b' ', "one space between the fields (6)")
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take_while(|byte| keep(**byte)).count();
        self.at += length;
        &rest[..length]
    }

    fn digits(
        &mut self,
        count: usize,
        range: std::ops::RangeInclusive<i64>,
        rule: &'static str,
    ) -> Result<i64, ParseError> {
        let start = self.at;
        let Some(digits) = self.bytes.get(start..start + count) else {
            return self.error(rule);
        };
        let mut value = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return self.error(rule);
            }
            value = value * 10 + i64::from(digit - b'0');
        }
        if !range.contains(&value) {
            return self.error(rule);
        }
        self.at += count;
        Ok(value)
    }

    fn pri(&mut self) -> Result<u8, ParseError> {
        const RULE: &str = "PRI is '<' 0 to 191 '>' without leading zeros (6.2.1)";
        self.expect(b'<', RULE)?;
        let start = self.at;
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        let leading_zero = digits.len() > 1 && digits[0] == b'0';
        let value = std::str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse::<u8>().ok());
        match value {
            Some(value) if value <= 191 && !leading_zero && digits.len() <= 3 => {
                self.expect(b'>', RULE)?;
                Ok(value)
            }
            _ => Self::error_at(start, RULE),
        }
    }

    fn timestamp(&mut self) -> Result<Option<Timestamp>, ParseError> {
        const FORM: &str = "TIMESTAMP is FULL-DATE \"T\" FULL-TIME (6.2.3)";
        if self.peek() == Some(b'-') {
            self.at += 1;
            return Ok(None);
        }
        let start = self.at;
        let year = self.digits(4, 0..=9999, FORM)?;
        self.expect(b'-', FORM)?;
        let month = self.digits(2, 1..=12, "DATE-MONTH is 01 to 12 (6.2.3)")?;
        self.expect(b'-', FORM)?;
        let day = self.digits(
            2,
            1..=month_length(year, month),
            "DATE-MDAY is a day of the month (6.2.3)",
        )?;
        self.expect(b'T', "'T' is upper case (6.2.3)")?;
        let hour = self.digits(2, 0..=23, "TIME-HOUR is 00 to 23 (6.2.3)")?;
        self.expect(b':', FORM)?;
        let minute = self.digits(2, 0..=59, "TIME-MINUTE is 00 to 59 (6.2.3)")?;
        self.expect(b':', FORM)?;
        let second = self.digits(2, 0..=59, "TIME-SECOND is 00 to 59, no leap second (6.2.3)")?;
        let mut micros = 0;
        if self.peek() == Some(b'.') {
            self.at += 1;
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            if !(1..=6).contains(&fraction.len()) {
                return self.error("TIME-SECFRAC has 1 to 6 digits (6.2.3)");
            }
            for place in 0..6 {
                let digit = fraction
                    .get(place)
                    .map_or(0, |digit| u32::from(digit - b'0'));
                micros = micros * 10 + digit;
            }
        }
        let offset = match self.peek() {
            Some(b'Z') => {
                self.at += 1;
                0
            }
            Some(sign @ (b'+' | b'-')) => {
                self.at += 1;
                let hours = self.digits(2, 0..=23, "TIME-NUMOFFSET is hh:mm (6.2.3)")?;
                self.expect(b':', "TIME-NUMOFFSET is hh:mm (6.2.3)")?;
                let minutes = self.digits(2, 0..=59, "TIME-NUMOFFSET is hh:mm (6.2.3)")?;
                let offset = hours * 60 + minutes;
                if sign == b'-' { -offset } else { offset }
            }
            _ => return self.error("TIME-OFFSET is 'Z' or a numeric offset (6.2.3)"),
        };
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        let of_day = hour * 3600 + minute * 60 + second;
        Ok(Some(Timestamp {
            text,
            seconds: days_before(year, month, day) * 86_400 + of_day - offset * 60,
            micros,
            offset: offset as i32,
        }))
    }

    fn field(&mut self, max: usize, rule: &'static str) -> Result<Option<String>, ParseError> {
        let start = self.at;
        let text = self.take_while(|byte| (33..=126).contains(&byte));
        if text.is_empty() || text.len() > max {
            return Self::error_at(start, rule);
        }
        // A header field must be followed by a space.
        if self.peek().is_some_and(|byte| byte != b' ') {
            return self.error(rule);
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        Ok((text != "-").then_some(text))
    }

    fn structured_data(&mut self) -> Result<Vec<Element>, ParseError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
            return Ok(Vec::new());
        }
        let mut elements: Vec<Element> = Vec::new();
        while self.peek() == Some(b'[') {
            let start = self.at + 1;
            let element = self.element()?;
            if elements.iter().any(|other| other.id == element.id) {
                return Self::error_at(start, "no SD-ID exists twice (6.3.2)");
            }
            elements.push(element);
        }
        if elements.is_empty() {
            return self.error("STRUCTURED-DATA is '-' or begins with '[' (6.3)");
        }
        Ok(elements)
    }

    fn element(&mut self) -> Result<Element, ParseError> {
        self.at += 1;
        let id = self.sd_name()?;
        let mut params = Vec::new();
        while self.peek() == Some(b' ') {
            self.at += 1;
            let name = self.sd_name()?;
            self.expect(b'=', "PARAM-NAME is followed by '=' (6.3.3)")?;
            params.push((name, self.param_value()?));
        }
        self.expect(b']', "SD-ELEMENT ends with ']' (6.3.1)")?;
        Ok(Element { id, params })
    }

    fn sd_name(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        let name = self
            .take_while(|byte| (33..=126).contains(&byte) && !matches!(byte, b'=' | b']' | b'"'));
        if !(1..=32).contains(&name.len()) {
            return Self::error_at(
                start,
                "SD-NAME is 1 to 32 PRINTUSASCII but '=', ' ', ']' and '\"' (6.3)",
            );
        }
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn param_value(&mut self) -> Result<String, ParseError> {
        self.expect(b'"', "PARAM-VALUE is in quotes (6.3.3)")?;
        let mut value = Vec::new();
        loop {
            match self.peek() {
                None => return self.error("PARAM-VALUE has no end (6.3.3)"),
                Some(b'"') => break,
                Some(b']') => return self.error("']' in PARAM-VALUE is escaped (6.3.3)"),
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(escaped @ (b'"' | b'\\' | b']')) => {
                            value.push(escaped);
                            self.at += 1;
                        }
                        // A backslash before any other character is literal.
                        _ => value.push(b'\\'),
                    }
                }
                Some(byte) => {
                    value.push(byte);
                    self.at += 1;
                }
            }
        }
        let Ok(value) = String::from_utf8(value) else {
            return self.error("PARAM-VALUE is UTF-8 (6.3.3)");
        };
        self.at += 1;
        Ok(value)
    }

    fn msg(&mut self) -> Result<(Option<Vec<u8>>, bool), ParseError> {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        if self.at == self.bytes.len() {
            return Ok((None, false));
        }
        self.space()?;
        let msg = &self.bytes[self.at..];
        let Some(text) = msg.strip_prefix(BOM) else {
            return Ok((Some(msg.to_vec()), false));
        };
        if let Err(error) = std::str::from_utf8(text) {
            let at = self.bytes.len() - text.len() + error.valid_up_to();
            return Self::error_at(at, "MSG after a BOM is UTF-8 (6.4)");
        }
        Ok((Some(text.to_vec()), true))
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970-01-01 to the date, counted year by year and month by
/// month: slow, but obviously correct.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year_length = |year| 365 + i64::from(is_leap(year));
    let years: i64 = if year >= 1970 {
        (1970..year).map(year_length).sum()
    } else {
        -(year..1970).map(year_length).sum::<i64>()
    };
    let months: i64 = (1..month).map(|month| month_length(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = " host app proc id - text";

    #[test]
    fn all_fields_are_parsed() {
        let text = "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 \
                    [exampleSDID@32473 iut=\"3\" eventSource=\"A\\\"p\\\\p\\]\\n\"][b@1] \u{feff}An event";
        let message = parse(text.as_bytes()).unwrap();
        assert_eq!((message.facility, message.severity), (20, 5));
        let timestamp = message.timestamp.as_ref().unwrap();
        assert_eq!((timestamp.seconds, timestamp.micros), (1_065_910_455, 3000));
        assert_eq!(message.hostname.as_deref(), Some("mymachine.example.com"));
        assert_eq!(message.procid, None);
        assert_eq!(
            message.param("exampleSDID@32473", "eventSource"),
            Some("A\"p\\p]\\n")
        );
        assert_eq!(message.structured_data.len(), 2);
        assert!(message.bom);
        assert_eq!(message.text(), "An event");
    }

    #[test]
    fn a_minimal_message_is_parsed() {
        let message = parse(b"<0>1 - - - - - -").unwrap();
        assert_eq!(message.msg, None);
        assert_eq!(message.timestamp, None);
    }

    #[test]
    fn timestamps_are_converted_to_utc() {
        for (text, seconds, micros) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1985-04-12T19:20:50.52-04:00", 482_196_050, 520_000),
            ("2003-08-24T05:14:15.000003-07:00", 1_061_727_255, 3),
            ("2000-02-29T00:00:00+00:00", 951_782_400, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
        ] {
            let message = parse(format!("<14>1 {text}{REST}").as_bytes()).unwrap();
            let timestamp = message.timestamp.unwrap();
            assert_eq!(
                (timestamp.seconds, timestamp.micros),
                (seconds, micros),
                "{text}"
            );
        }
    }

    #[test]
    fn violations_of_the_grammar_are_rejected() {
        let time = "2003-10-11T22:14:15Z";
        let long = |length: usize| "x".repeat(length);
        for wrong in [
            String::new(),
            format!("14>1 {time}{REST}"),
            format!("<192>1 {time}{REST}"),
            format!("<014>1 {time}{REST}"),
            format!("<>1 {time}{REST}"),
            format!("<14>2 {time}{REST}"),
            format!("<14>1  {time}{REST}"),
            format!("<14>1 2003-02-29T22:14:15Z{REST}"),
            format!("<14>1 2003-13-11T22:14:15Z{REST}"),
            format!("<14>1 2003-10-11T24:14:15Z{REST}"),
            format!("<14>1 2003-10-11T22:14:60Z{REST}"),
            format!("<14>1 2003-10-11t22:14:15Z{REST}"),
            format!("<14>1 2003-10-11T22:14:15z{REST}"),
            format!("<14>1 2003-10-11T22:14:15.Z{REST}"),
            format!("<14>1 2003-10-11T22:14:15.1234567Z{REST}"),
            format!("<14>1 2003-10-11T22:14:15{REST}"),
            format!("<14>1 2003-10-11T22:14:15+1:00{REST}"),
            format!("<14>1 {time} {} app proc id - text", long(256)),
            format!("<14>1 {time} host {} proc id - text", long(49)),
            format!("<14>1 {time} host app {} id - text", long(129)),
            format!("<14>1 {time} host app proc {} - text", long(33)),
            format!("<14>1 {time} host app\u{7} proc id - text"),
            format!("<14>1 {time} hôst app proc id - text"),
            format!("<14>1 {time} host  proc id - text"),
            format!("<14>1 {time} host app proc id text"),
            format!("<14>1 {time} host app proc id -text"),
            format!("<14>1 {time} host app proc id [] text"),
            format!("<14>1 {time} host app proc id [{} a=\"b\"] text", long(33)),
            format!("<14>1 {time} host app proc id [a][a] text"),
            format!("<14>1 {time} host app proc id [a b] text"),
            format!("<14>1 {time} host app proc id [a b=c] text"),
            format!("<14>1 {time} host app proc id [a b=\"]\"] text"),
            format!("<14>1 {time} host app proc id [a b=\"c] text"),
            format!("<14>1 {time} host app proc id [a  b=\"c\"] text"),
            format!("<14>1 {time} host app proc id [a b=\"c\"]text"),
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse(b"<14>1 - - - - - [a b=\"\xff\"] text").is_err());
        assert!(parse(b"<14>1 - - - - - - \xef\xbb\xbf\xff").is_err());
    }

    #[test]
    fn errors_contain_the_position() {
        for (wrong, at) in [
            (b"<192>1 - - - - - -".as_slice(), 1),
            (b"<14>2 - - - - - -", 4),
            (b"<14>1 - - - - - [a][a]", 20),
            (b"<14>1 - - - - - [a =\"c\"]", 19),
            (b"<14>1 - - - - - - \xef\xbb\xbfok\xff", 23),
        ] {
            let text = String::from_utf8_lossy(wrong);
            assert_eq!(parse(wrong).map_err(|error| error.at), Err(at), "{text}");
        }
    }

    #[test]
    fn a_truncated_header_is_rejected() {
        let text = "<14>1 2003-10-11T22:14:15Z host app proc id [a b=\"c\"] text";
        let end = text.find("] ").unwrap() + 1;
        for cut in 0..end {
            assert!(parse(&text.as_bytes()[..cut]).is_err(), "{}", &text[..cut]);
        }
    }
}
