use super::*;
use crate::{Framing, ReplayBuffer, Volume};

const POLICY: Policy = Policy {
    connect_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    close_timeout: Duration::from_secs(2),
    backoff_min: Duration::from_millis(500),
    backoff_max: Duration::from_secs(30),
    replay_buffer: ReplayBuffer::Fixed(1000),
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

fn connected_session(now: Instant) -> Session<u32> {
    let mut session = Session::new(POLICY);
    session.on_connected(now);
    session
}

#[track_caller]
fn assert_no_timeout(session: &mut Session<u32>, now: Instant) {
    assert_eq!(session.on_timeout(now), Expiry::Nothing);
}

#[track_caller]
fn assert_stalled(session: &mut Session<u32>, now: Instant) {
    assert_eq!(session.on_timeout(now), Expiry::Stalled);
}

/// Nothing of the batch was delivered.
const RETRY: Outcome = Outcome::Retry { skip: 0 };

fn finished(session: &mut Session<u32>) -> Vec<(u32, Outcome)> {
    std::iter::from_fn(|| session.poll_ended())
        .map(|finished| (finished.token, finished.outcome))
        .collect()
}

#[test]
fn delivered_means_acknowledged_to_the_last_byte() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["hello"]), 0, 1);
    assert_eq!(session.transmit(), b"5 hello");
    session.on_accepted(3, 3, now);
    assert_eq!(session.transmit(), b"ello");
    session.on_accepted(4, 7, now);
    assert!(session.transmit().is_empty());
    session.on_acknowledged(6, now);
    assert_eq!(finished(&mut session), []);
    session.on_acknowledged(7, now);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
    // Nothing is outstanding; only the replay buffer expires.
    assert_eq!(session.poll_timeout(), Some(now + POLICY.replay_age));
    assert_no_timeout(&mut session, now + POLICY.replay_age);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn batches_are_sent_and_finished_in_order() {
    let now = Instant::now();
    let mut session = connected_session(now);
    for (token, text) in [(1, "a"), (2, "b"), (3, "c")] {
        session.submit(batch(&[text]), 0, token);
    }
    for (wire, expected) in [(3, b"1 a"), (6, b"1 b"), (9, b"1 c")] {
        assert_eq!(session.transmit(), expected);
        session.on_accepted(3, wire, now);
    }
    session.on_acknowledged(6, now);
    assert_eq!(
        finished(&mut session),
        [(1, Outcome::Delivered), (2, Outcome::Delivered)]
    );
    session.on_connection_ended(now, End::Broken);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
}

#[test]
fn a_peer_that_acknowledges_nothing_times_out() {
    let now = Instant::now();
    let mut session = connected_session(now);
    assert_eq!(session.poll_timeout(), None);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_accepted(7, 7, now);
    session.on_acknowledged(2, now + second(4));
    assert_eq!(session.poll_timeout(), Some(now + second(14)));
    assert_no_timeout(&mut session, now + second(13));
    assert_stalled(&mut session, now + second(14));
    session.on_connection_ended(now + second(14), End::Broken);
    assert_eq!(finished(&mut session), [(1, RETRY)]);
}

#[test]
fn a_stalled_peer_times_out_while_bytes_wait() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_accepted(2, 2, now);
    session.on_acknowledged(2, now + second(1));
    // The rest cannot be written: the socket is full.
    assert_stalled(&mut session, now + second(11));
}

#[test]
fn a_batch_that_cannot_be_written_times_out() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_accepted(0, 0, now);
    assert_stalled(&mut session, now + second(10));
}

#[test]
fn batches_fail_at_once_while_the_peer_is_down() {
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

    // Batches also fail during the next attempt, until it succeeds.
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
fn a_connection_that_ends_at_once_is_not_retried_at_once() {
    let now = Instant::now();
    let mut session = connected_session(now);
    assert!(!session.on_connection_ended(now, End::Broken));
    session.on_failed(now, WAIT);
    assert!(session.is_down());
    assert!(!session.wants_connection());
    session.on_timeout(now + WAIT);
    assert!(session.wants_connection());
}

#[test]
fn a_connection_that_ends_after_one_batch_is_not_retried_at_once() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["a"]), 0, 1);
    session.on_accepted(3, 3, now);
    session.on_acknowledged(3, now);
    assert!(!session.on_connection_ended(now, End::Broken));
}

