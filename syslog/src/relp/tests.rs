use super::*;

fn welcome() -> Vec<u8> {
    let data = b"200 OK\nrelp_version=0\nrelp_software=x\ncommands=eventlog,syslog";
    let mut bytes = Vec::new();
    push_frame(&mut bytes, 1, "rsp", data);
    bytes
}

fn opened(window: usize) -> Relp {
    let mut relp = Relp::new(window);
    relp.receive(&welcome()).unwrap();
    relp.on_written(relp.output().len());
    relp
}

/// Returns the output, and marks all of it as written.
fn written(relp: &mut Relp) -> String {
    let text = String::from_utf8(relp.output().to_vec()).unwrap();
    relp.on_written(text.len());
    text
}

#[test]
fn no_message_is_sent_before_the_response_to_open() {
    let mut relp = Relp::new(10);
    assert!(!relp.send(b"early"));
    let open = written(&mut relp);
    assert!(open.starts_with("1 open "), "{open}");
    assert!(open.contains("relp_version=0\n"), "{open}");
    assert!(open.ends_with("commands=syslog\n"), "{open}");
    relp.receive(&welcome()).unwrap();
    assert!(relp.is_open());
    assert!(relp.send(b"hello"));
    assert_eq!(written(&mut relp), "2 syslog 5 hello\n");
}

#[test]
fn messages_are_acknowledged_in_order() {
    let mut relp = opened(10);
    for message in [b"a", b"b", b"c"] {
        assert!(relp.send(message));
    }
    assert_eq!((relp.sent(), relp.acknowledged()), (3, 0));
    relp.receive(b"3 rsp 6 200 OK\n").unwrap();
    assert_eq!(relp.acknowledged(), 0);
    relp.receive(b"2 rsp 6 200 OK\n4 rsp 3 200\n").unwrap();
    assert_eq!(relp.acknowledged(), 3);
}

#[test]
fn the_window_limits_the_unacknowledged_messages() {
    let mut relp = opened(2);
    assert!(relp.send(b"a") && relp.send(b"b"));
    assert!(!relp.send(b"c"));
    relp.receive(b"2 rsp 6 200 OK\n").unwrap();
    assert!(relp.send(b"c"));
    assert!(!relp.send(b"d"));
}

#[test]
fn the_unwritten_output_is_limited() {
    let mut relp = opened(1000);
    let message = vec![b'x'; OUTPUT / 2];
    assert!(relp.send(&message) && relp.send(&message));
    assert!(!relp.send(&message));
    relp.on_written(relp.output().len());
    assert!(relp.send(&message));
}

#[test]
fn transaction_numbers_wrap_around() {
    let mut relp = opened(10);
    relp.next = LAST_TRANSACTION - 1;
    for message in [b"a", b"b", b"c"] {
        assert!(relp.send(message));
    }
    assert_eq!(
        written(&mut relp),
        "999999998 syslog 1 a\n999999999 syslog 1 b\n1 syslog 1 c\n"
    );
    relp.receive(b"999999998 rsp 6 200 OK\n999999999 rsp 6 200 OK\n1 rsp 6 200 OK\n")
        .unwrap();
    assert_eq!(relp.acknowledged(), 3);
    let error = relp.receive(b"1 rsp 6 200 OK\n").unwrap_err();
    assert!(matches!(error, RelpError::Transaction { got: 1, .. }));
}

#[test]
fn the_response_to_close_may_have_no_status() {
    for answer in ["3 rsp 0\n", "3 rsp 6 200 OK\n"] {
        let mut relp = opened(10);
        assert!(relp.send(b"a"));
        relp.close();
        assert!(!relp.send(b"late"));
        assert_eq!(written(&mut relp), "2 syslog 1 a\n3 close 0\n");
        relp.receive(b"2 rsp 6 200 OK\n").unwrap();
        assert!(!relp.is_closed());
        relp.receive(answer.as_bytes()).unwrap();
        assert!(relp.is_closed());
        assert_eq!(relp.acknowledged(), 1);
    }
}

#[test]
fn invalid_responses_end_the_session() {
    for (answer, expected) in [
        (
            "7 rsp 6 200 OK\n",
            "unexpected response to transaction 7, only 2 to 3 are open",
        ),
        ("1 rsp 6 200 OK\n", "unexpected response to transaction 1"),
        ("0 rsp 6 200 OK\n", "unexpected response to transaction 0"),
        (
            "3 rsp 6 200 OK\n3 rsp 6 200 OK\n",
            "unexpected response to transaction 3",
        ),
        (
            "2 rsp 9 500 sorry\n",
            "the server rejected the command \"syslog\": \"500 sorry\"",
        ),
        ("2 rsp 0\n", "has no status code"),
        ("2 rsp 2 OK\n", "has no status code"),
        ("2 syslog 1 x\n", "unexpected command \"syslog\""),
        ("0 serverclose 0\n", "the server closed the session"),
        ("hello\n", "the received data is not RELP"),
    ] {
        let mut relp = opened(10);
        assert!(relp.send(b"a") && relp.send(b"b"));
        let error = relp.receive(answer.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(expected), "{answer:?}: {error}");
    }
}

#[test]
fn a_server_without_the_needed_offers_is_rejected() {
    for data in [
        "200 OK",
        "200 OK\nrelp_version=1\ncommands=syslog",
        "200 OK\nrelp_version=0\ncommands=eventlog",
        "200 OK\nrelp_version=0\ncommands=syslogx",
        "500 no",
    ] {
        let mut answer = Vec::new();
        push_frame(&mut answer, 1, "rsp", data.as_bytes());
        assert!(Relp::new(10).receive(&answer).is_err(), "{data:?}");
    }
}
