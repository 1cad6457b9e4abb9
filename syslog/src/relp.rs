//! The Reliable Event Logging Protocol, from the sender's side, as a state
//! machine (the protocol's specification is librelp's `doc/relp.html`).
//!
//! ```text
//! 1 open 85 relp_version=0 ...          -->
//!                                       <--  1 rsp 92 200 OK relp_version=0 ...
//! 2 syslog 22 <14>1 - - - - - - one     -->
//! 3 syslog 22 <14>1 - - - - - - two     -->
//!                                       <--  2 rsp 6 200 OK
//!                                       <--  3 rsp 6 200 OK
//! 4 close 0                             -->
//!                                       <--  4 rsp 0
//! ```
//!
//! Each message is acknowledged by the program that took it, not by its
//! machine's kernel. What is not acknowledged when the connection ends has to
//! be sent again on the next one.

use std::collections::VecDeque;

use thiserror::Error;

mod frame;

use self::frame::{Frame, push_frame};
pub use self::frame::{FrameError, Frames, MAX_DATA};

/// What we offer: the protocol's version, who we are, and the one command that
/// we want.
const OFFERS: &[u8] = concat!(
    "relp_version=0\nrelp_software=syslog-sink,",
    env!("CARGO_PKG_VERSION"),
    "\ncommands=syslog"
)
.as_bytes();
/// Transaction numbers have nine digits at most; one is the first again.
const LAST_TRANSACTION: u32 = 999_999_999;
/// How much may wait for the connection before no more messages are taken.
const OUTPUT: usize = 64 * 1024;
/// How much of a peer's text an error repeats.
const EXCERPT: usize = 80;

/// Why a RELP session cannot go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RelpError {
    /// What came is no RELP.
    #[error("what it sent is not RELP: {0}")]
    Frame(#[from] FrameError),
    /// A command that a server does not send.
    #[error("it sent the command {0:?}, and only rsp and serverclose are a server's")]
    Command(String),
    /// A response to something that was not sent, or answered before.
    #[error("it answered transaction {got}, and only {first} to {last} are open")]
    Transaction {
        /// The number answered.
        got: u32,
        /// The first that was not answered.
        first: u32,
        /// The last sent.
        last: u32,
    },
    /// A response without a status code.
    #[error("its response to transaction {transaction} has no status code: {text:?}")]
    Status {
        /// The transaction.
        transaction: u32,
        /// The response's beginning.
        text: String,
    },
    /// The server refused a command.
    #[error("it refused the command {command:?}: {text:?}")]
    Refused {
        /// The command.
        command: &'static str,
        /// The status code and the text.
        text: String,
    },
    /// The server's offers are none that we can use.
    #[error("it does not offer the command \"syslog\" of RELP version 0: {0:?}")]
    Offers(String),
    /// The server ends the session.
    #[error("it closes the session (serverclose)")]
    ServerClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    /// The close command was sent.
    Closing,
    /// It was answered.
    Closed,
}

/// A session on one connection. See the [module](self).
#[derive(Debug)]
pub struct Relp {
    state: State,
    window: usize,
    /// The number of the next command.
    next: u32,
    /// For each command without response before it, the oldest first: whether
    /// it was answered.
    open: VecDeque<bool>,
    /// Messages taken and acknowledged since the beginning.
    sent: u64,
    acknowledged: u64,
    output: Vec<u8>,
    input: Frames,
}

impl Relp {
    /// Begins a session that has at most `window` messages without response.
    #[must_use]
    pub fn new(window: usize) -> Self {
        let mut relp = Self {
            state: State::Opening,
            window,
            next: 1,
            open: VecDeque::new(),
            sent: 0,
            acknowledged: 0,
            output: Vec::new(),
            input: Frames::default(),
        };
        relp.push("open", OFFERS);
        relp
    }

