//! Tests of the delivery of Kubernetes events from a real API server to sinks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{EventCounts, LogSink};
use cluster::ControlPlane;
use controller::names::EVENTS;
use controller::settings::{EventSettings, Settings};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use k8s_openapi::api::events::v1::Event as NewEvent;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use receiver::{Listen, Message, Options, Receiver, TlsFiles};
use rig::pki::Pki;
use rig::port::free_port;
use rig::process::run;
use rig::rsyslog::{Driver, Input, Parsed, Rsyslog};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::world::{
    BOUND, SYSTEM, condition, controller, controller_with, controllers, in_time, put, put_cluster,
    put_secret, settings, sinks, start, until, until_condition, wait_until,
};

const SD: &str = "kubernetes@47450";

fn tcp(receiver: &Receiver) -> Value {
    json!({"host": "127.0.0.1", "port": receiver.port(), "transport": "tcp"})
}

fn receiver() -> Receiver {
    Receiver::start(Options::new(Listen::Tcp)).unwrap()
}

/// Creates an Event with the API core/v1.
async fn create_event(client: &Client, namespace: &str, name: &str, fields: Value) {
    let mut event = json!({
        "metadata": {"name": name},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": namespace},
        "type": "Normal",
        "reason": "Tested",
        "message": name,
    });
    let Value::Object(fields) = fields else {
        panic!("{fields} is no map");
    };
    event.as_object_mut().unwrap().extend(fields);
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let event = serde_json::from_value(event).unwrap();
    api.create(&PostParams::default(), &event).await.unwrap();
}

