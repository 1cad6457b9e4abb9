//! The value of `structured_data`: SD-ELEMENTs in the syntax of RFC 5424, section
//! 6.3, with templates as parameter values.

use syslog::{SdId, SdIdBuf, SdName, SdNameBuf};

use super::SdElement;
use crate::template::Template;

const EXPECTED: &str = r#"expected [id@number name="value" ...], such as [origin@32473 ip="$ip"]"#;

/// Parses all elements. Returns an error if an SD-ID is in `reserved`.
pub(super) fn parse(text: &str, reserved: &[&str]) -> Result<Vec<SdElement>, String> {
    let mut elements: Vec<SdElement> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (element, after) = element(rest)?;
        let id = element.id.as_name().as_str();
        if reserved.contains(&id) {
            return Err(match id {
                super::KUBERNETES_SD_ID => format!(
                    "the SD-ID {id:?} is reserved: set kubernetes_structured_data off to use it"
                ),
                _ => format!("the SD-ID {id:?} is reserved for the parts of a long message"),
            });
        }
        if elements.iter().any(|other| other.id == element.id) {
            return Err(format!(
                "duplicate SD-ID {id:?}: put all parameters into a single element"
            ));
        }
        elements.push(element);
        rest = after.trim_start();
    }
    Ok(elements)
}

fn element(text: &str) -> Result<(SdElement, &str), String> {
    let rest = text
        .strip_prefix('[')
        .ok_or_else(|| format!("missing '[' before {text:?}, {EXPECTED}"))?;
    let end = rest.find([' ', ']']).unwrap_or(rest.len());
    let (id, mut rest) = rest.split_at(end);
    let mut element = SdElement {
        id: sd_id(id)?,
        params: Vec::new(),
    };
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            return Ok((element, after));
        }
        let (key, after) = rest
            .split_once("=\"")
            .ok_or_else(|| format!("missing name=\"value\" or ']' in {rest:?}, {EXPECTED}"))?;
        let (value, after) = value(after)?;
        let template = Template::parse(&value).map_err(|error| format!("{key}: {error}"))?;
        element.params.push((name(key)?, template));
        rest = after;
    }
}

fn sd_id(text: &str) -> Result<SdIdBuf, String> {
    SdId::new(text)
        .map(SdIdBuf::from)
        .map_err(|error| format!("the SD-ID {text:?} {error}"))
}

fn name(text: &str) -> Result<SdNameBuf, String> {
    SdName::new(text)
        .map(SdNameBuf::from)
        .map_err(|error| format!("the name {text:?} {error}"))
}

/// Parses a PARAM-VALUE up to its closing quote. Returns the unescaped value and the
/// text after the quote.
fn value(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' if text[at + 1..].starts_with(['"', '\\', ']']) => {
                value.extend(characters.next().map(|(_, escaped)| escaped));
            }
            other => value.push(other),
        }
    }
    Err(format!("missing '\"' at the end of {text:?}, {EXPECTED}"))
}
