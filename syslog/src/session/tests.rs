use super::*;
use crate::Framing;

const POLICY: Policy = Policy {
    connect_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    backoff_min: Duration::from_millis(500),
    backoff_max: Duration::from_secs(30),
};

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn batch(messages: &[&str]) -> Batch {
    let mut batch = Batch::new(Framing::OctetCounting);
    for message in messages {
        let mut frame = batch.frame();
        frame.bytes().extend_from_slice(message.as_bytes());
        frame.finish();
    }
    batch
}

fn up(now: Instant) -> Session<u32> {
    let mut session = Session::new(POLICY);
    session.on_attempt(now);
    session.on_connected(now);
    session
}

fn finished(session: &mut Session<u32>) -> Vec<(u32, Outcome)> {
    std::iter::from_fn(|| session.poll_finished())
        .map(|finished| (finished.tag, finished.outcome))
        .collect()
}

#[test]
fn delivered_means_acknowledged_to_the_last_byte() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["hello"]), 1);
    assert_eq!(session.transmit(), b"5 hello");
    session.on_taken(3, 3, now);
    assert_eq!(session.transmit(), b"ello");
    session.on_taken(4, 7, now);
    assert!(session.transmit().is_empty());
    session.on_acknowledged(6, now);
    assert_eq!(finished(&mut session), []);
    session.on_acknowledged(7, now);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn batches_go_out_in_order_and_end_in_order() {
    let now = Instant::now();
    let mut session = up(now);
    for (tag, text) in [(1, "a"), (2, "b"), (3, "c")] {
        session.submit(batch(&[text]), tag);
    }
    for (wire, expected) in [(3, b"1 a"), (6, b"1 b"), (9, b"1 c")] {
        assert_eq!(session.transmit(), expected);
        session.on_taken(3, wire, now);
    }
    session.on_acknowledged(6, now);
    assert_eq!(
        finished(&mut session),
        [(1, Outcome::Delivered), (2, Outcome::Delivered)]
    );
    session.on_ended(now, 0);
    assert_eq!(finished(&mut session), [(3, Outcome::Retry)]);
}

#[test]
fn a_peer_that_acknowledges_nothing_times_out() {
    let now = Instant::now();
    let mut session = up(now);
    assert_eq!(session.poll_timeout(), None);
    session.submit(batch(&["hello"]), 1);
    session.on_taken(7, 7, now);
    session.on_acknowledged(2, now + second(4));
    assert_eq!(session.poll_timeout(), Some(now + second(14)));
    assert_eq!(session.on_timeout(now + second(13)), None);
    assert_eq!(session.on_timeout(now + second(14)), Some(Expired::Write));
    session.on_ended(now + second(14), 0);
    assert_eq!(finished(&mut session), [(1, Outcome::Retry)]);
}

#[test]
fn a_stalled_peer_times_out_while_bytes_wait() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["hello"]), 1);
    session.on_taken(2, 2, now);
    session.on_acknowledged(2, now + second(1));
    // The rest cannot be written: the socket is full.
    assert_eq!(session.on_timeout(now + second(11)), Some(Expired::Write));
}

#[test]
fn a_batch_that_the_connection_never_takes_times_out() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["hello"]), 1);
    session.on_taken(0, 0, now);
    assert_eq!(session.on_timeout(now + second(10)), Some(Expired::Write));
}

#[test]
fn while_the_peer_is_down_batches_come_back_at_once() {
    let now = Instant::now();
    let mut session = Session::new(POLICY);
    session.submit(batch(&["a"]), 1);
    assert!(session.wants_connection());
    session.on_attempt(now);
    assert_eq!(finished(&mut session), []);
    assert_eq!(session.on_timeout(now + second(10)), Some(Expired::Connect));
    session.on_failed(now + second(10), 0);
    assert_eq!(finished(&mut session), [(1, Outcome::Retry)]);

    assert!(session.is_down());
    session.submit(batch(&["a"]), 2);
    assert_eq!(finished(&mut session), [(2, Outcome::Retry)]);

    // Also during the next attempt, and no longer once there is a connection.
    let later = session.poll_timeout().unwrap();
    session.on_timeout(later);
    session.on_attempt(later);
    session.submit(batch(&["a"]), 3);
    assert_eq!(finished(&mut session), [(3, Outcome::Retry)]);
    session.on_connected(later);
    session.submit(batch(&["a"]), 4);
    assert_eq!(finished(&mut session), []);
    assert_eq!(session.transmit(), b"1 a");
}

#[test]
fn the_backoff_grows_to_its_maximum_and_never_beyond() {
    let now = Instant::now();
    let mut session = Session::<u32>::new(POLICY);
    let mut ceilings = Vec::new();
    for _ in 0..40 {
        session.on_attempt(now);
        assert_eq!(session.on_failed(now, 0), POLICY.backoff_min);
        session.on_attempt(now);
        ceilings.push(session.on_failed(now, u32::MAX));
    }
    assert!(ceilings.is_sorted());
    assert_eq!(ceilings[0], second(2));
    assert_eq!(ceilings.last(), Some(&POLICY.backoff_max));
}

#[test]
fn a_peer_that_accepts_and_closes_is_not_called_in_a_loop() {
    let now = Instant::now();
    let mut session = up(now);
    assert!(session.on_ended(now, 0) >= POLICY.backoff_min);
    assert!(session.is_down());
    assert!(!session.wants_connection());
}

#[test]
fn nor_is_one_that_takes_a_batch_and_closes() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["a"]), 1);
    session.on_taken(3, 3, now);
    session.on_acknowledged(3, now);
    assert!(session.on_ended(now, 0) >= POLICY.backoff_min);
}

#[test]
fn after_a_connection_that_was_of_use_the_next_comes_at_once() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["a"]), 1);
    session.on_taken(3, 3, now);
    session.on_acknowledged(3, now);
    assert_eq!(session.on_ended(now + second(1), 0), Duration::ZERO);
    assert!(session.wants_connection());
    assert!(!session.is_down());

    // A quiet one that lived long was of use too.
    let mut session = up(now);
    assert_eq!(session.on_ended(now + second(60), 0), Duration::ZERO);
}

#[test]
fn an_empty_batch_is_delivered_without_a_connection() {
    let mut session = Session::new(POLICY);
    session.submit(batch(&[]), 1);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}

#[test]
fn frames_are_given_one_by_one_for_datagrams() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["one", "three"]), 1);
    assert_eq!(session.transmit_frame(), b"3 one");
    session.on_taken(5, 5, now);
    assert_eq!(session.transmit_frame(), b"5 three");
    session.on_taken(7, 12, now);
    session.on_acknowledged(12, now);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}