#[test]
fn a_connection_that_lived_for_a_while_is_retried_at_once() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["a"]), 0, 1);
    session.on_accepted(3, 3, now);
    session.on_acknowledged(3, now);
    assert!(session.on_connection_ended(now + second(1), End::Broken));
    assert!(session.wants_connection());
    assert!(!session.is_down());

    // The same applies to an idle connection that lived long enough.
    let mut session = connected_session(now);
    assert!(session.on_connection_ended(now + second(60), End::Broken));
}

#[test]
fn an_empty_batch_is_delivered_without_a_connection() {
    let mut session = Session::new(POLICY);
    session.submit(batch(&[]), 0, 1);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}

#[test]
fn frames_are_transmitted_one_by_one_for_datagrams() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["one", "three"]), 0, 1);
    assert_eq!(session.transmit_frame(), b"3 one");
    session.on_accepted(5, 5, now);
    assert_eq!(session.transmit_frame(), b"5 three");
    session.on_accepted(7, 12, now);
    session.on_acknowledged(12, now);
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}

/// Sends everything, acknowledges it, and returns it.
fn send_all(session: &mut Session<u32>, wire: &mut u64, now: Instant) -> String {
    let mut sent = Vec::new();
    while !session.transmit().is_empty() {
        let count = session.transmit().len();
        sent.extend_from_slice(session.transmit());
        *wire += count as u64;
        session.on_accepted(count, *wire, now);
    }
    session.on_acknowledged(*wire, now);
    String::from_utf8(sent).unwrap()
}

/// Returns a session that has delivered `1 a` and `1 b`, and sent `1 c`.
fn delivered_two_of_three(now: Instant) -> Session<u32> {
    let mut session = connected_session(now);
    let mut wire = 0;
    for (token, text) in [(1, "a"), (2, "b")] {
        session.submit(batch(&[text]), 0, token);
        send_all(&mut session, &mut wire, now);
    }
    session.submit(batch(&["c"]), 0, 3);
    session.on_accepted(3, wire + 3, now);
    finished(&mut session);
    session
}

#[test]
fn a_broken_connection_replays_the_last_delivered_frames_first() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    session.on_connection_ended(now + second(1), End::Broken);
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
            exposed_bytes: 0,
        }
    );

    // They are sent again only once, unless another connection breaks.
    let later = now + second(10);
    assert!(session.on_closing(later, Side::Peer));
    session.on_connection_ended(later + POLICY.close_timeout, End::Closed);
    assert_eq!(session.on_connected(later), 0);
}

#[test]
fn a_close_long_after_the_last_acknowledgement_replays_nothing() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    let closed = now + POLICY.close_timeout;
    assert!(session.on_closing(closed, Side::Peer));
    assert!(session.is_closing() && session.is_busy() && !session.is_up());
    assert_eq!(finished(&mut session), [(3, RETRY)]);
    assert!(!session.wants_connection());

    let over = closed + POLICY.close_timeout;
    assert_eq!(session.poll_timeout(), Some(over));
    assert_eq!(session.on_timeout(over), Expiry::Closed(End::Closed));
    session.on_connection_ended(over, End::Closed);
    assert_eq!(session.on_connected(over), 0);
    assert!(session.transmit().is_empty());
}

#[test]
fn a_reset_after_an_orderly_close_replays_everything() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    let closed = now + POLICY.close_timeout;
    assert!(session.on_closing(closed, Side::Peer));
    session.on_connection_ended(closed + second(1), End::Broken);
    assert_eq!(session.on_connected(closed), 6);
}

