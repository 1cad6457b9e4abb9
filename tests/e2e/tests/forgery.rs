//! No line becomes a message of another namespace, and no byte of a line is lost. The
//! receivers use their packages' default settings, the plugin its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::ops::Deref;

use e2e::hostile::{Arrived, assert_one_each, assert_whole, forged, lines_with_ends, long_lines};
use e2e::syslog_input::SyslogInput;
use e2e::{arrivals, arrivals_at};
use rig::pki::Pki;
use rig::rsyslog::{self, Driver, Rsyslog};
use rig::syslog_ng::{self, SyslogNg};
use rig::syslogd::Syslogd;

type Options<'a> = &'a [(&'a str, &'a str)];

const TCP: Options<'_> = &[("transport", "tcp")];
const NEWLINE: Options<'_> = &[("transport", "tcp"), ("framing", "newline")];
const RELP: Options<'_> = &[("transport", "relp")];

/// Checks long lines, and lines with characters that may end a message.
fn check<D: Deref<Target = Syslogd>>(start: impl Fn() -> Option<D>, options: Options<'_>) {
    check_long_lines(&start, options);
    check_ends(
        |options, lines| Some(arrivals(&*start()?, options, lines)),
        options,
    );
}

fn check_long_lines<D: Deref<Target = Syslogd>>(
    start: impl Fn() -> Option<D>,
    options: Options<'_>,
) {
    if let Some(daemon) = start() {
        let lines = long_lines();
        assert_whole(&arrivals(&daemon, options, &lines), &lines);
    }
}

/// Checks lines whose control characters are replaced.
fn check_ends(
    arrivals: impl Fn(Options<'_>, &[String]) -> Option<Vec<Arrived>>,
    options: Options<'_>,
) {
    let lines = lines_with_ends();
    for more in [None, Some("space"), Some("escape")] {
        let more: Vec<_> = more
            .map(|value| ("control_characters", value))
            .into_iter()
            .collect();
        let Some(arrived) = arrivals(&[options, &more].concat(), &lines) else {
            return;
        };
        assert_one_each(&arrived, &lines);
    }
}

#[test]
fn imtcp() {
    check(|| Rsyslog::start(&rsyslog::Input::Tcp), TCP);
}

#[test]
fn imtcp_by_lines() {
    check(|| Rsyslog::start(&rsyslog::Input::Tcp), NEWLINE);
}

/// An escaped text is longer than its line. It is split by its escaped length.
#[test]
fn imtcp_by_lines_with_escapes() {
    let Some(daemon) = Rsyslog::start(&rsyslog::Input::Tcp) else {
        return;
    };
    let lines = ["\n".repeat(60_000) + &forged(20_000, 0)];
    let options = [NEWLINE, &[("control_characters", "escape")]].concat();
    let arrived = arrivals(&daemon, &options, &lines);
    assert_whole(&arrived, &[lines[0].replace('\n', "\\n")]);
}

#[test]
fn imtcp_with_tls() {
    let pki = Pki::new();
    let ca = pki.ca();
    for driver in [Driver::OpenSsl, Driver::GnuTls] {
        let input = rsyslog::Input::Tls {
            driver,
            server: pki.server(),
            ca: pki.ca(),
            mutual: false,
        };
        let options = [("tls_ca_file", ca.to_str().unwrap())];
        check_long_lines(|| Rsyslog::start(&input), &options);
    }
}

#[test]
fn imptcp() {
    check(|| Rsyslog::start(&rsyslog::Input::Ptcp), TCP);
}

#[test]
fn imptcp_by_lines() {
    check(|| Rsyslog::start(&rsyslog::Input::Ptcp), NEWLINE);
}

#[test]
fn imrelp() {
    check(|| Rsyslog::start(&rsyslog::Input::Relp { tls: None }), RELP);
}

/// Fewer lines than the socket's buffer holds: the kernel drops the rest.
#[test]
fn imudp() {
    let Some(daemon) = Rsyslog::start(&rsyslog::Input::Udp) else {
        return;
    };
    let lines = [forged(30_000, 0)];
    let options = [("transport", "udp")];
    assert_whole(&arrivals(&daemon, &options, &lines), &lines);
}

#[test]
fn syslog_ng_network() {
    check(|| SyslogNg::start(&syslog_ng::Input::Network), NEWLINE);
}

#[test]
fn syslog_ng_syslog() {
    check(|| SyslogNg::start(&syslog_ng::Input::Syslog), TCP);
}

#[test]
fn syslog_ng_syslog_with_tls() {
    let pki = Pki::new();
    let ca = pki.ca();
    let input = syslog_ng::Input::SyslogTls {
        server: pki.server(),
        client_ca: None,
    };
    let options = [("tls_ca_file", ca.to_str().unwrap())];
    check_long_lines(|| SyslogNg::start(&input), &options);
}

#[test]
fn syslog_input_of_fluent_bit() {
    let arrivals = |options: Options<'_>, lines: &[String]| {
        let input = SyslogInput::start()?;
        Some(arrivals_at(&input.address(), options, lines, |end| {
            input.wait_for_text(end)
        }))
    };
    let lines = long_lines();
    if let Some(arrived) = arrivals(NEWLINE, &lines) {
        assert_whole(&arrived, &lines);
    }
    check_ends(arrivals, NEWLINE);
}
