use super::*;
use crate::{Framing, Volume};

const POLICY: Policy = Policy {
    connect_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    backoff_min: Duration::from_millis(500),
    backoff_max: Duration::from_secs(30),
    replay_buffer: 1000,
    replay_age: Duration::from_secs(300),
};

const WAIT: Duration = Duration::from_secs(1);

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
    session.on_connected(now);
    session
}

/// Nothing of the batch was delivered.
const RETRY: Outcome = Outcome::Retry { delivered: 0 };

fn finished(session: &mut Session<u32>) -> Vec<(u32, Outcome)> {
    std::iter::from_fn(|| session.poll_finished())
        .map(|finished| (finished.tag, finished.outcome))
        .collect()
}

#[test]
fn delivered_means_acknowledged_to_the_last_byte() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["hello"]), 0, 1);
    assert_eq!(session.transmit(), b"5 hello");
    session.on_taken(3, 3, now);
    assert_eq!(session.transmit(), b"ello");
    session.on_taken(4, 7, now);
    assert!(session.transmit().is_empty());
    session.on_acknowledged(6, now);
    assert_eq!(finished(&mut session), []);
    session.on_acknowledged(7, now);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
    // Nothing is waited for any more; what was sent is forgotten some day.
    assert_eq!(session.poll_timeout(), Some(now + POLICY.replay_age));
    assert!(!session.on_timeout(now + POLICY.replay_age));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn batches_go_out_in_order_and_end_in_order() {
    let now = Instant::now();
    let mut session = up(now);
    for (tag, text) in [(1, "a"), (2, "b"), (3, "c")] {
        session.submit(batch(&[text]), 0, tag);
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
    session.on_ended(now, End::Unclean);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
}

#[test]
fn a_peer_that_acknowledges_nothing_times_out() {
    let now = Instant::now();
    let mut session = up(now);
    assert_eq!(session.poll_timeout(), None);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_taken(7, 7, now);
    session.on_acknowledged(2, now + second(4));
    assert_eq!(session.poll_timeout(), Some(now + second(14)));
    assert!(!session.on_timeout(now + second(13)));
    assert!(session.on_timeout(now + second(14)));
    session.on_ended(now + second(14), End::Unclean);
    assert_eq!(finished(&mut session), [(1, RETRY)]);
}

#[test]
fn a_stalled_peer_times_out_while_bytes_wait() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_taken(2, 2, now);
    session.on_acknowledged(2, now + second(1));
    // The rest cannot be written: the socket is full.
    assert!(session.on_timeout(now + second(11)));
}

#[test]
fn a_batch_that_the_connection_never_takes_times_out() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_taken(0, 0, now);
    assert!(session.on_timeout(now + second(10)));
}

#[test]
fn while_the_peer_is_down_batches_come_back_at_once() {
    let now = Instant::now();
    let mut session = Session::new(POLICY);
    session.submit(batch(&["a"]), 0, 1);
    assert!(session.wants_connection());
    assert_eq!(finished(&mut session), []);
    session.on_failed(now, WAIT);
    assert_eq!(finished(&mut session), [(1, RETRY)]);

    assert!(session.is_down());
    session.submit(batch(&["a"]), 0, 2);
    assert_eq!(finished(&mut session), [(2, RETRY)]);

    // Also during the next attempt, and no longer once there is a connection.
    let later = session.poll_timeout().unwrap();
    session.on_timeout(later);
    session.submit(batch(&["a"]), 0, 3);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
    session.on_connected(later);
    session.submit(batch(&["a"]), 0, 4);
    assert_eq!(finished(&mut session), []);
    assert_eq!(session.transmit(), b"1 a");
}

#[test]
fn a_peer_that_accepts_and_closes_was_of_no_use() {
    let now = Instant::now();
    let mut session = up(now);
    assert!(!session.on_ended(now, End::Unclean));
    session.on_failed(now, WAIT);
    assert!(session.is_down());
    assert!(!session.wants_connection());
    session.on_timeout(now + WAIT);
    assert!(session.wants_connection());
}

#[test]
fn nor_was_one_that_takes_a_batch_and_closes() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["a"]), 0, 1);
    session.on_taken(3, 3, now);
    session.on_acknowledged(3, now);
    assert!(!session.on_ended(now, End::Unclean));
}

#[test]
fn after_a_connection_that_was_of_use_the_next_comes_at_once() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["a"]), 0, 1);
    session.on_taken(3, 3, now);
    session.on_acknowledged(3, now);
    assert!(session.on_ended(now + second(1), End::Unclean));
    assert!(session.wants_connection());
    assert!(!session.is_down());

    // A quiet one that lived long was of use too.
    let mut session = up(now);
    assert!(session.on_ended(now + second(60), End::Unclean));
}

#[test]
fn an_empty_batch_is_delivered_without_a_connection() {
    let mut session = Session::new(POLICY);
    session.submit(batch(&[]), 0, 1);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}

#[test]
fn frames_are_given_one_by_one_for_datagrams() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["one", "three"]), 0, 1);
    assert_eq!(session.transmit_frame(), b"3 one");
    session.on_taken(5, 5, now);
    assert_eq!(session.transmit_frame(), b"5 three");
    session.on_taken(7, 12, now);
    session.on_acknowledged(12, now);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}

/// Takes everything that is to be sent, and acknowledges it.
fn send_all(session: &mut Session<u32>, wire: &mut u64, now: Instant) -> String {
    let mut sent = Vec::new();
    while !session.transmit().is_empty() {
        let count = session.transmit().len();
        sent.extend_from_slice(session.transmit());
        *wire += count as u64;
        session.on_taken(count, *wire, now);
    }
    session.on_acknowledged(*wire, now);
    String::from_utf8(sent).unwrap()
}

