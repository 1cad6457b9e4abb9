//! rsyslog's imrelp, killed while it takes messages: what it had not answered
//! is sent again, also what its kernel had acknowledged.

use rig::pki::Pki;
use rig::rsyslog::{Input, Rsyslog};

use super::ca;
use crate::load::Load;
use crate::{Outcome, Skipped};

const KILLS: usize = 4;

pub(crate) fn kill() -> Outcome {
    kill_rsyslog(&Input::Relp { tls: None }, &[("transport", "relp")])
}

pub(crate) fn kill_tls() -> Outcome {
    let pki = Pki::new();
    let input = Input::Relp {
        tls: Some((pki.server(), pki.ca())),
    };
    let client = pki.client();
    kill_rsyslog(
        &input,
        &[
            ("transport", "relp+tls"),
            ("tls_ca_file", &ca(&pki)),
            ("tls_cert_file", client.cert.to_str().unwrap()),
            ("tls_key_file", client.key.to_str().unwrap()),
        ],
    )
}

fn kill_rsyslog(input: &Input, options: &[(&str, &str)]) -> Outcome {
    let load = Load::USUAL;
    // rsyslog confirms what is in its queue, and a queue in memory dies with it.
    let Some(mut rsyslog) = Rsyslog::configure(input.clone()).direct_queue().start() else {
        return Err(Skipped("rsyslog with imrelp is not installed".to_owned()));
    };
    let address = rsyslog.address();
    let options = [&[("addr", address.as_str())], options].concat();
    load.deliver(&options, || {
        for _ in 0..KILLS {
            rsyslog.wait_for_more_than(rsyslog.count()).unwrap();
            rsyslog.restart("-KILL");
        }
    });
    // A message may have been written and not answered.
    Ok(load
        .arrived_at(&rsyslog)
        .with_duplicates(KILLS * load.lines))
}
