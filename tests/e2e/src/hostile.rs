//! Hostile lines: a part of each would be a message of another namespace if a receiver
//! started a message there.
//!
//! ```text
//! <14>1 ... pod.log/shop/web-0/nginx ... xxxx<0>1 ... pod.log/other/ns/x ... gotcha<0>1 ...
//!                                            ^ a receiver that cuts here is deceived
//! ```

use crate::APP_NAME;

/// A message of another namespace, of the highest severity.
pub const FORGED: &str = "<0>1 2026-01-01T00:00:00Z evil pod.log/other/ns/x - - \
                          [kubernetes@47450 namespace_name=\"other\"] gotcha";

/// A message that arrived: APP-NAME, STRUCTURED-DATA and MSG.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// APP-NAME.
    pub app_name: String,
    /// STRUCTURED-DATA.
    pub structured_data: String,
    /// MSG.
    pub text: String,
}

/// Returns lines that consist of forged messages. For every receiver limit up to 70,000
/// bytes, one of the lines has a forged message exactly at the limit. Every message
/// length around 8,000 bytes also occurs, because a header has less than 400 bytes.
#[must_use]
pub fn long_lines() -> Vec<String> {
    let anywhere = (0..FORGED.len()).map(|offset| forged(70_000, offset));
    let lengths = (7_600..8_300).map(|length| forged(length, length % FORGED.len()));
    anywhere.chain(lengths).collect()
}

/// Returns a line of forged messages after other text.
#[must_use]
pub fn forged(length: usize, offset: usize) -> String {
    let mut line = "x".repeat(offset);
    while line.len() < length {
        line.push_str(FORGED);
    }
    line.truncate(length);
    line
}

/// Returns lines with each character at which a receiver may end a message, followed by
/// a forged message.
#[must_use]
pub fn lines_with_ends() -> Vec<String> {
    let ascii = (0..32).chain([127]).map(char::from).map(String::from);
    let others = ["\r\n", "\n\0", "\u{85}", "\u{2028}", "\u{2029}"].map(str::to_owned);
    let length = FORGED.len();
    let both = |end: String| {
        [
            format!("text{end}{FORGED}"),
            // As with octet counting.
            format!("text{end}{length} {FORGED}"),
        ]
    };
    ascii.chain(others).flat_map(both).collect()
}

/// Asserts that no message claims another namespace, and that no byte is lost or added.
///
/// # Panics
///
/// Panics if the assertion fails.
pub fn assert_whole(arrived: &[Arrived], lines: &[String]) {
    assert_of_the_container(arrived);
    let texts = arrived.iter().map(|message| message.text.as_str());
    let (arrived, sent) = (texts.collect::<String>(), lines.concat());
    let same = sent
        .bytes()
        .zip(arrived.bytes())
        .take_while(|(a, b)| a == b);
    let at = same.count();
    assert!(
        at == sent.len() && at == arrived.len(),
        "{} bytes sent, {} arrived, the first {at} are the same",
        sent.len(),
        arrived.len(),
    );
}

/// Asserts that no message claims another namespace, and that each of
/// [`lines_with_ends`] became exactly one message.
///
/// # Panics
///
/// Panics if the assertion fails.
pub fn assert_one_each(arrived: &[Arrived], lines: &[String]) {
    assert_of_the_container(arrived);
    assert_eq!(arrived.len(), lines.len());
    for (message, line) in arrived.iter().zip(lines) {
        let text = &message.text;
        assert!(
            text.starts_with("text") && text.ends_with("gotcha"),
            "{line:?}: {text:?}"
        );
    }
}

fn assert_of_the_container(arrived: &[Arrived]) {
    for message in arrived {
        assert_eq!(message.app_name, APP_NAME, "{:?}", message.text);
        let data = &message.structured_data;
        assert!(data.contains("namespace_name=\"shop\""), "{data}");
        assert!(!data.contains("other"), "{data}");
    }
}