/// The peer's program may have discarded what it read while it closed the TLS session,
/// so that no reset follows.
#[test]
fn a_close_replays_recently_acknowledged_frames() {
    let now = Instant::now();
    let mut session = connected_session(now);
    let mut wire = 0;
    for (age, text) in [(3, "a"), (1, "b"), (0, "c")] {
        session.submit(batch(&[text]), 0, 1);
        send_all(&mut session, &mut wire, now + second(3 - age));
    }
    let closed = now + second(3);
    assert!(session.on_closing(closed, Side::Peer));
    session.on_connection_ended(closed + POLICY.close_timeout, End::Closed);
    assert_eq!(session.on_connected(closed), 6);
    assert_eq!(send_all(&mut session, &mut 0, closed), "1 b1 c");

    // If all frames are in doubt, there is nothing to wait for.
    session.on_connection_ended(closed, End::Broken);
    session.on_connected(closed);
    send_all(&mut session, &mut 0, closed);
    assert!(!session.on_closing(closed + second(1), Side::Peer));
    session.on_connection_ended(closed + second(1), End::Closed);
    assert_eq!(session.on_connected(closed), 6);
}

#[test]
fn a_peer_that_closes_after_this_side_may_not_have_read_recent_frames() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["old"]), 0, 1);
    let mut wire = 0;
    send_all(&mut session, &mut wire, now);
    let later = now + POLICY.close_timeout;
    session.submit(batch(&["new"]), 0, 2);
    send_all(&mut session, &mut wire, later);
    assert!(session.on_closing(later, Side::Own));
    session.on_connection_ended(later + second(1), End::ClosedByBoth);
    assert_eq!(session.on_connected(later + second(1)), 5);
    assert_eq!(send_all(&mut session, &mut 0, later), "3 new");
}

#[test]
fn a_peer_that_does_not_close_after_this_side_may_have_read_nothing() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["a"]), 0, 1);
    send_all(&mut session, &mut 0, now);
    assert!(session.on_closing(now, Side::Own));
    let over = now + POLICY.close_timeout;
    assert_eq!(session.on_timeout(over), Expiry::Closed(End::Broken));
    session.on_connection_ended(over, End::Broken);
    assert_eq!(session.on_connected(over), 3);
}

#[test]
fn a_close_is_not_watched_if_no_frames_are_kept() {
    let now = Instant::now();
    for side in [Side::Own, Side::Peer] {
        assert!(!connected_session(now).on_closing(now, side));
    }
}

#[test]
fn replayed_frames_are_kept_until_they_are_acknowledged() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    session.on_connection_ended(now + second(1), End::Broken);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
    // This holds however long the receiver is down, and however often it disconnects.
    let later = now + POLICY.replay_age * 10;
    for end in [End::Broken, End::Stalled, End::Closed] {
        session.on_failed(later, WAIT);
        assert_eq!(session.on_connected(later), 6);
        session.on_accepted(2, 2, later);
        session.on_connection_ended(later, end);
    }
    assert_eq!(session.on_connected(later), 6);
    assert_eq!(send_all(&mut session, &mut 0, later), "1 a1 b");
    assert!(!session.is_busy());
    assert_eq!(finished(&mut session), []);
}

#[test]
fn frames_beyond_the_age_or_the_limit_are_not_replayed() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    let later = now + POLICY.replay_age;
    session.on_acknowledged(9, later);
    session.on_connection_ended(later, End::Broken);
    assert_eq!(session.on_connected(later), 3);
    assert_eq!(session.transmit(), b"1 c");

    let mut session = connected_session(now);
    let long = "x".repeat(600);
    for token in 0..5 {
        session.submit(batch(&[&long]), 0, token);
    }
    send_all(&mut session, &mut 0, now);
    session.on_connection_ended(now + second(1), End::Broken);
    assert_eq!(session.on_connected(now), 604);
}

