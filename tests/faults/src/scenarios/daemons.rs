//! Real syslog daemons that are stopped by a signal and restarted four times under
//! load. They use the settings of their packages, but no in-memory queue, which they
//! would lose: each writes a message before it reads the next one.

use std::ops::DerefMut;

use rig::pki::Pki;
use rig::rsyslog::{self, Driver, Rsyslog};
use rig::syslog_ng::{self, SyslogNg};
use rig::syslogd::Syslogd;

use super::ca;
use crate::load::{Delivery, LOOPBACK_REPLAY, Load};
use crate::{Outcome, Skipped};

const ENDS: usize = 4;

type Options<'a> = &'a [(&'a str, &'a str)];

const TCP: Options<'_> = &[("transport", "tcp")];
const RELP: Options<'_> = &[("transport", "relp")];

pub(crate) fn rsyslog_tcp(delivery: Delivery, signal: &str) -> Outcome {
    rsyslog(delivery, rsyslog::Input::Tcp, TCP, signal)
}

pub(crate) fn rsyslog_tls(delivery: Delivery, driver: Driver, signal: &str) -> Outcome {
    let pki = Pki::new();
    let input = rsyslog::Input::Tls {
        driver,
        server: pki.server(),
        ca: pki.ca(),
        mutual: false,
    };
    rsyslog(delivery, input, &[("tls_ca_file", &ca(&pki))], signal)
}

pub(crate) fn rsyslog_relp(delivery: Delivery, signal: &str) -> Outcome {
    rsyslog(delivery, rsyslog::Input::Relp { tls: None }, RELP, signal)
}

pub(crate) fn rsyslog_relp_tls(delivery: Delivery, signal: &str) -> Outcome {
    let pki = Pki::new();
    let input = rsyslog::Input::Relp {
        tls: Some((pki.server(), pki.ca())),
    };
    let client = pki.client();
    let options = [
        ("transport", "relp+tls"),
        ("tls_ca_file", &ca(&pki)),
        ("tls_cert_file", client.cert.to_str().unwrap()),
        ("tls_key_file", client.key.to_str().unwrap()),
    ];
    rsyslog(delivery, input, &options, signal)
}

pub(crate) fn syslog_ng_tcp(delivery: Delivery, signal: &str) -> Outcome {
    syslog_ng(delivery, syslog_ng::Input::Syslog, TCP, signal)
}

pub(crate) fn syslog_ng_tls(delivery: Delivery, signal: &str) -> Outcome {
    let pki = Pki::new();
    let input = syslog_ng::Input::SyslogTls {
        server: pki.server(),
        client_ca: None,
    };
    syslog_ng(delivery, input, &[("tls_ca_file", &ca(&pki))], signal)
}

fn rsyslog(
    delivery: Delivery,
    input: rsyslog::Input,
    options: Options<'_>,
    signal: &str,
) -> Outcome {
    let daemon = Rsyslog::configure(input).direct_queue().start();
    restart(delivery, daemon, rsyslog::PACKAGES, options, signal)
}

fn syslog_ng(
    delivery: Delivery,
    input: syslog_ng::Input,
    options: Options<'_>,
    signal: &str,
) -> Outcome {
    let daemon = SyslogNg::configure(input).flow_control().start();
    restart(delivery, daemon, "syslog-ng-core", options, signal)
}

fn restart(
    delivery: Delivery,
    daemon: Option<impl DerefMut<Target = Syslogd>>,
    packages: &str,
    options: Options<'_>,
    signal: &str,
) -> Outcome {
    let Some(mut daemon) = daemon else {
        let reason = format!("the receiver is not installed (Debian: {packages})");
        return Err(Skipped(reason));
    };
    let load = Load {
        // Daemons are fast, so the load must be large enough to be interrupted.
        chunks: 100,
        lines: 1000,
        ..Load::USUAL
    };
    let address = daemon.address();
    let options = [&[("servers", address.as_str())], options].concat();
    load.deliver(delivery, &options, || {
        for _ in 0..ENDS {
            daemon.wait_for_more_than(daemon.count()).unwrap();
            daemon.restart(signal);
        }
        load.wait_for_all(delivery, || {
            let messages = daemon.messages().into_iter();
            messages.map(|message| message.msg).collect()
        });
    });
    Ok(load
        .arrived_at(&daemon)
        .with_replays_of(LOOPBACK_REPLAY, ENDS, &load))
}
