//! The value of `structured_data`: SD-ELEMENTs as RFC 5424, section 6.3 writes
//! them, with templates for parameter values.

use syslog::{SdId, SdIdBuf, SdName, SdNameBuf};

use super::SdElement;
use crate::template::Template;

const FORM: &str = r#"allowed is [id@number name="value" ...], such as [origin@32473 ip="$ip"]"#;

/// Parses all elements. An SD-ID in `reserved` is an error.
pub(super) fn parse(text: &str, reserved: &[&str]) -> Result<Vec<SdElement>, String> {
    let mut elements: Vec<SdElement> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (element, behind) = element(rest)?;
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
                "has the element {id:?} twice, allowed is one element with all parameters"
            ));
        }
        elements.push(element);
        rest = behind.trim_start();
    }
    Ok(elements)
}

fn element(text: &str) -> Result<(SdElement, &str), String> {
    let rest = text
        .strip_prefix('[')
        .ok_or_else(|| format!("has no '[' before {text:?}, {FORM}"))?;
    let end = rest.find([' ', ']']).unwrap_or(rest.len());
    let (id, mut rest) = rest.split_at(end);
    let mut element = SdElement {
        id: sd_id(id)?,
        params: Vec::new(),
    };
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix(']') {
            return Ok((element, behind));
        }
        let (key, behind) = rest
            .split_once("=\"")
            .ok_or_else(|| format!("has neither name=\"value\" nor ']' in {rest:?}, {FORM}"))?;
        let (value, behind) = value(behind)?;
        let template = Template::parse(&value).map_err(|error| format!("{key}: {error}"))?;
        element.params.push((name(key)?, template));
        rest = behind;
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

/// The text up to the quote that is not escaped, without its escapes.
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
    Err(format!("has no '\"' at the end of {text:?}, {FORM}"))
}