#[test]
fn a_partly_delivered_batch_continues_after_the_delivered_frames() {
    let now = Instant::now();
    for end in [End::Closed, End::Broken] {
        let mut session = connected_session(now);
        session.submit(batch(&["a", "b", "c"]), 0, 1);
        session.on_accepted(2, 2, now);
        session.on_accepted(5, 7, now);
        session.on_acknowledged(7, now);
        session.on_connection_ended(now + WAIT, end);
        // Two frames were delivered; a part of the third does not count.
        let retry = Outcome::Retry { skip: 2 };
        assert_eq!(finished(&mut session), [(1, retry)]);

        // The peer may still have lost the acknowledged frames.
        assert_eq!(session.on_connected(now), 6);
        session.submit(batch(&["a", "b", "c"]), 2, 2);
        assert_eq!(send_all(&mut session, &mut 0, now), "1 a1 b1 c");
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
fn abandon_returns_the_bytes_that_would_be_replayed() {
    let now = Instant::now();
    let mut session = delivered_two_of_three(now);
    assert!(session.is_busy());
    assert_eq!(session.abandon(now), 0);
    assert_eq!(finished(&mut session), [(3, RETRY)]);
    assert!(!session.is_busy());

    let mut session = delivered_two_of_three(now);
    session.on_connection_ended(now, End::Broken);
    assert!(session.is_busy());
    assert_eq!(session.abandon(now), 6);
    assert!(!session.is_busy());

    // This includes frames that were already being sent again.
    let mut session = delivered_two_of_three(now);
    session.on_connection_ended(now, End::Broken);
    session.on_connected(now);
    session.on_accepted(3, 3, now);
    assert_eq!(session.abandon(now), 6);
    assert!(!session.is_busy());
}

#[test]
fn each_acknowledged_byte_extends_the_write_timeout() {
    let now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["hello"]), 0, 1);
    session.on_accepted(7, 7, now);
    for wire in 1..7 {
        let later = now + second(9 * wire);
        assert_no_timeout(&mut session, later);
        session.on_acknowledged(wire, later);
    }
    assert_stalled(&mut session, now + second(64));
}

#[test]
fn the_replay_buffer_follows_the_window() {
    const KIB: usize = 1024;
    let now = Instant::now();
    let mut session: Session<u32> = Session::new(Policy {
        replay_buffer: ReplayBuffer::FollowWindow,
        ..POLICY
    });
    session.on_connected(now);
    assert!(!session.on_window(64 * KIB));
    assert_eq!(session.replay.limit(), ReplayBuffer::MIN);
    assert!(!session.on_window(3000 * KIB));
    assert_eq!(session.replay.limit(), 6000 * KIB);
    assert!(!session.on_window(KIB));
    assert_eq!(session.replay.limit(), 6000 * KIB);
    // A window beyond the maximum is reported once per connection.
    assert!(session.on_window(20_000 * KIB));
    assert!(!session.on_window(21_000 * KIB));
    assert_eq!(session.replay.limit(), ReplayBuffer::MAX);
    session.on_connection_ended(now, End::Broken);
    session.on_connected(now);
    assert!(session.on_window(20_000 * KIB));
}

#[test]
fn exposed_bytes_are_counted() {
    let now = Instant::now();
    let long = "x".repeat(600);
    let exposed = |window, end| {
        let mut session = connected_session(now);
        session.on_window(window);
        let mut wire = 0;
        for token in 0..5 {
            session.submit(batch(&[&long]), 0, token);
            send_all(&mut session, &mut wire, now);
        }
        session.on_connection_ended(now, end);
        session.totals().exposed_bytes
    };
    // Five frames of 604 bytes were sent, and one of them is kept.
    assert_eq!(exposed(100_000, End::Broken), 4 * 604);
    assert_eq!(exposed(100_000, End::Stalled), 4 * 604);
    // The peer cannot hold more than twice its window.
    assert_eq!(exposed(1000, End::Broken), 2000 - 604);
    assert_eq!(exposed(100, End::Broken), 0);
    assert_eq!(exposed(100_000, End::Closed), 2416);
}

/// Connects, sends everything, and breaks the connection when the frame `bad` is sent.
/// Returns whether it broke.
fn reject(session: &mut Session<u32>, bad: &str, now: &mut Instant) -> bool {
    session.on_connected(*now);
    let mut wire = 0;
    loop {
        let sent = send_all(session, &mut wire, *now);
        if sent.contains(bad) {
            *now += Duration::from_millis(10);
            session.on_connection_ended(*now, End::Broken);
            return true;
        }
        let Some(at) = session.connection.survives_at else {
            return false;
        };
        *now = at;
        assert_eq!(session.on_timeout(at), Expiry::Nothing);
    }
}

