//! The forms that values have. Each error says what is allowed.

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
/// Each is a connection, and may be one from every node.
const MAX_SERVERS: usize = 16;

/// Addresses with commas between them, each as in [`address`].
pub(super) fn addresses(text: &str, default_port: u16) -> Result<Vec<Endpoint>, String> {
    let mut endpoints = Vec::new();
    for text in text.split(',') {
        let endpoint = address(text.trim(), default_port)?;
        if endpoints.contains(&endpoint) {
            return Err(format!("{endpoint} is there twice, allowed is once"));
        }
        endpoints.push(endpoint);
    }
    if endpoints.len() > MAX_SERVERS {
        return Err(format!(
            "has {} servers, allowed is 1 to {MAX_SERVERS}",
            endpoints.len()
        ));
    }
    Ok(endpoints)
}

/// `host`, `host:port` or `[v6]:port`.
fn address(text: &str, default_port: u16) -> Result<Endpoint, String> {
    let wrong = |what: &str| format!("{what}, allowed is {ADDRESS}");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| wrong("the '[' has no ']'"))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(wrong("what is in brackets is not an IPv6 address"));
        }
        match rest.strip_prefix(':') {
            None if rest.is_empty() => (host, None),
            None => return Err(wrong("something other than a port follows the ']'")),
            Some(port) => (host, Some(port)),
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Err(wrong("an IPv6 address has to be in brackets"));
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
        .ok_or_else(|| wrong("the host is neither a name nor an IP address"))?;
    match port {
        Some(_) => Ok(endpoint),
        None => Err(wrong("the port is not one")),
    }
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("is neither true nor false, allowed is on or off".to_owned()),
    }
}

pub(super) fn choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    choices
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("is not known, allowed is {}", names.join(", "))
        })
}

/// A number of bytes; `k`, `M` and `G` are thousands, millions and thousands of
/// millions, as elsewhere in Fluent Bit.
///
/// # Errors
///
/// Says what is allowed.
pub fn size(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let (digits, unit) = split_number(text);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1000),
        "m" | "mb" => Some(1_000_000),
        "g" | "gb" => Some(1_000_000_000),
        _ => None,
    };
    digits
        .parse::<usize>()
        .ok()
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .filter(|size| (min..=max).contains(size))
        .ok_or_else(|| {
            let (min, max) = (size_text(min), size_text(max));
            format!("is not a size, allowed is {min} to {max} bytes, such as 8000, 64k or 512M")
        })
}

/// A number of bytes as people write it.
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

/// A whole number.
pub(super) fn number(text: &str, min: usize, max: usize) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("is not a number that is allowed, which are {min} to {max}"))
}

/// Fingerprints with commas or spaces between them.
pub(super) fn fingerprints(text: &str) -> Result<Vec<Fingerprint>, String> {
    text.split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|error| format!("{part:?} {error}")))
        .collect()
}

/// A time span; a number without a unit counts seconds.
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
    duration
        .filter(|duration| !duration.is_zero() && *duration <= MAX)
        .ok_or_else(|| {
            "is not a time span, allowed is 1ms to 60m, such as 500ms, 10s or 2m".to_owned()
        })
}

fn split_number(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

pub(super) fn facility(text: &str) -> Result<FacilityFrom, String> {
    if text.contains('$') {
        return template(text).map(FacilityFrom::Field);
    }
    Facility::from_name(text)
        .map(FacilityFrom::Fixed)
        .ok_or_else(|| {
            let names: Vec<&str> = Facility::names().collect();
            format!(
                "is not a facility, allowed is a record accessor, a number from 0 to 23, or one of {}",
                names.join(", ")
            )
        })
}

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
                "is not a severity, allowed is stream, a record accessor, a number from 0 to 7, or one of {}",
                names.join(", ")
            )
        })
}

fn template(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|error| error.to_string())
}