/// A session that has delivered `1 a` and `1 b`, and sent `1 c`.
fn delivered_two_of_three(now: Instant) -> Session<u32> {
    let mut session = up(now);
    let mut wire = 0;
    for (tag, text) in [(1, "a"), (2, "b")] {
        session.submit(batch(&[text]), 0, tag);
        send_all(&mut session, &mut wire, now);
    }
    session.submit(batch(&["c"]), 0, 3);
    session.on_taken(3, wire + 3, now);
    finished(&mut session);
    session
}

#[test]
fn after_an_unclean_end_what_was_delivered_last_is_sent_again_first() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    session.on_ended(now + second(1), End::Unclean);
    assert_eq!(finished(&mut session), [(3, RETRY)]);

    session.submit(batch(&["d"]), 0, 4);
    assert_eq!(session.on_connected(now), 6);
    assert_eq!(send_all(&mut session, &mut 0, now), "1 a1 b1 d");
    assert_eq!(finished(&mut session), [(4, Outcome::Delivered)]);

    let volume = |messages, bytes| Volume { messages, bytes };
    assert_eq!(
        session.totals(),
        Totals {
            sent: volume(6, 18),
            acknowledged: volume(5, 15),
            resent: volume(2, 6),
        }
    );

    // Once is enough, unless it happens again.
    session.on_ended(now + second(1), End::Clean);
    assert_eq!(session.on_connected(now), 0);
}

#[test]
fn a_receiver_that_closed_in_an_orderly_way_has_read_everything() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    session.on_ended(now + second(1), End::Clean);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
    assert_eq!(session.on_connected(now), 0);
    assert!(session.transmit().is_empty());
}

#[test]
fn what_is_sent_again_is_kept_until_it_is_acknowledged() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    session.on_ended(now + second(1), End::Unclean);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
    // However long the receiver is down, and however often it goes again.
    let later = now + POLICY.replay_age * 10;
    for end in [End::Unclean, End::Unclean, End::Clean] {
        session.on_failed(later, WAIT);
        assert_eq!(session.on_connected(later), 6);
        session.on_taken(2, 2, later);
        session.on_ended(later, end);
    }
    assert_eq!(session.on_connected(later), 6);
    assert_eq!(send_all(&mut session, &mut 0, later), "1 a1 b");
    assert!(!session.is_busy());
    assert_eq!(finished(&mut session), []);
}

#[test]
fn what_is_old_or_beyond_the_limit_is_not_sent_again() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    let later = now + POLICY.replay_age;
    session.on_acknowledged(9, later);
    session.on_ended(later, End::Unclean);
    assert_eq!(session.on_connected(later), 3);
    assert_eq!(session.transmit(), b"1 c");

    let mut session = up(now);
    let long = "x".repeat(600);
    for tag in 0..5 {
        session.submit(batch(&[&long]), 0, tag);
    }
    send_all(&mut session, &mut 0, now);
    session.on_ended(now + second(1), End::Unclean);
    assert_eq!(session.on_connected(now), 604);
}

#[test]
fn a_batch_delivered_in_part_goes_on_behind_that() {
    let now = Instant::now();
    for end in [End::Clean, End::Unclean] {
        let mut session = up(now);
        session.submit(batch(&["a", "b", "c"]), 0, 1);
        session.on_taken(2, 2, now);
        session.on_taken(5, 7, now);
        session.on_acknowledged(7, now);
        session.on_ended(now + WAIT, end);
        // Two frames, and a part of the third that is worth nothing.
        let retry = Outcome::Retry { delivered: 2 };
        assert_eq!(finished(&mut session), [(1, retry)]);

        let again = session.on_connected(now);
        session.submit(batch(&["a", "b", "c"]), 2, 2);
        let sent = send_all(&mut session, &mut 0, now);
        let expected = match end {
            End::Clean => (0, "1 c"),
            // What the peer acknowledged it may have lost all the same.
            End::Unclean => (6, "1 a1 b1 c"),
        };
        assert_eq!((again, sent.as_str()), expected);
        assert_eq!(finished(&mut session), [(2, Outcome::Delivered)]);
    }
}

#[test]
fn a_batch_that_was_delivered_before_needs_no_connection() {
    let mut session = Session::new(POLICY);
    session.submit(batch(&["a", "b"]), 2, 1);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}

#[test]
fn what_is_given_up_is_known() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    assert!(session.is_busy());
    assert_eq!(session.abandon(now), 0);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
    assert!(!session.is_busy());

    let mut session = delivered_two_of_three(now);
    session.on_ended(now, End::Unclean);
    assert!(session.is_busy());
    assert_eq!(session.abandon(now), 6);
    assert!(!session.is_busy());

    // Also when it was under way again.
    let mut session = delivered_two_of_three(now);
    session.on_ended(now, End::Unclean);
    session.on_connected(now);
    session.on_taken(3, 3, now);
    assert_eq!(session.abandon(now), 6);
    assert!(!session.is_busy());
}

#[test]
fn a_slow_peer_gets_time_for_every_byte() {
    let now = Instant::now();
    let mut session = up(now);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_taken(7, 7, now);
    for wire in 1..7 {
        let later = now + second(9 * wire);
        assert!(!session.on_timeout(later));
        session.on_acknowledged(wire, later);
    }
    assert!(session.on_timeout(now + second(64)));
}
