//! The main use case from beginning to end:
//!
//! ```text
//! container logs -> Fluent Bit with pod_logs (or the C host) -> syslog_sink -> TLS -> rsyslog (or our receiver)
//! ```
//!
//! Two outputs deliver: `shop` is restricted to the namespace shop, `cluster` delivers
//! all namespaces. Exits with an error if a line is lost.
#![forbid(unsafe_code)]

mod agent;
mod arrivals;
mod samples;

use std::process::ExitCode;

use rig::fluent_bit::refused_by_namespace_check;
use rig::pki::Pki;

use self::agent::Delivered;
use self::arrivals::Arrivals;

/// The severities by number (RFC 5424, table 2).
const SEVERITIES: [&str; 8] = [
    "emergency",
    "alert",
    "critical",
    "error",
    "warning",
    "notice",
    "informational",
    "debug",
];

fn main() -> ExitCode {
    println!("Building the plugins (the first time takes a minute) ...");
    let libraries = host::libraries();
    let pki = Pki::new();
    let shop = Arrivals::start(&pki);
    let cluster = Arrivals::start(&pki);
    println!(
        "Created a CA and certificates; two receivers listen with TLS: {}",
        shop.kind()
    );

    let lines = samples::lines();
    let of_shop = lines.iter().filter(|line| line.namespace == "shop").count();
    let Delivered { by, log } = agent::deliver(&libraries, &lines, &pki, &shop, &cluster);
    println!(
        "{} container log lines were delivered by {by}.\n",
        lines.len()
    );

    let of_shop_arrived = print("sink `shop` (namespace shop)", &shop, of_shop);
    let of_all_arrived = print("sink `cluster` (all namespaces)", &cluster, lines.len());
    let refused = refused_by_namespace_check(&log);

    let lost = of_shop.saturating_sub(of_shop_arrived) + lines.len().saturating_sub(of_all_arrived);
    println!("read                 {:>3} lines", lines.len());
    println!("delivered to shop    {of_shop_arrived:>3} of {of_shop}");
    println!(
        "delivered to cluster {of_all_arrived:>3} of {}",
        lines.len()
    );
    println!("refused              {refused:>3} of other namespaces");
    println!("lost                 {lost:>3}");
    let as_expected = lost == 0 && of_shop_arrived == of_shop && refused == lines.len() - of_shop;
    if as_expected {
        ExitCode::SUCCESS
    } else {
        eprintln!("\nUnexpected result. The log:\n{log}");
        ExitCode::FAILURE
    }
}

/// Prints the messages that arrived, and returns their number.
fn print(title: &str, arrivals: &Arrivals, expected: usize) -> usize {
    println!("== {title}");
    let messages = arrivals.wait_for(expected);
    for message in &messages {
        let severity = SEVERITIES.get(message.severity).unwrap_or(&"?");
        println!(
            "{} {} {} {severity}",
            message.time, message.host, message.app_name
        );
        println!("    {}", message.structured_data);
        println!("    {}", printable(&message.text));
    }
    println!();
    messages.len()
}

/// Escapes a text, so that each message stays on one line of the terminal.
fn printable(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_debug());
        } else {
            line.push(character);
        }
    }
    line
}