fn rejected(session: &mut Session<u32>) -> Vec<usize> {
    std::iter::from_fn(|| session.poll_rejected()).collect()
}

#[test]
fn a_frame_that_ends_connections_is_given_up_and_all_others_arrive() {
    let texts = ["a", "b", "bad", "c", "d", "e", "f"];
    for at in 0..texts.len() {
        let mut texts = texts;
        texts.swap(2, at);
        let mut now = Instant::now();
        let mut session = connected_session(now);
        session.submit(batch(&texts), 0, 1);
        send_all(&mut session, &mut 0, now);
        assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
        session.on_connection_ended(now, End::Broken);

        let ends = (0..100)
            .take_while(|_| reject(&mut session, "3 bad", &mut now))
            .count();
        assert!((10..20).contains(&ends), "{ends}");
        assert_eq!(rejected(&mut session), [5], "{texts:?}");
        assert!(!session.is_busy());

        // The remaining frames are unchanged.
        assert_eq!(session.replay_bytes(), 6 * 3);
        session.on_connection_ended(now, End::Broken);
        session.on_connected(now);
        let sent = send_all(&mut session, &mut 0, now);
        let others: Vec<&str> = texts.into_iter().filter(|text| *text != "bad").collect();
        assert_eq!(sent.as_bytes(), batch(&others).bytes());
    }
}

#[test]
fn batches_fail_at_once_during_a_search() {
    let mut now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["a", "bad"]), 0, 1);
    send_all(&mut session, &mut 0, now);
    session.on_connection_ended(now, End::Broken);
    finished(&mut session);
    while !session.is_searching() {
        assert!(reject(&mut session, "3 bad", &mut now));
    }
    session.submit(batch(&["b"]), 0, 2);
    assert_eq!(finished(&mut session), [(2, RETRY)]);
    assert!(session.is_busy());
    assert_eq!(session.abandon(now), 3 + 5);
    assert!(!session.is_busy() && !session.is_searching());
}

#[test]
fn no_frame_is_given_up_if_the_peer_ends_every_connection() {
    let mut now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["a", "b", "c"]), 0, 1);
    send_all(&mut session, &mut 0, now);
    session.on_connection_ended(now, End::Broken);
    for _ in 0..200 {
        session.on_connected(now);
        let mut wire = 0;
        send_all(&mut session, &mut wire, now);
        now += second(1);
        session.on_connection_ended(now, End::Broken);
        assert_eq!(session.replay_bytes(), 9);
    }
    assert_eq!(rejected(&mut session), []);
    session.on_connected(now);
    // The search has ended long before.
    assert_eq!(send_all(&mut session, &mut 0, now), "1 a1 b1 c");
}

#[test]
fn frames_after_many_bad_ones_arrive() {
    for bad in [1, 8, 9, 30] {
        let mut texts = vec!["bad"; bad];
        texts.extend(["good"; 20]);
        let mut now = Instant::now();
        let mut session = connected_session(now);
        session.submit(batch(&texts), 0, 1);
        send_all(&mut session, &mut 0, now);
        session.on_connection_ended(now, End::Broken);
        let ends = (0..1000)
            .take_while(|_| reject(&mut session, "3 bad", &mut now))
            .count();
        assert!(ends < 20 + 3 * bad, "{ends}");
        assert_eq!(rejected(&mut session), vec![5; bad]);
        assert!(!session.is_busy());
    }
}

#[test]
fn a_single_bad_frame_is_set_aside_until_there_is_a_control() {
    let mut now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["bad"]), 0, 1);
    send_all(&mut session, &mut 0, now);
    session.on_connection_ended(now, End::Broken);
    while reject(&mut session, "3 bad", &mut now) {}
    assert_eq!(
        (rejected(&mut session), session.replay_bytes()),
        (vec![], 5)
    );
    // It blocks nothing.
    assert!(!session.is_busy());
    // It is tried again after some time in any case.
    now = session.poll_timeout().unwrap();
    while reject(&mut session, "3 bad", &mut now) {}
    assert_eq!(
        (rejected(&mut session), session.replay_bytes()),
        (vec![], 5)
    );
    session.submit(batch(&["good"]), 0, 2);
    let mut ends = 0;
    while rejected(&mut session).is_empty() {
        let at = session.connection.survives_at;
        if send_all(&mut session, &mut 0, now).contains("bad") {
            ends += 1;
            session.on_connection_ended(now, End::Broken);
            session.on_connected(now);
        } else {
            now = at.or(session.connection.survives_at).unwrap();
            assert_eq!(session.on_timeout(now), Expiry::Nothing);
        }
    }
    assert_eq!(ends, 5);
}

