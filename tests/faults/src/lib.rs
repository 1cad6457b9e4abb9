//! Tests of everything that can go wrong between a chunk and its receiver, with real
//! sockets and the real library. Each test counts the messages that were sent, lost and
//! duplicated.
//!
//! Each scenario is a test (`cargo test --package faults`) and a row of the table in
//! docs/RELIABILITY.md (`make reliability`).
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic fails the test"
)]
#![allow(
    clippy::unnecessary_wraps,
    reason = "all scenarios have the same type, and most of them can run everywhere"
)]

mod arrivals;
mod load;
mod mount;
pub mod namespace;
mod proxy;
mod scenarios;

pub use load::Counts;

/// The counts of a scenario, or the reason why it cannot run on this machine.
pub type Outcome = Result<Counts, Skipped>;

/// The reason why a scenario cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped(pub String);

/// A scenario. It panics if an expectation is not met.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name of the scenario's test.
    pub name: &'static str,
    /// The description in the table.
    pub title: &'static str,
    /// Runs the scenario.
    pub run: fn() -> Outcome,
}

/// Defines each scenario in one place: its test, title and function. Scenarios marked
/// `ignored` run only with `make reliability`.
macro_rules! scenarios {
    ($(
        $(#[$attribute:meta])*
        mod $table:ident as $list:ident {
            $($(#[$ignored:ident])? $name:ident: $title:literal => $run:expr;)*
        }
    )*) => {
        $(
            $(#[$attribute])*
            pub const $list: &[Scenario] = &[
                $(Scenario {
                    name: concat!(stringify!($table), "::", stringify!($name)),
                    title: $title,
                    run: $run,
                },)*
            ];

            #[cfg(test)]
            mod $table {
                use super::*;

                $(#[test]
                $(#[$ignored = "make reliability runs it"])?
                fn $name() {
                    let run: fn() -> Outcome = $run;
                    check(run());
                })*
            }
        )*
    };
}

#[cfg(test)]
fn check(outcome: Outcome) {
    match outcome {
        Err(Skipped(reason)) => rig::skip(&reason),
        Ok(counts) => {
            assert_eq!(counts.lost, 0, "{counts:?}");
            assert!(counts.duplicated <= counts.may_be_duplicated, "{counts:?}");
            assert_ne!(counts.in_order, Some(false), "{counts:?}");
        }
    }
}

use load::Delivery::{Direct, Queued};
use rig::rsyslog::Driver;
use scenarios::pod_logs::{End, Size};
use scenarios::{
    crash, cut, daemons, exit, fluent_bit, names, neighbours, network, pod_logs, queue, restart,
    shape, stall, tls,
};

scenarios! {
    /// The scenarios without a queue.
    mod without_a_queue as DIRECT {
        crash_tcp: "Receiver crashes four times with acknowledged bytes unread (reset), TCP" => || crash::tcp(Direct);
        crash_tls: "Receiver crashes four times with acknowledged bytes unread (reset), TLS" => || crash::tls(Direct);
        hang_up_tcp: "Receiver closes the connection four times with acknowledged bytes unread (FIN, then reset), TCP" => || crash::hang_up_tcp(Direct);
        lost_reset: "Receiver closes the connection long after the last acknowledgement, and its reset is lost, TCP" => || network::lost_reset(Direct);
        hang_up_tls: "Receiver closes the connection four times with acknowledged bytes unread (FIN, then reset), TLS" => || crash::hang_up_tls(Direct);
        throw_away_tls: "Receiver discards acknowledged bytes after its close_notify, four times" => || crash::throw_away_tls(Direct);
        large_window: "Receiver with a window of megabytes crashes" => || crash::large_window(Direct);
        restart_tcp: "Receiver restarts gracefully four times, TCP" => || restart::tcp(Direct);
        restart_tls: "Receiver restarts gracefully four times, TLS" => || restart::tls(Direct);
        rsyslog_tcp_term: "rsyslog restarts four times (TERM), TCP" => || daemons::rsyslog_tcp(Direct, "-TERM");
        rsyslog_tcp_kill: "rsyslog killed four times (KILL), TCP" => || daemons::rsyslog_tcp(Direct, "-KILL");
        rsyslog_ossl_term: "rsyslog restarts four times (TERM), TLS, ossl" => || daemons::rsyslog_tls(Direct, Driver::OpenSsl, "-TERM");
        rsyslog_ossl_kill: "rsyslog killed four times (KILL), TLS, ossl" => || daemons::rsyslog_tls(Direct, Driver::OpenSsl, "-KILL");
        rsyslog_gtls_term: "rsyslog restarts four times (TERM), TLS, gtls" => || daemons::rsyslog_tls(Direct, Driver::GnuTls, "-TERM");
        rsyslog_gtls_kill: "rsyslog killed four times (KILL), TLS, gtls" => || daemons::rsyslog_tls(Direct, Driver::GnuTls, "-KILL");
        rsyslog_relp_term: "rsyslog restarts four times (TERM), RELP" => || daemons::rsyslog_relp(Direct, "-TERM");
        rsyslog_relp_kill: "rsyslog killed four times (KILL), RELP" => || daemons::rsyslog_relp(Direct, "-KILL");
        rsyslog_relp_tls_kill: "rsyslog killed four times (KILL), RELP over TLS" => || daemons::rsyslog_relp_tls(Direct, "-KILL");
        syslog_ng_tcp_term: "syslog-ng restarts four times (TERM), TCP" => || daemons::syslog_ng_tcp(Direct, "-TERM");
        syslog_ng_tcp_kill: "syslog-ng killed four times (KILL), TCP" => || daemons::syslog_ng_tcp(Direct, "-KILL");
        syslog_ng_tls_term: "syslog-ng restarts four times (TERM), TLS" => || daemons::syslog_ng_tls(Direct, "-TERM");
        syslog_ng_tls_kill: "syslog-ng killed four times (KILL), TLS" => || daemons::syslog_ng_tls(Direct, "-KILL");
        stall: "Receiver reads nothing for 60 s" => || stall::minute(Direct);
        trickle: "Receiver reads one byte a second for 20 s" => || stall::trickle(Direct);
        half_open: "Network drops everything in both directions for 15 s" => || network::half_open(Direct);
        slow_network: "100 ms delay and 1 % loss" => || network::slow(Direct);
        reset_in_frame: "Reset in the middle of a frame, five times, TCP" => || cut::frame(Direct);
        reset_in_record: "Reset in the middle of a TLS record, five times" => || cut::record(Direct);
        reset_in_handshake: "Reset during the TLS handshake, five times" => || cut::handshake(Direct);
        names: "Name unknown, then resolved, then with a different address" => || names::change(Direct);
        certificate_renewed: "Receiver's certificate expired, then renewed" => || tls::renewed(Direct);
        failover: "First of two servers fails permanently" => || restart::failover(Direct);
        failback: "First of two servers returns, and the second fails during the switch" => || restart::failback(Direct);
        fluent_bit_kill: "Fluent Bit killed (KILL) three times, filesystem storage" => fluent_bit::kill;
        fluent_bit_reload: "Fluent Bit reloads (HUP) three times under load" => fluent_bit::reload;
        fluent_bit_disk_full: "Fluent Bit's storage is temporarily full" => fluent_bit::disk_full;
        slow_neighbour: "One stalled output and three others" => neighbours::stalled;
        dead_neighbours: "50 outputs, 10 of them dead" => neighbours::dead;
        exit_while_stalled: "Exit while the receiver is stalled" => exit::stalled;
        exit_with_replay: "Exit after a crash of the receiver, which returns in time" => exit::replay;
        large_messages: "Messages of 16 KiB, 1 MiB and 8 MiB" => || shape::large(Direct);
        rejected_message: "Message at which the receiver ends the connection, among others" => || shape::rejected(Direct);
    }

    /// The scenarios with a queue on disk.
    mod with_a_queue as QUEUED {
        crash_tcp: "Receiver crashes four times with acknowledged bytes unread (reset), TCP" => || crash::tcp(Queued);
        #[ignore] crash_tls: "Receiver crashes four times with acknowledged bytes unread (reset), TLS" => || crash::tls(Queued);
        #[ignore] hang_up_tcp: "Receiver closes the connection four times with acknowledged bytes unread (FIN, then reset), TCP" => || crash::hang_up_tcp(Queued);
        #[ignore] lost_reset: "Receiver closes the connection long after the last acknowledgement, and its reset is lost, TCP" => || network::lost_reset(Queued);
        hang_up_tls: "Receiver closes the connection four times with acknowledged bytes unread (FIN, then reset), TLS" => || crash::hang_up_tls(Queued);
        #[ignore] throw_away_tls: "Receiver discards acknowledged bytes after its close_notify, four times" => || crash::throw_away_tls(Queued);
        #[ignore] large_window: "Receiver with a window of megabytes crashes" => || crash::large_window(Queued);
        restart_tcp: "Receiver restarts gracefully four times, TCP" => || restart::tcp(Queued);
        #[ignore] restart_tls: "Receiver restarts gracefully four times, TLS" => || restart::tls(Queued);
        rsyslog_tcp_term: "rsyslog restarts four times (TERM), TCP" => || daemons::rsyslog_tcp(Queued, "-TERM");
        #[ignore] rsyslog_tcp_kill: "rsyslog killed four times (KILL), TCP" => || daemons::rsyslog_tcp(Queued, "-KILL");
        #[ignore] rsyslog_ossl_term: "rsyslog restarts four times (TERM), TLS, ossl" => || daemons::rsyslog_tls(Queued, Driver::OpenSsl, "-TERM");
        #[ignore] rsyslog_ossl_kill: "rsyslog killed four times (KILL), TLS, ossl" => || daemons::rsyslog_tls(Queued, Driver::OpenSsl, "-KILL");
        #[ignore] rsyslog_gtls_term: "rsyslog restarts four times (TERM), TLS, gtls" => || daemons::rsyslog_tls(Queued, Driver::GnuTls, "-TERM");
        #[ignore] rsyslog_gtls_kill: "rsyslog killed four times (KILL), TLS, gtls" => || daemons::rsyslog_tls(Queued, Driver::GnuTls, "-KILL");
        #[ignore] rsyslog_relp_term: "rsyslog restarts four times (TERM), RELP" => || daemons::rsyslog_relp(Queued, "-TERM");
        rsyslog_relp_kill: "rsyslog killed four times (KILL), RELP" => || daemons::rsyslog_relp(Queued, "-KILL");
        #[ignore] rsyslog_relp_tls_kill: "rsyslog killed four times (KILL), RELP over TLS" => || daemons::rsyslog_relp_tls(Queued, "-KILL");
        #[ignore] syslog_ng_tcp_term: "syslog-ng restarts four times (TERM), TCP" => || daemons::syslog_ng_tcp(Queued, "-TERM");
        #[ignore] syslog_ng_tcp_kill: "syslog-ng killed four times (KILL), TCP" => || daemons::syslog_ng_tcp(Queued, "-KILL");
        #[ignore] syslog_ng_tls_term: "syslog-ng restarts four times (TERM), TLS" => || daemons::syslog_ng_tls(Queued, "-TERM");
        syslog_ng_tls_kill: "syslog-ng killed four times (KILL), TLS" => || daemons::syslog_ng_tls(Queued, "-KILL");
        #[ignore] stall: "Receiver reads nothing for 60 s" => || stall::minute(Queued);
        #[ignore] trickle: "Receiver reads one byte a second for 20 s" => || stall::trickle(Queued);
        #[ignore] half_open: "Network drops everything in both directions for 15 s" => || network::half_open(Queued);
        #[ignore] slow_network: "100 ms delay and 1 % loss" => || network::slow(Queued);
        #[ignore] reset_in_frame: "Reset in the middle of a frame, five times, TCP" => || cut::frame(Queued);
        reset_in_record: "Reset in the middle of a TLS record, five times" => || cut::record(Queued);
        #[ignore] reset_in_handshake: "Reset during the TLS handshake, five times" => || cut::handshake(Queued);
        #[ignore] names: "Name unknown, then resolved, then with a different address" => || names::change(Queued);
        #[ignore] certificate_renewed: "Receiver's certificate expired, then renewed" => || tls::renewed(Queued);
        failover: "First of two servers fails permanently" => || restart::failover(Queued);
        failback: "First of two servers returns, and the second fails during the switch" => || restart::failback(Queued);
        #[ignore] large_messages: "Messages of 16 KiB, 1 MiB and 8 MiB" => || shape::large(Queued);
        #[ignore] rejected_message: "Message at which the receiver ends the connection, among others" => || shape::rejected(Queued);
        kill: "Fluent Bit killed (KILL) three times" => queue::kill;
        reload: "Fluent Bit reloads (HUP) three times under load, with many outputs" => queue::reload;
        restart: "Fluent Bit restarts three times beside a dead output" => queue::restart_beside_a_dead_sink;
        far_receiver: "Many containers and a round trip of 100 ms" => queue::far_receiver;
        dead_neighbour: "Many containers, with a dead output beside a live one" => queue::dead_neighbour;
        disk_full: "The queue's disk is temporarily full" => queue::disk_full;
        kill_beside: "Fluent Bit killed (KILL) three times beside a dead output" => queue::kill_beside_a_dead_sink;
        reused_name: "Output deleted with a backlog, and its name reused by a new owner" => queue::reused_name;
        changed_address: "Address of an output changed, with a backlog" => queue::changed_address;
        read_only_start: "The queue's folder is read-only at the start" => queue::read_only_start;
        read_only: "The queue's disk has an error, and is read-only until the next start" => queue::read_only;
        removed: "The queue's folder is removed with waiting messages, until the next start" => queue::removed;
        slow_disk: "The queue's disk is slow, and does not respond for 10 s" => queue::slow_disk;
    }
    /// The scenarios of the input that reads pod logs, with queues on disk.
    mod of_pod_logs as POD_LOGS {
        restart: "Fluent Bit restarts, with up to 3 rotations meanwhile" => || pod_logs::restart(Size::SHORT, End::Orderly);
        kill: "Fluent Bit is killed (KILL), with up to 3 rotations meanwhile" => || pod_logs::restart(Size::SHORT, End::Kill);
        broken_neighbour: "One output's queue cannot be opened for some time, beside another output" => pod_logs::broken_neighbour;
        #[ignore] restart_100: "Fluent Bit restarts 100 times under load, with up to 3 rotations meanwhile" => || pod_logs::restart(Size::LONG, End::Orderly);
        #[ignore] kill_100: "Fluent Bit is killed (KILL) 100 times under load, with up to 3 rotations meanwhile" => || pod_logs::restart(Size::LONG, End::Kill);
    }
}
