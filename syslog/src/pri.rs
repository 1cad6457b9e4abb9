//! PRI: facility and severity (RFC 5424, section 6.2.1).

/// The kind of program that a message comes from (RFC 5424, table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the RFC's own")]
pub enum Facility {
    Kern,
    User,
    Mail,
    Daemon,
    Auth,
    Syslog,
    Lpr,
    News,
    Uucp,
    Cron,
    AuthPriv,
    Ftp,
    Ntp,
    Audit,
    Alert,
    Clock,
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

/// Each facility with the keyword that syslog configurations use for it.
const FACILITIES: [(&str, Facility); 24] = [
    ("kern", Facility::Kern),
    ("user", Facility::User),
    ("mail", Facility::Mail),
    ("daemon", Facility::Daemon),
    ("auth", Facility::Auth),
    ("syslog", Facility::Syslog),
    ("lpr", Facility::Lpr),
    ("news", Facility::News),
    ("uucp", Facility::Uucp),
    ("cron", Facility::Cron),
    ("authpriv", Facility::AuthPriv),
    ("ftp", Facility::Ftp),
    ("ntp", Facility::Ntp),
    ("audit", Facility::Audit),
    ("alert", Facility::Alert),
    ("clock", Facility::Clock),
    ("local0", Facility::Local0),
    ("local1", Facility::Local1),
    ("local2", Facility::Local2),
    ("local3", Facility::Local3),
    ("local4", Facility::Local4),
    ("local5", Facility::Local5),
    ("local6", Facility::Local6),
    ("local7", Facility::Local7),
];

impl Facility {
    /// Returns the facility with this keyword (`user`, `local0`, in any case) or
    /// number (0 to 23).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let by_number = name.parse::<usize>().ok();
        FACILITIES
            .iter()
            .enumerate()
            .find(|(number, (keyword, _))| {
                Some(*number) == by_number || keyword.eq_ignore_ascii_case(name)
            })
            .map(|(_, (_, facility))| *facility)
    }

    /// Returns all keywords, in the order of their numbers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FACILITIES.iter().map(|(keyword, _)| *keyword)
    }
}

/// The severity of a message (RFC 5424, table 2). Lower numbers are more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the RFC's own")]
pub enum Severity {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Informational,
    Debug,
}

impl Severity {
    /// Returns all keywords, in the order of their numbers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SEVERITIES.iter().map(|(keyword, _)| *keyword)
    }

    /// Returns the severity with this number, or `None` if it is above 7.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Emergency,
            1 => Self::Alert,
            2 => Self::Critical,
            3 => Self::Error,
            4 => Self::Warning,
            5 => Self::Notice,
            6 => Self::Informational,
            7 => Self::Debug,
            _ => return None,
        })
    }
}

/// Each severity with the keyword that syslog configurations use for it.
const SEVERITIES: [(&str, Severity); 8] = [
    ("emerg", Severity::Emergency),
    ("alert", Severity::Alert),
    ("crit", Severity::Critical),
    ("err", Severity::Error),
    ("warning", Severity::Warning),
    ("notice", Severity::Notice),
    ("info", Severity::Informational),
    ("debug", Severity::Debug),
];

/// The PRI value: eight times the facility plus the severity, 0 to 191.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pri(u8);

impl Pri {
    /// The maximum length in bytes: `<191>`.
    pub const MAX: usize = 5;

    /// Returns the PRI of a facility and a severity.
    #[must_use]
    pub const fn new(facility: Facility, severity: Severity) -> Self {
        Self(facility as u8 * 8 + severity as u8)
    }

    /// Returns the number between `<` and `>`.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }

    /// Appends `<PRI>`, without leading zeros.
    pub fn encode(self, out: &mut Vec<u8>) {
        let [hundreds, tens, ones] =
            [self.0 / 100, self.0 / 10 % 10, self.0 % 10].map(|d| d + b'0');
        match self.0 {
            0..10 => out.extend_from_slice(&[b'<', ones, b'>']),
            10..100 => out.extend_from_slice(&[b'<', tens, ones, b'>']),
            100.. => out.extend_from_slice(&[b'<', hundreds, tens, ones, b'>']),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pri_is_written_without_leading_zeros() {
        for (_, facility) in FACILITIES {
            for number in 0..8 {
                let severity = Severity::from_number(number).unwrap();
                let pri = Pri::new(facility, severity);
                let mut out = Vec::new();
                pri.encode(&mut out);
                assert_eq!(out, format!("<{}>", pri.value()).as_bytes());
            }
        }
        assert_eq!(Pri::new(Facility::Local7, Severity::Debug).value(), 191);
        assert_eq!(
            Pri::new(Facility::User, Severity::Informational).value(),
            14
        );
    }

    #[test]
    fn facilities_have_names_and_numbers() {
        assert_eq!(Facility::from_name("LOCAL0"), Some(Facility::Local0));
        assert_eq!(Facility::from_name("16"), Some(Facility::Local0));
        assert_eq!(Facility::from_name("0"), Some(Facility::Kern));
        assert_eq!(Facility::from_name("24"), None);
        assert_eq!(Facility::from_name("local8"), None);
        for (number, (_, facility)) in FACILITIES.into_iter().enumerate() {
            assert_eq!(facility as usize, number);
        }
    }

    #[test]
    fn severities_end_at_seven() {
        assert_eq!(Severity::from_number(3), Some(Severity::Error));
        assert_eq!(Severity::from_number(8), None);
    }
}