#[test]
fn a_peer_that_accepts_few_frames_per_connection_gets_all() {
    let texts: Vec<String> = (100..400).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&texts), 0, 1);
    let (mut count, mut wire) = (0, 0);
    for _ in 0..60 {
        while session.is_up() {
            count += send_all(&mut session, &mut wire, now).len() / "3 100".len();
            if count > 100 {
                session.on_connection_ended(now, End::Broken);
            } else if let Some(at) = session.connection.survives_at {
                now = at;
                assert_eq!(session.on_timeout(at), Expiry::Nothing);
            } else {
                break;
            }
        }
        if !session.is_up() {
            session.on_connected(now);
            (count, wire) = (0, 0);
        }
        if !session.is_busy() {
            // As many frames as the peer accepts, so that the connection ends.
            session.submit(batch(&texts[..100]), 0, 2);
        }
    }
    assert_eq!(rejected(&mut session), []);
    let delivered = finished(&mut session);
    assert!(
        delivered
            .iter()
            .filter(|(_, end)| *end == Outcome::Delivered)
            .count()
            > 3
    );
    // There is no proof that the peer has read them.
    assert!(session.totals().exposed_bytes > 0);
}

#[test]
fn no_frame_is_given_up_if_the_peer_rejects_every_frame() {
    let mut now = Instant::now();
    let mut session = connected_session(now);
    session.submit(batch(&["a"; 12]), 0, 1);
    send_all(&mut session, &mut 0, now);
    session.on_connection_ended(now, End::Broken);
    for _ in 0..200 {
        session.on_connected(now);
        if send_all(&mut session, &mut 0, now).is_empty() {
            // An idle connection survives.
            while !send_some(&mut session, &mut now) {}
        }
        session.on_connection_ended(now, End::Broken);
        assert_eq!(session.replay_bytes(), 12 * 3);
    }
    assert_eq!(rejected(&mut session), []);
}

/// Advances the time to the next timeout. Returns whether a frame was sent, or true if
/// there is no timeout.
fn send_some(session: &mut Session<u32>, now: &mut Instant) -> bool {
    let Some(at) = session.poll_timeout() else {
        return true;
    };
    *now = at;
    assert_eq!(session.on_timeout(at), Expiry::Nothing);
    !send_all(session, &mut 0, *now).is_empty()
}

/// The frame is longer than what the peer accepts, so it is never acknowledged as a
/// whole, and never in the replay buffer.
#[test]
fn a_frame_that_is_never_acknowledged_is_given_up() {
    let mut now = Instant::now();
    let mut session = Session::new(Policy {
        replay_buffer: ReplayBuffer::Fixed(0),
        ..POLICY
    });
    let bad = "x".repeat(100);
    // The frame is not blamed, because no other frame was delivered either.
    for _ in 0..20 {
        session.on_connected(now);
        assert!(cut(&mut session, &[&bad, "next"], &mut now));
    }
    let rounds = (0..20)
        .take_while(|_| {
            session.on_connected(now);
            let mut wire = 0;
            session.submit(batch(&["other"]), 0, 7);
            send_all(&mut session, &mut wire, now);
            assert_eq!(finished(&mut session), [(7, Outcome::Delivered)]);
            now += second(5);
            cut(&mut session, &[&bad, "next"], &mut now)
        })
        .count();
    assert_eq!(rounds, 3);
    assert_eq!(rejected(&mut session), [104]);
    assert_eq!(send_all(&mut session, &mut 100, now), "4 next");
    assert_eq!(finished(&mut session), [(1, Outcome::Delivered)]);
}

