//! Logging to stderr in Fluent Bit's format.

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

fn line(level: &str, text: &str) {
    let now = Timestamp::now().strftime("%Y/%m/%d %H:%M:%S.%3f");
    eprintln!("[{now}] [{level}] [sink-agent] {text}");
}
