//! Everything that can go wrong between a chunk and its receiver, with real
//! sockets and the real library, counted: what was sent, what arrived, what was
//! lost, what came twice.
//!
//! Each scenario is a test (`cargo test --package faults`), and a row of the
//! table in docs/RELIABILITY.md (`make reliability`).
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]
#![allow(
    clippy::unnecessary_wraps,
    reason = "all scenarios have one type, and most can run everywhere"
)]

mod load;
mod mount;
pub mod namespace;
mod proxy;
mod scenarios;

pub use load::Counts;

/// What a scenario gives: the counts, or why it cannot run on this machine.
pub type Outcome = Result<Counts, Skipped>;

/// Why a scenario cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped(pub String);

/// A scenario. One that does not go as it must panics.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name of its test.
    pub name: &'static str,
    /// What happens in it.
    pub title: &'static str,
    /// Has it happen.
    pub run: fn() -> Outcome,
}

/// Names each scenario once: its test, its title, its function.
macro_rules! scenarios {
    ($($name:ident: $title:literal => $run:expr;)*) => {
        /// All scenarios.
        pub const SCENARIOS: &[Scenario] = &[
            $(Scenario { name: stringify!($name), title: $title, run: $run },)*
        ];

        #[cfg(test)]
        mod tests {
            use super::*;

            $(#[test]
            fn $name() {
                let run: fn() -> Outcome = $run;
                check(run());
            })*

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
        }
    };
}

use rig::rsyslog::Driver;
use scenarios::{
    crash, cut, daemons, exit, fluent_bit, names, neighbours, network, queue, restart, shape,
    stall, tls,
};

scenarios! {
    crash_tcp: "Receiver crashes four times with acknowledged bytes unread (reset), TCP" => crash::tcp;
    crash_tls: "Receiver crashes four times with acknowledged bytes unread (reset), TLS" => crash::tls;
    hang_up_tcp: "Receiver hangs up four times with acknowledged bytes unread (FIN, then reset), TCP" => crash::hang_up_tcp;
    lost_reset: "Receiver hangs up long after the last acknowledgement, and its reset is lost, TCP" => network::lost_reset;
    hang_up_tls: "Receiver hangs up four times with acknowledged bytes unread (FIN, then reset), TLS" => crash::hang_up_tls;
    throw_away_tls: "Receiver throws acknowledged bytes away behind its close_notify, four times" => crash::throw_away_tls;
    large_window: "Receiver with a window of megabytes crashes" => crash::large_window;
    restart_tcp: "Receiver restarts four times in an orderly way, TCP" => restart::tcp;
    restart_tls: "Receiver restarts four times in an orderly way, TLS" => restart::tls;
    rsyslog_tcp_term: "rsyslog restarts four times (TERM), TCP" => || daemons::rsyslog_tcp("-TERM");
    rsyslog_tcp_kill: "rsyslog killed four times (KILL), TCP" => || daemons::rsyslog_tcp("-KILL");
    rsyslog_ossl_term: "rsyslog restarts four times (TERM), TLS, ossl" => || daemons::rsyslog_tls(Driver::OpenSsl, "-TERM");
    rsyslog_ossl_kill: "rsyslog killed four times (KILL), TLS, ossl" => || daemons::rsyslog_tls(Driver::OpenSsl, "-KILL");
    rsyslog_gtls_term: "rsyslog restarts four times (TERM), TLS, gtls" => || daemons::rsyslog_tls(Driver::GnuTls, "-TERM");
    rsyslog_gtls_kill: "rsyslog killed four times (KILL), TLS, gtls" => || daemons::rsyslog_tls(Driver::GnuTls, "-KILL");
    rsyslog_relp_term: "rsyslog restarts four times (TERM), RELP" => || daemons::rsyslog_relp("-TERM");
    rsyslog_relp_kill: "rsyslog killed four times (KILL), RELP" => || daemons::rsyslog_relp("-KILL");
    rsyslog_relp_tls_kill: "rsyslog killed four times (KILL), RELP over TLS" => || daemons::rsyslog_relp_tls("-KILL");
    syslog_ng_tcp_term: "syslog-ng restarts four times (TERM), TCP" => || daemons::syslog_ng_tcp("-TERM");
    syslog_ng_tcp_kill: "syslog-ng killed four times (KILL), TCP" => || daemons::syslog_ng_tcp("-KILL");
    syslog_ng_tls_term: "syslog-ng restarts four times (TERM), TLS" => || daemons::syslog_ng_tls("-TERM");
    syslog_ng_tls_kill: "syslog-ng killed four times (KILL), TLS" => || daemons::syslog_ng_tls("-KILL");
    stall: "Receiver reads nothing for 60 s" => stall::minute;
    trickle: "Receiver reads one byte a second for 20 s" => stall::trickle;
    half_open: "Network drops everything, both ways, for 15 s" => network::half_open;
    slow_network: "100 ms delay and 1 % loss" => network::slow;
    reset_in_frame: "Reset in the middle of a frame, five times, TCP" => cut::frame;
    reset_in_record: "Reset in the middle of a TLS record, five times" => cut::record;
    reset_in_handshake: "Reset during the TLS handshake, five times" => cut::handshake;
    names: "Name not known, then known, then with another address" => names::change;
    certificate_renewed: "Receiver's certificate expired, then renewed" => tls::renewed;
    failover: "First of two servers dies for good" => restart::failover;
    failback: "First of two servers comes back, and the second dies as it is left" => restart::failback;
    fluent_bit_kill: "Fluent Bit killed (KILL) three times, filesystem storage" => fluent_bit::kill;
    fluent_bit_reload: "Fluent Bit reloads (HUP) three times under load" => fluent_bit::reload;
    fluent_bit_disk_full: "Fluent Bit's storage has no space left for a while" => fluent_bit::disk_full;
    queue_kill: "Fluent Bit killed (KILL) three times, with a queue" => queue::kill;
    queue_reload: "Fluent Bit reloads (HUP) three times under load, with many outputs with queues" => queue::reload;
    queue_restart: "Fluent Bit restarts three times beside a dead output, with queues" => queue::restart_beside_a_dead_sink;
    queue_far_receiver: "Many containers and a round trip of 100 ms, with a queue" => queue::far_receiver;
    queue_dead_neighbour: "Many containers with a dead output beside a live one, with queues" => queue::dead_neighbour;
    queue_disk_full: "The queue's disk has no space left for a while" => queue::disk_full;
    slow_neighbour: "One stalled output beside three" => neighbours::stalled;
    dead_neighbours: "50 outputs, 10 of them dead" => neighbours::dead;
    exit_while_stalled: "Exit while the receiver is stalled" => exit::stalled;
    exit_with_replay: "Exit after a crash, receiver back in time" => exit::replay;
    large_messages: "Messages of 16 KiB, 1 MiB and 8 MiB" => shape::large;
    rejected_message: "A message at which the receiver ends the connection, among others" => shape::rejected;
}