/// Submits a batch, and breaks the connection before any of its bytes are acknowledged.
/// Returns whether the first frame was sent.
fn cut(session: &mut Session<u32>, texts: &[&str], now: &mut Instant) -> bool {
    session.submit(batch(texts), 0, 1);
    let count = session.transmit().len();
    let all = batch(texts);
    if !all.bytes().starts_with(session.transmit()) {
        return false;
    }
    session.on_accepted(count, 1000, *now);
    *now += Duration::from_millis(10);
    session.on_connection_ended(*now, End::Broken);
    assert_eq!(finished(session), [(1, RETRY)]);
    true
}

#[test]
fn a_frame_during_which_connections_ended_is_sent_alone() {
    let mut now = Instant::now();
    let mut session = connected_session(now);
    for _ in 0..2 {
        assert!(cut(&mut session, &["a", "b"], &mut now));
        session.on_connected(now);
    }
    session.submit(batch(&["before"]), 0, 1);
    session.on_accepted(8, 8, now);
    session.submit(batch(&["a", "b"]), 0, 2);
    assert_eq!(session.transmit(), b"", "another frame is unacknowledged");
    session.on_acknowledged(8, now);
    assert_eq!(session.transmit(), b"1 a");
    session.on_accepted(3, 11, now);
    assert_eq!(session.transmit(), b"");
    // The peer acknowledges the frame, so the frame is not to blame.
    session.on_acknowledged(11, now);
    assert_eq!(session.transmit(), b"1 b");
    session.on_connection_ended(now, End::Broken);
    session.on_connected(now);
    finished(&mut session);
    session.submit(batch(&["a", "b"]), 0, 2);
    send_all(&mut session, &mut 0, now);
    assert_eq!(finished(&mut session), [(2, Outcome::Delivered)]);
}

/// The peer acknowledges several frames together, and none of them if it rejects one.
#[test]
fn frames_before_a_bad_one_are_not_blamed() {
    let mut now = Instant::now();
    let mut session = Session::new(Policy {
        replay_buffer: ReplayBuffer::Fixed(0),
        ..POLICY
    });
    let texts = ["a", "b", "c", "bad", "d"];
    let mut skip = 0;
    let mut rounds = 0;
    while skip < texts.len() {
        rounds += 1;
        assert!(rounds < 30);
        session.on_connected(now);
        let mut wire = 0;
        session.submit(batch(&["other"]), 0, 7);
        send_all(&mut session, &mut wire, now);
        finished(&mut session);
        now += second(5);
        session.submit(batch(&texts), skip, 1);
        while !session.transmit().is_empty() {
            let sent = session.transmit().to_vec();
            wire += sent.len() as u64;
            session.on_accepted(sent.len(), wire, now);
            if sent.windows(3).any(|text| text == b"bad") {
                session.on_connection_ended(now, End::Broken);
            } else {
                session.on_acknowledged(wire, now);
            }
        }
        skip = match finished(&mut session)[..] {
            [(1, Outcome::Retry { skip })] => skip,
            [(1, Outcome::Delivered)] => texts.len(),
            ref other => panic!("{other:?}"),
        };
    }
    assert_eq!(rejected(&mut session), [5]);
}

#[test]
fn a_good_frame_survives_any_number_of_crashes() {
    let mut now = Instant::now();
    let mut session = connected_session(now);
    for _ in 0..20 {
        now += second(86_400);
        session.on_connected(now);
        session.submit(batch(&["other"]), 0, 7);
        send_all(&mut session, &mut 0, now);
        finished(&mut session);
        now += second(5);
        assert!(cut(&mut session, &["good"], &mut now));
    }
    assert_eq!(rejected(&mut session), []);
}

#[test]
fn a_frame_during_which_a_few_connections_ended_is_not_given_up() {
    let now = Instant::now();
    let mut session = connected_session(now);
    for _ in 0..4 {
        session.submit(batch(&["a"]), 0, 1);
        session.on_accepted(3, 3, now);
        session.on_connection_ended(now + second(5), End::Broken);
        assert_eq!(finished(&mut session), [(1, RETRY)]);
        session.on_connected(now);
    }
    session.submit(batch(&["a"]), 0, 1);
    assert_eq!(session.transmit(), b"1 a");
}
