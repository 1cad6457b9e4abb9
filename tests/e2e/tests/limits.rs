//! The size limits of docs/RECEIVERS.md for both sides: with each pair of settings,
//! messages of the allowed size arrive complete.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::ops::Deref;

use e2e::hostile::{assert_whole, forged, long_lines};
use e2e::syslog_input::SyslogInput;
use e2e::{arrivals, arrivals_at};
use rig::rsyslog::{self, Rsyslog};
use rig::syslog_ng::{self, SyslogNg};
use rig::syslogd::Syslogd;

const TCP: (&str, &str) = ("transport", "tcp");
const RELP: (&str, &str) = ("transport", "relp");
const NEWLINE: (&str, &str) = ("framing", "newline");

fn check(daemon: Option<impl Deref<Target = Syslogd>>, options: &[(&str, &str)], lines: &[String]) {
    if let Some(daemon) = daemon {
        assert_whole(&arrivals(&daemon, options, lines), lines);
    }
}

/// `maxMessageSize` also sets the default of imrelp's `maxDataSize`.
#[test]
fn rsyslog_with_a_larger_max_message_size() {
    let size = ("max_message_size", "65536");
    for (input, options) in [
        (rsyslog::Input::Tcp, vec![TCP, size]),
        (rsyslog::Input::Tcp, vec![TCP, NEWLINE, size]),
        (rsyslog::Input::Ptcp, vec![TCP, size]),
        (rsyslog::Input::Relp { tls: None }, vec![RELP, size]),
    ] {
        let daemon = Rsyslog::configure(input).max_message_size("64k").start();
        check(daemon, &options, &long_lines());
    }
}

#[test]
fn syslog_ng_up_to_its_default() {
    let size = ("max_message_size", "65536");
    let network = SyslogNg::start(&syslog_ng::Input::Network);
    check(network, &[TCP, NEWLINE, size], &long_lines());
    let syslog = SyslogNg::start(&syslog_ng::Input::Syslog);
    check(syslog, &[TCP, size], &long_lines());
}

#[test]
fn syslog_ng_with_a_larger_log_msg_size() {
    let daemon = SyslogNg::configure(syslog_ng::Input::Syslog)
        .log_msg_size(262_144)
        .start();
    let lines = [forged(1_000_000, 0)];
    check(daemon, &[TCP, ("max_message_size", "262144")], &lines);
}

#[test]
fn syslog_input_of_fluent_bit_up_to_its_default() {
    let Some(input) = SyslogInput::start() else {
        return;
    };
    let lines = long_lines();
    let options = [TCP, NEWLINE, ("max_message_size", "32766")];
    let arrived = arrivals_at(&input.address(), &options, &lines, |end| {
        input.wait_for_text(end)
    });
    assert_whole(&arrived, &lines);
}

/// By default rsyslog escapes each control character with four bytes, and truncates
/// messages that then exceed its limit.
#[test]
fn rsyslog_truncates_by_the_escaped_length() {
    let trace = "at com.example.Shop.buy(Shop.java:42)\n\t\u{1b}[0m\u{7f}".repeat(2_000) + "end";
    let lines = [trace, "\t".repeat(20_000), "a\n".repeat(9_000) + "end"];
    let raw = Rsyslog::configure(rsyslog::Input::Tcp).raw_control_characters();
    check(raw.start(), &[TCP], &lines);

    for (input, options) in [
        (rsyslog::Input::Tcp, vec![TCP]),
        (rsyslog::Input::Ptcp, vec![TCP]),
        (rsyslog::Input::Relp { tls: None }, vec![RELP]),
    ] {
        let Some(daemon) = Rsyslog::start(&input) else {
            return;
        };
        let mut arrived = arrivals(&daemon, &options, &lines);
        for message in &mut arrived {
            for (escape, character) in [
                ("#011", "\t"),
                ("#012", "\n"),
                ("#033", "\u{1b}"),
                ("#177", "\u{7f}"),
            ] {
                message.text = message.text.replace(escape, character);
            }
        }
        assert_whole(&arrived, &lines);
    }
}
