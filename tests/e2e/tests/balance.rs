//! Load balancing between two servers.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::collections::{HashMap, HashSet};

use host::Host;
use receiver::{Listen, Options, Receiver};
use rig::event::{container_tag, event, map};
use rig::port::free_port;

const PODS: usize = 20;
const CHUNKS: usize = 10;

/// Returns chunks of all pods in turn.
fn chunks() -> Vec<(String, Vec<u8>)> {
    let chunk = |number: usize| {
        let tag = container_tag("shop", &format!("web-{}", number % PODS), "nginx");
        let log = (number / PODS).to_string().into();
        (tag, event(1_772_366_400, 0, map(vec![("log", log)])))
    };
    (0..PODS * CHUNKS).map(chunk).collect()
}

/// Returns the numbers that arrived for each pod, in order of arrival.
fn by_pod(receiver: &Receiver) -> HashMap<String, Vec<usize>> {
    receiver.wait_for_the_end();
    let mut pods: HashMap<String, Vec<usize>> = HashMap::new();
    for received in receiver.received() {
        let message = received.message.unwrap();
        let numbers = pods.entry(message.app_name.clone().unwrap()).or_default();
        numbers.push(message.text().parse().unwrap());
    }
    pods
}

fn run(addresses: &str) {
    let host = Host::new().retries(100).workers(1).output(
        "sink",
        &[
            ("servers", addresses),
            ("sharing", "balance"),
            ("transport", "tcp"),
            ("backoff_min", "50ms"),
            ("backoff_max", "100ms"),
        ],
    );
    let run = host.run(&chunks());
    assert_eq!(run.outputs[0].ok as usize, PODS * CHUNKS, "{}", run.log);
}

fn receiver() -> Receiver {
    Receiver::start(Options::new(Listen::Tcp)).unwrap()
}

#[test]
fn each_pod_uses_one_server_and_keeps_its_order() {
    let (first, second) = (receiver(), receiver());
    run(&format!("{}, {}", first.address(), second.address()));
    let (first, second) = (by_pod(&first), by_pod(&second));
    assert!(first.len() > 1 && second.len() > 1, "{first:?} {second:?}");
    let mut pods = HashSet::new();
    for (pod, numbers) in first.iter().chain(&second) {
        assert!(pods.insert(pod), "{pod} has two servers");
        assert_eq!(*numbers, (0..CHUNKS).collect::<Vec<_>>(), "{pod}");
    }
    assert_eq!(pods.len(), PODS);
}

#[test]
fn the_pods_of_a_dead_server_move_to_the_other_one() {
    let alive = receiver();
    run(&format!("127.0.0.1:{}, {}", free_port(), alive.address()));
    let pods = by_pod(&alive);
    assert_eq!(pods.len(), PODS);
    assert!(pods.values().all(|numbers| numbers.len() == CHUNKS));
}
