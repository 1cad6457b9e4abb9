//! The configurations of docs/MIGRATION.md, side by side in one Fluent Bit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use receiver::{Listen, Message, Options, Receiver, Splitter};
use rig::fluent_bit::{self, FluentBit};

const BOUND: Duration = Duration::from_secs(60);
const INPUT: &str = "\
[SERVICE]
    Flush 0.2

[INPUT]
    Name     dummy
    Samples  3
    Dummy    {\"facility\": \"local3\", \"level\": \"warning\", \"host\": \"web\", \"app\": \"shop\", \"pid\": \"7\", \"kind\": \"sale\", \"text\": \"one hat\"}

";

/// Returns the blocks between ```ini and ```.
fn blocks(document: &str) -> Vec<String> {
    let parts = document.split("```ini\n").skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

fn listen() -> Receiver {
    let mut options = Options::new(Listen::Tcp);
    options.splitter = Splitter::newline(65536);
    Receiver::start(options).unwrap()
}

/// Returns the first message without its time, in which the built-in output writes a
/// different number of digits.
fn first(receiver: &Receiver) -> Message {
    let received = receiver.wait_for(3, BOUND).unwrap();
    let mut message = received[0].message.clone().unwrap();
    message.timestamp = None;
    message
}

#[test]
fn messages_equal_those_of_the_built_in_output() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/MIGRATION.md");
    let [before, after] = blocks(&fs::read_to_string(document).unwrap())
        .try_into()
        .unwrap();
    let (old, new) = (listen(), listen());
    let before = before
        .replace("logs.example.com", "127.0.0.1")
        .replace("514", &old.port().to_string());
    let after = after.replace("logs.example.com:514", &new.address());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fluent-bit.conf");
    fs::write(&file, format!("{INPUT}{before}\n{after}")).unwrap();
    let fluent_bit = FluentBit::start(&program, &[host::library()], &file, &[]);
    let (old, new) = (first(&old), first(&new));
    assert_eq!(old, new, "{}", fluent_bit.log());
    assert_eq!(new.app_name.as_deref(), Some("shop"));
}
