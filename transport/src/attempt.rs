//! An attempt to connect to a server: the look-up of its name, its addresses one
//! after the other, and the handshakes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Interest;

use crate::connection::{Connection, Progress};
use crate::context::Context;
use crate::{Error, Target};

/// The time in which a TLS 1.3 peer that sends no session ticket can reject our
/// certificate. After that the connection counts as ready.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) struct Attempt {
    server: usize,
    /// The deadline of the current stage.
    deadline: Instant,
    stage: Stage,
    /// The addresses that were not tried yet.
    remaining: VecDeque<SocketAddr>,
}

enum Stage {
    LookingUp,
    Connecting {
        connection: Connection,
        confirm_until: Option<Instant>,
    },
    Ready(Connection),
}

impl Attempt {
    /// Starts an attempt that waits for the look-up of a server's name.
    pub(crate) fn look_up(target: &Target, server: usize, now: Instant) -> Self {
        Self {
            server,
            deadline: now + target.policy.connect_timeout,
            stage: Stage::LookingUp,
            remaining: VecDeque::new(),
        }
    }

    /// Starts to connect to the first of `addresses` that does not fail at once.
    /// The errors of the earlier ones are passed to `on_error`; the last address's
    /// error is returned.
    pub(crate) fn connect(
        target: &Target,
        server: usize,
        mut addresses: VecDeque<SocketAddr>,
        cx: &Context<'_>,
        mut on_error: impl FnMut(&Error),
    ) -> Result<Self, Error> {
        let endpoint = &target.servers[server];
        loop {
            let Some(address) = addresses.pop_front() else {
                let host = endpoint.host_name();
                return Err(Error::NoAddress { host });
            };
            let opened = Connection::open(target, address).and_then(|mut connection| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                cx.registry
                    .register(connection.source(), cx.token, interest)
                    .map_err(|source| Error::Connect {
                        peer: address,
                        source,
                    })?;
                Ok(connection)
            });
            match opened {
                Ok(connection) => {
                    return Ok(Self {
                        server,
                        deadline: cx.now + target.policy.connect_timeout,
                        stage: Stage::Connecting {
                            connection,
                            confirm_until: None,
                        },
                        remaining: addresses,
                    });
                }
                Err(error) if addresses.is_empty() => return Err(error),
                Err(error) => on_error(&error),
            }
        }
    }

    pub(crate) const fn server(&self) -> usize {
        self.server
    }

    pub(crate) const fn is_looking_up(&self) -> bool {
        matches!(self.stage, Stage::LookingUp)
    }

    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Returns the addresses that were not tried yet.
    pub(crate) fn into_remaining(self) -> VecDeque<SocketAddr> {
        self.remaining
    }

    /// Returns the connection, if it is ready.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        match self.stage {
            Stage::Ready(connection) => Some(connection),
            Stage::LookingUp | Stage::Connecting { .. } => None,
        }
    }

    /// Returns when to advance the attempt again.
    pub(crate) fn next_deadline(&self) -> Instant {
        match &self.stage {
            Stage::Connecting {
                confirm_until: Some(confirm),
                ..
            } => self.deadline.min(*confirm),
            _ => self.deadline,
        }
    }

    /// Returns whether the deadline of the current stage has passed.
    pub(crate) fn is_timed_out(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Advances the attempt as far as possible without blocking. Once the connection
    /// is ready, the deadline is the write timeout.
    pub(crate) fn advance(&mut self, target: &Target, now: Instant) -> Result<(), Error> {
        let timed_out = self.is_timed_out(now);
        // A placeholder takes the stage's place until the end of this function.
        let (mut connection, mut confirm_until) =
            match std::mem::replace(&mut self.stage, Stage::LookingUp) {
                Stage::Connecting {
                    connection,
                    confirm_until,
                } => (connection, confirm_until),
                other => {
                    self.stage = other;
                    return Ok(());
                }
            };
        let mut progress = connection.advance()?;
        if progress == Progress::Established
            && let Some(tls) = target.transport.tls()
        {
            connection = connection.start_tls(tls, &target.servers[self.server])?;
            progress = connection.advance()?;
        }
        let ready = match progress {
            Progress::Connecting | Progress::Established => false,
            Progress::Unconfirmed => now >= *confirm_until.get_or_insert(now + CONFIRM_TIMEOUT),
            Progress::Ready => true,
        };
        if ready {
            self.stage = Stage::Ready(connection);
            self.deadline = now + target.policy.write_timeout;
            return Ok(());
        }
        if timed_out {
            let peer = connection.peer().to_string();
            return Err(Error::ConnectTimeout { peer });
        }
        self.stage = Stage::Connecting {
            connection,
            confirm_until,
        };
        Ok(())
    }
}