async fn patch_event(client: &Client, namespace: &str, name: &str, fields: Value) {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(fields);
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Waits until this many messages have arrived, and returns their texts.
fn texts(receiver: &Receiver, count: usize) -> Vec<String> {
    let messages = messages(receiver, count);
    messages.iter().map(|m| m.text().to_owned()).collect()
}

fn messages(receiver: &Receiver, count: usize) -> Vec<Message> {
    let received = receiver.wait_for(count as u64, BOUND).unwrap();
    received.into_iter().map(|r| r.message.unwrap()).collect()
}

async fn until_connected(client: &Client, namespace: &str, name: &str) {
    until(&sinks(client, namespace), name, |sink| {
        events_of(sink).map(drop)
    })
    .await;
}

fn events_of(sink: &LogSink) -> Option<EventCounts> {
    sink.status.as_ref()?.counts.as_ref()?.events
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_to_the_sinks_of_their_namespace_and_to_cluster_sinks() {
    let Some((plane, client)) = start(&["shop", "other"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    create_event(&client, "shop", "before", json!({})).await;
    // Events of the same second could count as newer than the sink.
    tokio::time::sleep(Duration::from_millis(1100)).await;

    let pki = Pki::new();
    let pair = pki.server();
    let shop = Receiver::start(Options::new(Listen::Tls(TlsFiles {
        cert: pair.cert,
        key: pair.key,
        client_ca: Some(pki.ca()),
    })))
    .unwrap();
    let (all, warnings, without_events) = (receiver(), receiver(), receiver());
    put_certificates(&client, &pki).await;
    let tls = json!({"ca": {"secret": {"name": "ca"}}, "clientCertificateSecret": "identity"});
    let over_tls = json!({"host": "localhost", "port": shop.port(), "tls": tls});
    put(&client, "shop", "tls", over_tls).await.unwrap();
    let mut selected = tcp(&warnings);
    selected["eventSelection"] =
        json!({"minimumLevel": "Warning", "exclude": {"reasons": ["Un*"]}});
    selected["format"] = json!({"events": "json", "facility": "local3"});
    put(&client, "shop", "selected", selected).await.unwrap();
    let mut without = tcp(&without_events);
    without["events"] = json!(false);
    put(&client, "shop", "without", without).await.unwrap();
    put_cluster(&client, "all", tcp(&all)).await;
    // Immediately: Events are not lost if the controller has not yet seen the sink.
    create_event(&client, "shop", "early", json!({"reason": "Early"})).await;
    until_connected(&client, "shop", "tls").await;

    create_event(&client, "other", "elsewhere", json!({})).await;
    create_event(
        &client,
        "shop",
        "counted",
        json!({
            "type": "Warning",
            "reason": "BackOff",
            "message": "Back-off pulling image \"shop/web:1\"",
            "count": 1,
            "firstTimestamp": "2026-03-01T12:00:00Z",
            "lastTimestamp": "2026-03-01T12:00:00Z",
            "source": {"component": "kubelet", "host": "node-7"},
        }),
    )
    .await;
    texts(&shop, 2);
    let again = json!({"count": 4, "lastTimestamp": "2026-03-01T12:01:00Z"});
    patch_event(&client, "shop", "counted", again).await;
    texts(&shop, 3);
    // A change of its labels is not a new occurrence.
    let touched = json!({"metadata": {"labels": {"a": "b"}}});
    patch_event(&client, "shop", "counted", touched).await;
    create_series(&client).await;
    let unselected = json!({"type": "Warning", "reason": "Unhealthy"});
    create_event(&client, "shop", "unselected", unselected).await;

    assert_order_and_fields(&messages(&shop, 6));
    // Both occurrences of the series, and both of the counted Event.
    let whole = messages(&warnings, 4);
    assert!(whole.iter().all(|message| message.facility == 19));
    let first: Event = serde_json::from_str(whole[0].text()).unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("counted"));
    let of_all = texts(&all, 7);
    assert!(of_all.contains(&"elsewhere".to_owned()), "{of_all:?}");
    assert!(without_events.received().is_empty());
    let sinks = sinks(&client, "shop");
    until(&sinks, "tls", |sink| {
        (events_of(sink)?.acknowledged == 6).then_some(())
    })
    .await;
    assert_eq!((shop.count(), warnings.count()), (6, 4));
    task.abort();
}

/// Stores certificates as Secrets. The controller keeps them in memory only.
async fn put_certificates(client: &Client, pki: &Pki) {
    let identity = pki.client();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    put_secret(
        client,
        "shop",
        "ca",
        "Opaque",
        json!({"ca.crt": read(&pki.ca())}),
    )
    .await;
    let pair = json!({"tls.crt": read(&identity.cert), "tls.key": read(&identity.key)});
    put_secret(client, "shop", "identity", "kubernetes.io/tls", pair).await;
}

fn assert_order_and_fields(received: &[Message]) {
    let param = |n: usize, name: &str| received[n].param(SD, name).unwrap_or_default().to_owned();
    assert_eq!(received[0].text(), "early");
    let counted = &received[1];
    assert_eq!(counted.text(), "Back-off pulling image \"shop/web:1\"");
    assert_eq!((counted.facility, counted.severity), (1, 4));
    assert_eq!(counted.app_name.as_deref(), Some("k8s.event/shop/web"));
    assert_eq!(counted.hostname.as_deref(), Some("node-7"));
    let time = counted.timestamp.as_ref().unwrap();
    assert_eq!(time.text, "2026-03-01T12:00:00.000000Z");
    assert_eq!(
        (param(1, "reason"), param(1, "count")),
        ("BackOff".into(), "1".into())
    );
    assert_eq!(
        (param(2, "count"), param(2, "first_time")),
        ("4".into(), "2026-03-01T12:00:00Z".into())
    );
    assert_eq!(param(2, "last_time"), "2026-03-01T12:01:00Z");
    let assigned = "0/3 nodes are available: Insufficient cpu";
    assert_eq!(
        (received[3].text(), received[4].text()),
        (assigned, assigned)
    );
    assert_eq!(
        (param(3, "count"), param(4, "count")),
        ("1".into(), "2".into())
    );
    assert_eq!(param(4, "component"), "default-scheduler");
    assert_eq!(received[5].text(), "unselected");
}

/// Creates and repeats an Event with the API events.k8s.io/v1.
async fn create_series(client: &Client) {
    let api: Api<NewEvent> = Api::namespaced(client.clone(), "shop");
    let event = json!({
        "metadata": {"name": "series"},
        "eventTime": "2026-03-01T12:00:00.123456Z",
        "regarding": {"kind": "Pod", "name": "big", "namespace": "shop"},
        "type": "Warning",
        "reason": "FailedScheduling",
        "action": "Scheduling",
        "note": "0/3 nodes are available: Insufficient cpu",
        "reportingController": "default-scheduler",
        "reportingInstance": "default-scheduler-1",
    });
    let event = serde_json::from_value(event).unwrap();
    api.create(&PostParams::default(), &event).await.unwrap();
    let series = json!({"count": 2, "lastObservedTime": "2026-03-01T12:05:00.500000Z"});
    let patch = Patch::Merge(json!({"series": series}));
    api.patch("series", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Creates Events one after another.
async fn create_events(client: Client, count: usize, pause: Duration) {
    for number in 0..count {
        create_event(&client, "shop", &format!("event-{number}"), json!({})).await;
        tokio::time::sleep(pause).await;
    }
}

/// Returns the number of messages for each Event.
fn counts(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for received in receiver.received() {
        let text = received.message.unwrap().text().to_owned();
        if text.starts_with("event-") {
            *counts.entry(text).or_default() += 1;
        }
    }
    counts
}

async fn wait_for_all(receiver: &Receiver, count: usize) {
    let is_complete = in_time(async || counts(receiver).len() >= count).await;
    assert!(
        is_complete,
        "{} of {count} Events arrived",
        counts(receiver).len()
    );
}

/// Starts the controller in its own process, and returns the process ID.
async fn start_program(plane: &mut ControlPlane) -> u32 {
    let program = Path::new(env!("CARGO_BIN_EXE_sink-controller"));
    let settings = json!({
        "namespace": SYSTEM,
        "listen": format!("127.0.0.1:{}", free_port()),
        "timing": {"debounceSeconds": 0.2, "scrapeIntervalSeconds": 0.5},
    });
    plane.start_controller(program, &settings).await
}

/// Stops one of two controllers, each in its own process, while Events are created.
/// Returns the number of duplicates.
async fn duplicates_after_signal(signal: &str) -> Option<usize> {
    const COUNT: usize = 1500;
    let (mut plane, client) = start(&["shop"]).await?;
    let receiver = receiver();
    let process = start_program(&mut plane).await;
    put(&client, "shop", "sink", tcp(&receiver)).await.unwrap();
    until_connected(&client, "shop", "sink").await;
    let second = controller(&controllers(&plane).await, "second");

    let flowing = tokio::spawn(create_events(
        client.clone(),
        COUNT,
        Duration::from_millis(5),
    ));
    wait_for_all(&receiver, COUNT / 3).await;
    run(Command::new("kill").args([signal, &process.to_string()]));
    flowing.await.unwrap();
    wait_for_all(&receiver, COUNT).await;
    second.abort();
    Some(counts(&receiver).values().sum::<usize>() - COUNT)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_events() {
    let Some(duplicates) = duplicates_after_signal("-KILL").await else {
        return;
    };
    println!("{duplicates} of 1500 events were duplicated by a kill");
    // The Events since the last checkpoint, and the batch being sent.
    assert!(duplicates < 500, "{duplicates}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_neither_loses_nor_duplicates_events() {
    if let Some(duplicates) = duplicates_after_signal("-TERM").await {
        assert_eq!(duplicates, 0);
    }
}

/// The queue of a sink that is down is bounded and does not delay other sinks. Dropped
/// Events are reported to the sink and in its status.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_events_are_reported_to_the_sink() {
    let Some((plane, client)) = start(&["shop"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let bounded = Settings {
        events: EventSettings {
            max_bytes_per_sink: 100_000,
            max_bytes: 1_000_000,
        },
        ..settings()
    };
    let task = controller_with(&own, "only", bounded);
    let healthy_receiver = receiver();
    let port = free_port();
    put(&client, "shop", "healthy", tcp(&healthy_receiver))
        .await
        .unwrap();
    let down = json!({"host": "127.0.0.1", "port": port, "transport": "tcp"});
    put(&client, "shop", "down", down).await.unwrap();
    until_connected(&client, "shop", "healthy").await;
    let sinks = sinks(&client, "shop");
    let why = until_condition(&sinks, "down", "Delivering", "False").await;
    assert!(
        why.contains("the controller, which sends events, is not"),
        "{why}"
    );
    let error = sinks.get("down").await.unwrap().status.unwrap().last_error;
    assert_eq!(error.unwrap().node, "controller");

    create_events(client.clone(), 300, Duration::ZERO).await;
    wait_for_all(&healthy_receiver, 300).await;
    let dropped = until(&sinks, "down", |sink| {
        let EventCounts {
            dropped, waiting, ..
        } = events_of(sink)?;
        // There are also Events about the sink itself.
        (dropped + waiting >= 300).then_some(dropped)
    })
    .await;
    assert!(dropped > 100, "{dropped}");

    let restored = Receiver::start(Options {
        port,
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let last = "event-299".to_owned();
    wait_until("the last Event arrived", async || {
        counts(&restored).contains_key(&last)
    })
    .await;
    assert_eq!(reported_as_dropped(&restored), dropped);
    // The newest Events have arrived, each once.
    let received = counts(&restored);
    assert!(received.values().all(|count| *count == 1), "{received:?}");
    until(&sinks, "down", |sink| {
        let EventCounts {
            acknowledged,
            waiting,
            ..
        } = events_of(sink)?;
        (waiting == 0 && acknowledged >= received.len() as u64).then_some(())
    })
    .await;
    task.abort();
}

/// Returns the number of dropped Events that the controller has reported.
fn reported_as_dropped(receiver: &Receiver) -> u64 {
    let messages = receiver.received().into_iter().map(|r| r.message.unwrap());
    let notices = messages.filter(|m| m.app_name.as_deref() == Some("sink-controller"));
    let count = |notice: Message| {
        assert_eq!(notice.msgid.as_deref(), Some("given_up"));
        let (count, words) = notice.text().split_once(' ').unwrap();
        assert_eq!(words, "events dropped: too many waited");
        count.parse::<u64>().unwrap()
    };
    notices.map(count).sum()
}

/// A watch whose resource version has expired starts again, without duplicates.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_watch_causes_no_duplicates() {
    let Some((plane, client)) = start(&["shop"]).await else {
        return;
    };
    let config = plane.config(&plane.controllers_token().await).await;
    let gate = Gate::new(&config).await;
    let task = controller(&gate.client(config), "only");
    let receiver = receiver();
    put(&client, "shop", "sink", tcp(&receiver)).await.unwrap();
    until_connected(&client, "shop", "sink").await;
    create_events(client.clone(), 50, Duration::ZERO).await;
    wait_for_all(&receiver, 50).await;

    gate.cut();
    for number in 50..100 {
        create_event(&client, "shop", &format!("event-{number}"), json!({})).await;
    }
    plane.forget_old_versions();
    gate.open();
    wait_for_all(&receiver, 100).await;
    assert!(counts(&receiver).values().all(|count| *count == 1));
    task.abort();
}

/// To a real rsyslog, over every transport that it supports.
#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_over_every_transport() {
    const COUNT: usize = 300;
    if rig::program("rsyslogd").is_none() {
        return rig::skip("rsyslogd is not installed (Debian: rsyslog)");
    }
    let Some((plane, client)) = start(&["shop"]).await else {
        return;
    };
    let pki = Pki::new();
    let tls = Input::Tls {
        driver: Driver::OpenSsl,
        server: pki.server(),
        ca: pki.ca(),
        mutual: false,
    };
    let relp_tls = Input::Relp {
        tls: Some((pki.server(), pki.ca())),
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    let mut receivers = Vec::new();
    for (transport, input) in [
        ("tcp", Input::Tcp),
        ("udp", Input::Udp),
        ("relp", Input::Relp { tls: None }),
        ("tls", tls),
        ("relp+tls", relp_tls),
    ] {
        let Some(rsyslog) = Rsyslog::start(&input) else {
            continue;
        };
        let port = rsyslog.port();
        let mut spec = json!({"host": "127.0.0.1", "port": port, "transport": transport});
        if transport.ends_with("tls") {
            let pair = pki.client();
            let read = |path: &Path| fs::read_to_string(path).unwrap();
            let data = json!({"tls.crt": read(&pair.cert), "tls.key": read(&pair.key)});
            put_secret(&client, "shop", "identity", "kubernetes.io/tls", data).await;
            let ca = json!({"pem": read(&pki.ca())});
            spec["tls"] = json!({"ca": ca, "clientCertificateSecret": "identity"});
            spec["tls"]["serverName"] = json!("localhost");
        }
        let name = transport.replace('+', "-");
        put(&client, "shop", &name, spec).await.unwrap();
        receivers.push((name, rsyslog));
    }
    for (name, _) in &receivers {
        until_connected(&client, "shop", name).await;
    }
    create_events(client.clone(), COUNT, Duration::ZERO).await;
    for (name, rsyslog) in &receivers {
        let is_ours = |m: &Parsed| m.msg.trim().starts_with("event-");
        let is_complete =
            in_time(async || rsyslog.messages().iter().filter(|m| is_ours(m)).count() >= COUNT);
        assert!(is_complete.await, "{name}: {}", rsyslog.count());
        let texts: BTreeMap<String, usize> = rsyslog.messages().into_iter().filter(is_ours).fold(
            BTreeMap::new(),
            |mut texts, message| {
                *texts.entry(message.msg).or_default() += 1;
                texts
            },
        );
        assert_eq!(texts.len(), COUNT, "{name}");
        assert!(texts.values().all(|count| *count == 1), "{name}");
    }
    task.abort();
}

/// Events that occur while a sink is refused are sent when it is accepted again,
/// without duplicates.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_refused_for_a_while_misses_no_events() {
    let Some((plane, client)) = start(&["shop"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    let receiver = receiver();
    put(&client, "shop", "sink", tcp(&receiver)).await.unwrap();
    until_connected(&client, "shop", "sink").await;
    create_events(client.clone(), 20, Duration::ZERO).await;
    wait_for_all(&receiver, 20).await;

    let wrong = json!({"host": "a", "tls": {"clientCertificateSecret": "none"}});
    put(&client, "shop", "sink", wrong).await.unwrap();
    let sinks = sinks(&client, "shop");
    until_condition(&sinks, "sink", "Accepted", "False").await;
    for number in 20..40 {
        create_event(&client, "shop", &format!("event-{number}"), json!({})).await;
    }
    put(&client, "shop", "sink", tcp(&receiver)).await.unwrap();
    wait_for_all(&receiver, 40).await;
    assert!(counts(&receiver).values().all(|count| *count == 1));
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_events_do_not_affect_others() {
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "first");
    let (shop, team) = (receiver(), receiver());
    put(&client, "shop", "sink", tcp(&shop)).await.unwrap();
    put(&client, "team-a", "sink", tcp(&team)).await.unwrap();
    until_connected(&client, "team-a", "sink").await;
    let long = "0123456789abcdef".repeat(65_536 - 64);
    let far = "9999-12-31T23:59:59Z";
    let request = |event: Value| {
        http::Request::post("/api/v1/namespaces/shop/events")
            .header("content-type", "application/json")
            .body(event.to_string().into_bytes())
            .unwrap()
    };
    let object = json!({"kind": "P\"]d", "name": "../\n<0>", "namespace": "shop"});
    for (name, fields) in [
        ("far", json!({"lastTimestamp": far, "firstTimestamp": far})),
        (
            "text",
            json!({"message": "a\n<0>1 evil\u{0}\u{1b}[2J", "reason": "\"] [x@1 y=\"z"}),
        ),
        ("long", json!({"message": long})),
        (
            "none",
            json!({"involvedObject": {"namespace": "shop"}, "type": "?"}),
        ),
    ] {
        let mut event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": "shop"},
            "involvedObject": object,
            "message": name,
        });
        let Value::Object(fields) = fields else {
            unreachable!("each is a map")
        };
        event.as_object_mut().unwrap().extend(fields);
        client.request_text(request(event)).await.unwrap();
    }
    create_event(&client, "team-a", "event-1", json!({})).await;
    wait_for_all(&team, 1).await;
    create_event(&client, "shop", "event-2", json!({})).await;
    wait_for_all(&shop, 1).await;
    let received: Vec<Message> = shop
        .received()
        .into_iter()
        .map(|received| received.message.unwrap())
        .collect();
    let whole: String = received
        .iter()
        .map(Message::text)
        .filter(|text| text.len() > 100)
        .collect();
    assert_eq!(whole, long);
    for (text, app_name) in [
        ("far", "k8s.event/shop"),
        ("a\n<0>1 evil\u{0}\u{1b}[2J", "k8s.event/shop"),
        ("none", "k8s.event/shop"),
        ("event-2", "k8s.event/shop/web"),
    ] {
        let message = received
            .iter()
            .find(|message| message.text() == text)
            .unwrap();
        assert_eq!(message.app_name.as_deref(), Some(app_name), "{text}");
    }
    assert!(team.received().len() == 1);
    // Listing these Events does no harm either.
    task.abort();
    let second = controller(&own, "second");
    create_event(&client, "team-a", "event-3", json!({})).await;
    wait_for_all(&team, 2).await;
    second.abort();
}

/// With a missing or invalid checkpoint, all Events since the sink's creation are sent,
/// rather than none.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_checkpoint_causes_duplicates_but_no_loss() {
    let Some((plane, client)) = start(&["shop"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let receiver = receiver();
    // No controller is running when these Events occur.
    put(&client, "shop", "sink", tcp(&receiver)).await.unwrap();
    create_events(client.clone(), 20, Duration::ZERO).await;
    let first = controller(&own, "first");
    wait_for_all(&receiver, 20).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    until(&maps, EVENTS, |map| {
        let text = map.data.as_ref()?.get("checkpoint.json")?.clone();
        text.contains("sinksUntil\":\"20").then_some(())
    })
    .await;
    first.abort();
    let broken = json!({"data": {"checkpoint.json": "{"}});
    maps.patch(EVENTS, &PatchParams::default(), &Patch::Merge(broken))
        .await
        .unwrap();
    let second = controller(&own, "second");
    create_event(&client, "shop", "event-20", json!({})).await;
    wait_for_all(&receiver, 21).await;
    assert!(counts(&receiver).values().sum::<usize>() <= 41);
    maps.delete(EVENTS, &DeleteParams::default()).await.unwrap();
    create_event(&client, "shop", "event-21", json!({})).await;
    wait_for_all(&receiver, 22).await;
    second.abort();
}

/// 50,000 Events at once, to a sink of their namespace, a cluster sink and a sink that
/// is down, beside an idle namespace.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_events_arrives_completely() {
    const COUNT: usize = 50_000;
    const AT_ONCE: usize = 64;
    let Some((mut plane, client)) = start(&["shop", "quiet"]).await else {
        return;
    };
    let counted = Options {
        keep: false,
        ..Options::new(Listen::Tcp)
    };
    let shop = Receiver::start(counted.clone()).unwrap();
    let all = Receiver::start(counted).unwrap();
    let quiet = receiver();
    let process = start_program(&mut plane).await;
    put(&client, "shop", "sink", tcp(&shop)).await.unwrap();
    let down = json!({"host": "127.0.0.1", "port": free_port(), "transport": "tcp"});
    put(&client, "shop", "down", down).await.unwrap();
    put(&client, "quiet", "sink", tcp(&quiet)).await.unwrap();
    put_cluster(&client, "all", tcp(&all)).await;
    for (namespace, name) in [("shop", "sink"), ("shop", "down"), ("quiet", "sink")] {
        until_connected(&client, namespace, name).await;
    }
    let begun = Instant::now();
    let client = Arc::new(client);
    let storm = futures::stream::iter(0..COUNT).for_each_concurrent(AT_ONCE, |number| {
        let client = Arc::clone(&client);
        async move {
            let name = format!("event-{number}");
            create_event(&client, "shop", &name, json!({})).await;
            if number == COUNT / 2 {
                create_event(&client, "quiet", "event-quiet", json!({})).await;
            }
        }
    });
    storm.await;
    let written = begun.elapsed();
    // There are also Events about the sink that is down.
    shop.wait_for(COUNT as u64, BOUND).unwrap();
    all.wait_for(COUNT as u64 + 1, BOUND).unwrap();
    wait_for_all(&quiet, 1).await;
    let memory = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!(
        "{COUNT} events were written in {written:?} and arrived after {:?}; {} at most",
        begun.elapsed(),
        peak.unwrap().trim()
    );
    let sinks = sinks(&client, "shop");
    let (waiting, dropped) = until(&sinks, "down", |sink| {
        let events = events_of(sink)?;
        let is_complete = events.waiting + events.dropped >= COUNT as u64;
        is_complete.then_some((events.waiting, events.dropped))
    })
    .await;
    assert!(waiting > 1000 && dropped > 0, "{waiting} {dropped}");
    let healthy = sinks.get("sink").await.unwrap();
    let events = events_of(&healthy).unwrap();
    assert_eq!(events.dropped, 0);
    assert!(condition(healthy.status.as_ref(), "Accepted").is_some());
}
