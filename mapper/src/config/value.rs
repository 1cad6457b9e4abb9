//! Parsers of the values' types. Each error text states the allowed values.

use std::net::Ipv6Addr;
use std::time::Duration;

use syslog::{Facility, Severity};
use transport::Endpoint;
use transport::tls::Fingerprint;

use super::{FacilityFrom, SeverityFrom};
use crate::severity::from_name;
use crate::template::Template;

pub(super) const ADDRESS: &str =
    "host:port or [IPv6 address]:port with a port from 1 to 65535, such as logs.example.com:6514";
/// The maximum number of servers: each may get a connection from every node.
const MAX_SERVERS: usize = 16;

/// Parses a comma-separated list of addresses.
pub(super) fn addresses(text: &str, default_port: u16) -> Result<Vec<Endpoint>, String> {
    let mut endpoints = Vec::new();
    for text in text.split(',') {
        let endpoint = address(text.trim(), default_port)?;
        if endpoints.contains(&endpoint) {
            return Err(format!("duplicate server {endpoint}"));
        }
        endpoints.push(endpoint);
    }
    if endpoints.len() > MAX_SERVERS {
        return Err(format!(
            "too many servers ({}), at most {MAX_SERVERS} are allowed",
            endpoints.len()
        ));
    }
    Ok(endpoints)
}

/// Parses `host`, `host:port`, `[v6]` or `[v6]:port`.
fn address(text: &str, default_port: u16) -> Result<Endpoint, String> {
    let invalid = |problem: &str| format!("{problem}, expected {ADDRESS}");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| invalid("missing ']'"))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(invalid("invalid IPv6 address in brackets"));
        }
        match rest.strip_prefix(':') {
            None if rest.is_empty() => (host, None),
            None => return Err(invalid("unexpected text after ']'")),
            Some(port) => (host, Some(port)),
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Err(invalid("an IPv6 address must be in brackets"));
    } else {
        match text.split_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(port)),
        }
    };
    let port = match port {
        None => Some(default_port),
        Some(port) => port.parse().ok().filter(|port| *port > 0),
    };
    let endpoint = Endpoint::new(host, port.unwrap_or(default_port))
        .ok_or_else(|| invalid("invalid host name or IP address"))?;
    match port {
        Some(_) => Ok(endpoint),
        None => Err(invalid("invalid port")),
    }
}

/// Parses a boolean.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("invalid boolean, must be on or off".to_owned()),
    }
}

/// Parses one of several keywords, in any case.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    choices
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("unknown value, must be one of {}", names.join(", "))
        })
}

/// Parses a number of bytes between `min` and `max`. The units `k`, `M` and `G` are
/// powers of 1000, as elsewhere in Fluent Bit.
///
/// # Errors
///
/// Returns a text that states the allowed range, without the value.
pub fn size(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let (digits, unit) = split_number(text);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1000),
        "m" | "mb" => Some(1_000_000),
        "g" | "gb" => Some(1_000_000_000),
        _ => None,
    };
    let size = digits
        .parse::<usize>()
        .ok()
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit));
    let range = || {
        let (min, max) = (size_text(min), size_text(max));
        format!("must be between {min} and {max} bytes, such as 8000, 64k or 512M")
    };
    match size {
        Some(size) if (min..=max).contains(&size) => Ok(size),
        Some(_) => Err(format!("out of range, {}", range())),
        None => Err(format!("invalid size, {}", range())),
    }
}

/// Formats a number of bytes with the largest unit that divides it, `64k` for
/// example.
#[must_use]
pub fn size_text(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    let unit = UNITS
        .into_iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(
        || bytes.to_string(),
        |(unit, name)| format!("{}{name}", bytes / unit),
    )
}

/// Parses a whole number between `min` and `max`.
pub(super) fn number(text: &str, min: usize, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(_) => Err(format!("out of range, must be between {min} and {max}")),
        Err(_) => Err(format!("invalid number, must be between {min} and {max}")),
    }
}

/// Parses fingerprints that are separated by commas or spaces.
pub(super) fn fingerprints(text: &str) -> Result<Vec<Fingerprint>, String> {
    text.split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|error| format!("{part:?} {error}")))
        .collect()
}

/// Parses a duration with the unit `ms`, `s` or `m`; a number without a unit is in
/// seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const MAX: Duration = Duration::from_secs(3600);
    let (digits, unit) = split_number(text);
    let number = digits.parse::<u32>().ok().map(u64::from);
    let duration = match unit {
        "" | "s" => number.map(Duration::from_secs),
        "ms" => number.map(Duration::from_millis),
        "m" => number.map(|minutes| Duration::from_secs(minutes * 60)),
        _ => None,
    };
    let range = "must be between 1ms and 60m, such as 500ms, 10s or 2m";
    match duration {
        Some(duration) if !duration.is_zero() && duration <= MAX => Ok(duration),
        Some(_) => Err(format!("out of range, {range}")),
        None => Err(format!("invalid duration, {range}")),
    }
}

/// Splits a text into its leading digits and the unit after them.
fn split_number(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

/// Parses a facility: a template, a keyword or a number.
pub(super) fn facility(text: &str) -> Result<FacilityFrom, String> {
    if text.contains('$') {
        return template(text).map(FacilityFrom::Field);
    }
    Facility::from_name(text)
        .map(FacilityFrom::Fixed)
        .ok_or_else(|| {
            let names: Vec<&str> = Facility::names().collect();
            format!(
                "unknown facility, must be a record accessor, a number from 0 to 23, or one of {}",
                names.join(", ")
            )
        })
}

/// Parses a severity: `stream`, a template, a keyword or a number.
pub(super) fn severity(text: &str) -> Result<SeverityFrom, String> {
    if text.contains('$') {
        return template(text).map(SeverityFrom::Field);
    }
    if text.eq_ignore_ascii_case("stream") {
        return Ok(SeverityFrom::Stream);
    }
    from_name(text)
        .map(SeverityFrom::Fixed)
        .ok_or_else(|| {
            let names: Vec<&str> = Severity::names().collect();
            format!(
                "unknown severity, must be stream, a record accessor, a number from 0 to 7, or one of {}",
                names.join(", ")
            )
        })
}

fn template(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|error| error.to_string())
}
