//! Logging to stderr in Fluent Bit's format.

use std::error::Error;

use jiff::Timestamp;

pub(crate) fn info(text: &str) {
    line(" info", text);
}

pub(crate) fn warn(text: &str) {
    line(" warn", text);
}

pub(crate) fn error(text: &str) {
    line("error", text);
}

/// Returns an error with its causes, for errors that do not include them, or include some.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn line(level: &str, text: &str) {
    let now = Timestamp::now().strftime("%Y/%m/%d %H:%M:%S.%3f");
    eprintln!("[{now}] [{level}] [sink-agent] {text}");
}
