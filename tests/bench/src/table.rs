//! The result, for people.

use std::time::Duration;

/// One comparison.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    /// Processor time of one message.
    pub(crate) plugin: Duration,
    pub(crate) bare: Duration,
    /// The ratio that is not to be exceeded.
    pub(crate) target: f64,
}

pub(crate) fn print(rows: &[Row]) {
    println!("processor time of a message | plugin | bare loop | ratio | target |");
    for row in rows {
        let Row {
            title,
            plugin,
            bare,
            target,
        } = row;
        let ratio = plugin.as_secs_f64() / bare.as_secs_f64();
        let verdict = if ratio <= *target { "met" } else { "not met" };
        println!(
            "{title:27} | {:.3} us | {:.3} us | {ratio:.2} | {target} {verdict}",
            plugin.as_secs_f64() * 1e6,
            bare.as_secs_f64() * 1e6,
        );
    }
}
