//! Names that cannot be looked up, and addresses that change.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use host::Host;
use receiver::{Listen, Options, Receiver};
use rig::wait::BOUND;

use crate::load::{Load, texts};
use crate::{Outcome, Skipped};

const NAME: &str = "receiver.test";

/// The host has a table of names of its own, which changes under its feet.
pub(crate) fn change() -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    let no_servers = folder.path().join("resolv.conf");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    fs::write(
        &no_servers,
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )
    .unwrap();
    let script = format!(
        "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
        hosts.display(),
        no_servers.display()
    );
    let wrapper = ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned);
    let works = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if !works.is_ok_and(|status| status.success()) {
        return Err(Skipped("mount namespaces cannot be made here".to_owned()));
    }

    let load = Load::USUAL;
    let start = |address: Ipv4Addr, port| {
        Receiver::start(Options {
            address,
            port,
            receive_buffer: Some(64 * 1024),
            ..Options::new(Listen::Tcp)
        })
        .unwrap()
    };
    let (old, new) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let first = start(old, 0);
    let second = start(new, first.port());
    let address = format!("{NAME}:{}", first.port());
    let options = [("addr", address.as_str()), ("transport", "tcp")];
    let host = Host::new().by(&wrapper);
    let mut arrived = Vec::new();
    let log = load.deliver_by(host, &options, || {
        // Long enough for attempts to fail, however slow this machine is: the
        // log has to say so below.
        std::thread::sleep(std::time::Duration::from_secs(2));
        fs::write(&hosts, format!("{old} {NAME}\n")).unwrap();
        first.wait_for(1, BOUND).unwrap();
        fs::write(&hosts, format!("{new} {NAME}\n")).unwrap();
        first.pause();
        first.reset();
        arrived = texts(&first.received());
        drop(first);
    });
    assert!(
        log.contains("cannot look up the host name \"receiver.test\""),
        "{log}"
    );
    second.wait_for_the_end();
    arrived.extend(texts(&second.received()));
    Ok(load.compare(arrived).with_replays(1, &load))
}