    /// Whether the server has answered the open command.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Opening
    }

    /// Whether the server has answered the close command.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Takes a message, unless the window is full or the session is not open.
    #[must_use]
    pub fn send(&mut self, message: &[u8]) -> bool {
        let room = self.open.len() < self.window && self.output.len() < OUTPUT;
        if self.state != State::Open || !room {
            return false;
        }
        self.push("syslog", message);
        self.sent += 1;
        true
    }

    /// Messages taken.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages, from the first on, of which each was acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The bytes that are to be written.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So many of the bytes were written.
    pub fn on_written(&mut self, count: usize) {
        self.output.drain(..count);
    }

    /// Ends the session.
    pub fn close(&mut self) {
        if self.state == State::Open {
            self.push("close", b"");
            self.state = State::Closing;
        }
    }

    /// The server said this.
    ///
    /// # Errors
    ///
    /// Where the session cannot go on.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), RelpError> {
        let mut input = std::mem::take(&mut self.input);
        let result = input.push(bytes, |frame| self.on_frame(frame));
        self.input = input;
        result
    }

    fn push(&mut self, command: &'static str, data: &[u8]) {
        push_frame(&mut self.output, self.next, command, data);
        self.open.push_back(false);
        self.next = if self.next == LAST_TRANSACTION {
            1
        } else {
            self.next + 1
        };
    }

    fn on_frame(&mut self, frame: &Frame<'_>) -> Result<(), RelpError> {
        match frame.command {
            b"rsp" => self.on_response(frame),
            b"serverclose" => Err(RelpError::ServerClose),
            other => Err(RelpError::Command(excerpt(other))),
        }
    }

    fn on_response(&mut self, frame: &Frame<'_>) -> Result<(), RelpError> {
        let first = before(self.next, self.open.len());
        let index = distance(first, frame.transaction);
        let Some(answered) = self.open.get_mut(index).filter(|answered| !**answered) else {
            return Err(RelpError::Transaction {
                got: frame.transaction,
                first,
                last: before(self.next, 1),
            });
        };
        *answered = true;
        // The close command is the last one, and its response may be empty.
        let is_last = index + 1 == self.open.len();
        if self.state == State::Closing && is_last {
            self.state = State::Closed;
            return Ok(());
        }
        let opening = self.state == State::Opening;
        match frame.data {
            [b'2', b'0', b'0', ..] => {}
            [a, b, c, ..] if [a, b, c].iter().all(|byte| byte.is_ascii_digit()) => {
                return Err(RelpError::Refused {
                    command: if opening { "open" } else { "syslog" },
                    text: excerpt(frame.data),
                });
            }
            _ => {
                return Err(RelpError::Status {
                    transaction: frame.transaction,
                    text: excerpt(frame.data),
                });
            }
        }
        if opening {
            check_offers(frame.data)?;
            self.state = State::Open;
            self.open.pop_front();
            return Ok(());
        }
        while self.open.front() == Some(&true) {
            self.open.pop_front();
            self.acknowledged += 1;
        }
        Ok(())
    }
}

/// What follows the first line of the response to open: `name=value` lines.
fn check_offers(data: &[u8]) -> Result<(), RelpError> {
    let wrong = || RelpError::Offers(excerpt(data));
    let value = |name: &[u8]| {
        let mut lines = data.split(|byte| *byte == b'\n').skip(1);
        lines.find_map(|line| line.strip_prefix(name))
    };
    if value(b"relp_version=").is_some_and(|version| version != b"0") {
        return Err(wrong());
    }
    let commands = value(b"commands=").ok_or_else(wrong)?;
    let mut commands = commands.split(|byte| *byte == b',');
    if commands.any(|command| command == b"syslog") {
        Ok(())
    } else {
        Err(wrong())
    }
}

/// The transaction number `count` numbers before `transaction`.
const fn before(transaction: u32, count: usize) -> u32 {
    let count = count as u32;
    if transaction > count {
        transaction - count
    } else {
        transaction + LAST_TRANSACTION - count
    }
}

/// How many numbers `transaction` comes behind `first`.
const fn distance(first: u32, transaction: u32) -> usize {
    if transaction >= first {
        (transaction - first) as usize
    } else {
        (transaction + LAST_TRANSACTION - first) as usize
    }
}

fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(EXCERPT)]);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
