//! Dropped messages are reported to the sink and counted in the metrics of a real
//! Fluent Bit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::collections::HashMap;
use std::fs;
use std::io::Write;

use receiver::{Listen, Message, Options, Receiver};
use rig::fluent_bit::{self, FluentBit};
use rig::port::free_port;
use rig::wait::{self, BOUND};

/// Returns the metrics' values by name and labels, as they are written.
fn metrics(port: u16) -> HashMap<String, f64> {
    let text = fluent_bit::get(port, "/api/v2/metrics/prometheus").unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("syslog_sink_"))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[test]
fn losses_are_reported_to_the_sink_and_counted() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let configuration = dir.path().join("fluent-bit.conf");
    let log = dir.path().join("app.log");
    let long = "x".repeat(5000);
    fs::write(&log, format!("one\n{long}\ntwo\n{long}\n")).unwrap();
    let port = free_port();
    fs::write(
        &configuration,
        format!(
            "[SERVICE]\n    Flush 0.2\n    HTTP_Server On\n    HTTP_Listen 127.0.0.1\n    \
             HTTP_Port {port}\n\
             [INPUT]\n    Name tail\n    Path {}\n    Read_from_Head On\n\
             [OUTPUT]\n    Name syslog_sink\n    Alias shop\n    Match *\n    servers {}\n    \
             transport tcp\n    identity none\n    max_message_size 1024\n    oversize drop\n    Workers 1\n",
            log.display(),
            receiver.address()
        ),
    )
    .unwrap();
    let fluent_bit = FluentBit::start(&program, &[host::library()], &configuration, &[]);
    let received = receiver.wait_for(3, BOUND).unwrap();
    let messages: Vec<Message> = received.into_iter().map(|r| r.message.unwrap()).collect();
    let notice = messages
        .iter()
        .find(|message| message.msgid.as_deref() == Some("given_up"))
        .unwrap();
    assert_eq!((notice.facility, notice.severity), (5, 4));
    assert_eq!(notice.app_name.as_deref(), Some("syslog_sink"));
    assert_eq!(
        notice.text(),
        "2 messages longer than max_message_size dropped"
    );

    let name = |metric: &str| format!("syslog_sink_{metric}{{name=\"shop\"}}");
    let reason =
        |metric: &str, why: &str| format!("syslog_sink_{metric}{{name=\"shop\",reason=\"{why}\"}}");
    let complete = || {
        let metrics = metrics(port);
        (metrics.get(&reason("dropped_records_total", "oversize")) == Some(&2.0)).then_some(metrics)
    };
    let metrics = wait::until(BOUND, complete)
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", metrics(port), fluent_bit.log()));
    for (metric, expected) in [
        (name("sent_messages_total"), 3.0),
        (name("acknowledged_messages_total"), 3.0),
        (name("resent_messages_total"), 0.0),
        (name("connected"), 1.0),
        (name("connects_total"), 1.0),
        (name("acknowledgement_seconds_count"), 1.0),
        (reason("dropped_records_total", "damaged"), 0.0),
        (reason("altered_records_total", "truncated"), 0.0),
        (reason("errors_total", "tls"), 0.0),
    ] {
        assert_eq!(
            metrics.get(&metric),
            Some(&expected),
            "{metric}: {metrics:#?}"
        );
    }
    let bytes = metrics[&name("acknowledged_bytes_total")];
    assert!(bytes > 100.0);
    assert_eq!(
        metrics[&name("sent_bytes_total")].to_bits(),
        bytes.to_bits()
    );
    assert_eq!(
        metrics[&name("replay_buffer_bytes")].to_bits(),
        bytes.to_bits()
    );
    assert_documented(&metrics);
}

/// The metrics of all outputs are in the context of the first one.
#[test]
fn each_output_keeps_its_metrics_across_a_hot_reload() {
    const OUTPUTS: [&str; 3] = ["one", "two", "three"];
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let outputs = OUTPUTS.map(|name| {
        format!(
            "[OUTPUT]\n    Name syslog_sink\n    Alias {name}\n    Match {name}\n    servers {}\n    \
             transport tcp\n    identity none\n    queue_path {}\n    queue_name {name}\n",
            receiver.address(),
            dir.path().join("queues").display(),
        )
    });
    let inputs = OUTPUTS.map(|name| {
        format!(
            "[INPUT]\n    Name tail\n    Tag {name}\n    Path {}\n    Read_from_Head On\n    \
             DB {}\n",
            dir.path().join(name).display(),
            dir.path().join(format!("{name}.db")).display(),
        )
    });
    let configuration = dir.path().join("fluent-bit.conf");
    fs::write(
        &configuration,
        format!(
            "[SERVICE]\n    Flush 0.2\n    HTTP_Server On\n    HTTP_Listen 127.0.0.1\n    \
             HTTP_Port {port}\n    Hot_Reload On\n{}{}",
            inputs.concat(),
            outputs.concat()
        ),
    )
    .unwrap();
    for (count, name) in (1..).zip(OUTPUTS) {
        fs::write(dir.path().join(name), "a line\n".repeat(count)).unwrap();
    }
    let fluent_bit = FluentBit::start(&program, &[host::library()], &configuration, &[]);
    let acknowledged = |metrics: &HashMap<String, f64>| {
        let metric = |name| format!("syslog_sink_acknowledged_messages_total{{name=\"{name}\"}}");
        OUTPUTS.map(|name| metrics.get(&metric(name)).copied())
    };
    let wait_for = |expected: [f64; 3]| {
        let expected = expected.map(Some);
        wait::until(BOUND, || {
            (acknowledged(&metrics(port)) == expected).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", metrics(port), fluent_bit.log()));
    };
    wait_for([1.0, 2.0, 3.0]);
    fluent_bit.reload();
    fluent_bit
        .wait_for_log("successful reload done", 1, BOUND)
        .unwrap();
    wait_for([0.0; 3]);
    for name in OUTPUTS {
        let path = dir.path().join(name);
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"another line\n").unwrap();
    }
    wait_for([1.0; 3]);
    let log = fluent_bit.stop();
    assert_eq!(receiver.received().len(), 9, "{log}");
}

/// Asserts that docs/METRICS.md lists exactly the existing metrics.
fn assert_documented(metrics: &HashMap<String, f64>) {
    let mut there: Vec<&str> = metrics
        .keys()
        .map(|metric| metric.split('{').next().unwrap())
        .map(
            |metric| match metric.strip_prefix("syslog_sink_acknowledgement_seconds") {
                Some(_) => "syslog_sink_acknowledgement_seconds",
                None => metric,
            },
        )
        .collect();
    there.sort_unstable();
    there.dedup();
    let document = include_str!("../../../docs/METRICS.md");
    let mut documented: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .filter(|name| name.starts_with("syslog_sink_"))
        .collect();
    documented.sort_unstable();
    assert_eq!(there, documented);
}
