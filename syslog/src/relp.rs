//! The client side of RELP, the Reliable Event Logging Protocol, as a state machine.
//! The protocol's specification is librelp's `doc/relp.html`.
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
//! The receiver's program acknowledges each message, unlike with TCP, where its kernel
//! acknowledges bytes. Messages that are unacknowledged when the connection ends must
//! be sent again on the next connection.
//!
//! RELP is a layer of the connection, without I/O like the session. To the session it
//! looks like any other stream, with a sent position and an acknowledged position,
//! except that positions count messages. Nothing is replayed: unacknowledged messages
//! are part of the batch's next submission.

use std::collections::VecDeque;

use thiserror::Error;

mod frame;

use self::frame::{Frame, push_frame};
pub use self::frame::{FrameError, Frames, MAX_DATA};

/// The client's offers: the protocol version, the software, and the only command that
/// it needs.
const OFFERS: &[u8] = concat!(
    "relp_version=0\nrelp_software=syslog-sink,",
    env!("CARGO_PKG_VERSION"),
    "\ncommands=syslog"
)
.as_bytes();
/// The last transaction number. It has nine digits, and the number after it is 1.
const LAST_TRANSACTION: u32 = 999_999_999;
/// The maximum size in bytes of the unwritten output before no more messages are
/// accepted.
const OUTPUT: usize = 64 * 1024;
/// The maximum length in bytes of the peer's text in an error.
const EXCERPT: usize = 80;

/// The reason why a RELP session failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RelpError {
    /// The received data is not a RELP frame.
    #[error("the received data is not RELP: {0}")]
    Frame(#[from] FrameError),
    /// The server sent a command that is not a server's command.
    #[error("unexpected command {0:?}, a server may send only rsp and serverclose")]
    Command(String),
    /// The server responded to a transaction that does not exist, or that it had
    /// responded to before.
    #[error("unexpected response to transaction {got}, only {first} to {last} are open")]
    Transaction {
        /// The transaction number of the response.
        got: u32,
        /// The first transaction without a response.
        first: u32,
        /// The last transaction that was sent.
        last: u32,
    },
    /// A response has no status code.
    #[error("the response to transaction {transaction} has no status code: {text:?}")]
    Status {
        /// The transaction number.
        transaction: u32,
        /// The beginning of the response.
        text: String,
    },
    /// The server rejected a command.
    #[error("the server rejected the command {command:?}: {text:?}")]
    Rejected {
        /// The command.
        command: &'static str,
        /// The status code and the text of the response.
        text: String,
    },
    /// The server does not offer the command or the version that the client needs.
    #[error("the server does not offer the command \"syslog\" of RELP version 0: {0:?}")]
    Offers(String),
    /// The server closed the session.
    #[error("the server closed the session (serverclose)")]
    ServerClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    /// The close command was sent.
    Closing,
    /// The server has responded to the close command.
    Closed,
}

/// A RELP session on one connection. See the [module](self).
#[derive(Debug)]
pub struct Relp {
    state: State,
    window: usize,
    /// The number of the next command.
    next: u32,
    /// The commands from the first one without a response on, oldest first: whether
    /// the server has responded to each.
    open: VecDeque<bool>,
    /// The number of messages accepted by [`Relp::send`].
    sent: u64,
    /// The number of messages acknowledged without a gap.
    acknowledged: u64,
    output: Vec<u8>,
    input: Frames,
}

impl Relp {
    /// Begins a session with at most `window` unacknowledged messages.
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

    /// Whether the server has responded to the open command.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Opening
    }

    /// Whether the server has responded to the close command.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Queues a message. Returns false if the message was not accepted, because the
    /// window is full, too much output is unwritten, or the session is not open.
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

    /// Returns the number of messages accepted by [`Relp::send`].
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns the number of messages, counted from the first, that were all
    /// acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Returns the bytes to be written to the connection.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Removes the first `count` bytes of the output, which were written.
    pub fn on_written(&mut self, count: usize) {
        self.output.drain(..count);
    }

    /// Sends the close command, if the session is open.
    pub fn close(&mut self) {
        if self.state == State::Open {
            self.push("close", b"");
            self.state = State::Closing;
        }
    }

    /// Processes bytes from the server.
    ///
    /// # Errors
    ///
    /// Returns an error if the session failed. The connection must be closed then.
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
        let Some(responded) = self.open.get_mut(index).filter(|responded| !**responded) else {
            return Err(RelpError::Transaction {
                got: frame.transaction,
                first,
                last: before(self.next, 1),
            });
        };
        *responded = true;
        // The close command is the last command, and its response may be empty.
        let is_last = index + 1 == self.open.len();
        if self.state == State::Closing && is_last {
            self.state = State::Closed;
            return Ok(());
        }
        let opening = self.state == State::Opening;
        match frame.data {
            [b'2', b'0', b'0', ..] => {}
            [a, b, c, ..] if [a, b, c].iter().all(|byte| byte.is_ascii_digit()) => {
                return Err(RelpError::Rejected {
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

/// Checks the offers in the response to the open command: `name=value` lines after the
/// first line.
fn check_offers(data: &[u8]) -> Result<(), RelpError> {
    let error = || RelpError::Offers(excerpt(data));
    let value = |name: &[u8]| {
        let mut lines = data.split(|byte| *byte == b'\n').skip(1);
        lines.find_map(|line| line.strip_prefix(name))
    };
    if value(b"relp_version=").is_some_and(|version| version != b"0") {
        return Err(error());
    }
    let commands = value(b"commands=").ok_or_else(error)?;
    let mut commands = commands.split(|byte| *byte == b',');
    if commands.any(|command| command == b"syslog") {
        Ok(())
    } else {
        Err(error())
    }
}

/// Returns the transaction number that comes `count` numbers before `transaction`.
const fn before(transaction: u32, count: usize) -> u32 {
    let count = count as u32;
    if transaction > count {
        transaction - count
    } else {
        transaction + LAST_TRANSACTION - count
    }
}

/// Returns the number of transactions from `first` to `transaction`, not counting the
/// latter.
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
