use std::cell::RefCell;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;

use mio::{Events, Poll, Token};
use rig::port::free_port;
use syslog::{Policy, ReplayBuffer};

use super::*;
use crate::{Endpoint, Transport};

const BOUND: Duration = Duration::from_secs(30);
const POLICY: Policy = Policy {
    connect_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    close_timeout: Duration::from_secs(2),
    backoff_min: Duration::from_millis(500),
    backoff_max: Duration::from_secs(30),
    replay_buffer: ReplayBuffer::Fixed(0),
    replay_age: Duration::from_secs(300),
};

struct EventSender(mpsc::Sender<String>);

impl Observer for EventSender {
    fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        let _ = self.0.send(format!("{event:?}"));
    }
}

/// A driver with a separate poll, whose look-ups the test answers.
struct Fixture {
    driver: Driver,
    poll: Poll,
    events: mpsc::Receiver<String>,
}

impl Fixture {
    fn new() -> Self {
        let (event_sender, events) = mpsc::channel();
        let target = Target {
            servers: vec![Endpoint::new("logs.example", 514).unwrap()],
            failback: Duration::from_secs(300),
            transport: Transport::Tcp,
            policy: POLICY,
            keepalive: Duration::from_secs(60),
            user_timeout: Duration::from_secs(30),
        };
        Self {
            driver: Driver::new(target, Box::new(EventSender(event_sender)), Arc::default()),
            poll: Poll::new().unwrap(),
            events,
        }
    }

    fn with_turn<T>(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Driver, &Context<'_>) -> T,
    ) -> T {
        let cx = Context {
            now,
            registry: self.poll.registry(),
            token: Token(0),
            scratch: &RefCell::default(),
        };
        act(&mut self.driver, &cx)
    }

    fn drive(&mut self, now: Instant) -> Request {
        self.with_turn(now, Driver::drive)
    }

    fn found(&mut self, now: Instant, addresses: Vec<SocketAddr>) {
        self.with_turn(now, |driver, cx| {
            driver.on_addresses(0, Ok(addresses), cx);
        });
    }

    /// Polls real sockets until an event contains `text`. The driver's time stays at
    /// `now`.
    fn wait_for(&mut self, now: Instant, text: &str) -> Vec<String> {
        let until = Instant::now() + BOUND;
        let mut seen = Vec::new();
        let mut ready = Events::with_capacity(8);
        loop {
            seen.extend(self.events.try_iter());
            if seen.iter().any(|event| event.contains(text)) {
                return seen;
            }
            assert!(Instant::now() < until, "no event {text:?} in {seen:?}");
            self.poll
                .poll(&mut ready, Some(Duration::from_millis(100)))
                .unwrap();
            self.drive(now);
        }
    }
}

/// Returns an address on which nothing listens.
fn refusing_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

#[test]
fn all_addresses_are_tried_in_order() {
    let now = Instant::now();
    let mut fixture = Fixture::new();
    let (first, second) = (refusing_address(), refusing_address());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let third = listener.local_addr().unwrap();

    assert_eq!(fixture.drive(now), Request::LookUp(0));
    fixture.found(now, vec![first, second, third]);
    let seen = fixture.wait_for(now, "Connected");
    assert_eq!(seen.len(), 3, "{seen:?}");
    for (event, address) in seen.iter().zip([first, second, third]) {
        assert!(event.contains(&address.to_string()), "{seen:?}");
    }
    assert!(!fixture.driver.session.is_down());
}

#[test]
fn the_name_is_looked_up_again_after_all_addresses_failed() {
    let now = Instant::now();
    let mut fixture = Fixture::new();
    let address = refusing_address();
    assert_eq!(fixture.drive(now), Request::LookUp(0));
    fixture.found(now, vec![address]);
    fixture.wait_for(now, "ConnectFailed");
    assert!(fixture.driver.session.is_down());

    let next = fixture.driver.next_deadline(now).unwrap();
    assert!(next >= now + POLICY.backoff_min);
    assert_eq!(fixture.drive(next), Request::LookUp(0));
}

#[test]
fn a_look_up_that_times_out_is_not_started_twice() {
    let now = Instant::now();
    let mut fixture = Fixture::new();
    assert_eq!(fixture.drive(now), Request::LookUp(0));
    let late = fixture.driver.next_deadline(now).unwrap();
    assert_eq!(late, now + POLICY.connect_timeout);
    assert_eq!(fixture.drive(late), Request::Nothing);
    let seen: Vec<String> = fixture.events.try_iter().collect();
    assert!(seen[0].contains("ConnectTimeout"), "{seen:?}");

    // The first look-up is still in progress when the next attempt starts.
    let next = fixture.driver.next_deadline(late).unwrap();
    assert_eq!(fixture.drive(next), Request::Nothing);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    fixture.found(next, vec![listener.local_addr().unwrap()]);
    fixture.wait_for(next, "Connected");
}

#[test]
fn a_name_without_addresses_is_an_error() {
    let now = Instant::now();
    let mut fixture = Fixture::new();
    fixture.drive(now);
    fixture.found(now, Vec::new());
    let seen: Vec<String> = fixture.events.try_iter().collect();
    assert!(seen[0].contains("NoAddress"), "{seen:?}");
}
