//! One try to connect to one server: its name looked up, one address after the
//! other, the handshakes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Interest;

use crate::connection::{Connection, Progress};
use crate::turn::Turn;
use crate::{Error, Target};

/// How long a TLS 1.3 peer that sends no session ticket has to refuse our
/// certificate, before it counts as content.
const CONFIRM: Duration = Duration::from_millis(500);

pub(crate) struct Attempt {
    server: usize,
    /// When to give the current address up.
    until: Instant,
    stage: Stage,
    others: VecDeque<SocketAddr>,
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
    /// Waits for the addresses of a server's name.
    pub(crate) fn look_up(target: &Target, server: usize, now: Instant) -> Self {
        Self {
            server,
            until: now + target.policy.connect_timeout,
            stage: Stage::LookingUp,
            others: VecDeque::new(),
        }
    }

    /// Begins to connect to the first of `addresses` that does not fail at
    /// once. What is wrong with the others is told to `tell`.
    pub(crate) fn connect(
        target: &Target,
        server: usize,
        mut addresses: VecDeque<SocketAddr>,
        turn: &Turn<'_>,
        mut tell: impl FnMut(&Error),
    ) -> Result<Self, Error> {
        let endpoint = &target.servers[server];
        loop {
            let Some(address) = addresses.pop_front() else {
                let host = endpoint.host_name();
                return Err(Error::NoAddress { host });
            };
            let opened = Connection::open(target, address).and_then(|mut connection| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                turn.registry
                    .register(connection.source(), turn.token, interest)
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
                        until: turn.now + target.policy.connect_timeout,
                        stage: Stage::Connecting {
                            connection,
                            confirm_until: None,
                        },
                        others: addresses,
                    });
                }
                Err(error) if addresses.is_empty() => return Err(error),
                Err(error) => tell(&error),
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

    /// The addresses that were not tried.
    pub(crate) fn into_others(self) -> VecDeque<SocketAddr> {
        self.others
    }

    /// The connection, once it is ready.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        match self.stage {
            Stage::Ready(connection) => Some(connection),
            Stage::LookingUp | Stage::Connecting { .. } => None,
        }
    }

    /// When the attempt has to be looked at again.
    pub(crate) fn next_turn(&self) -> Instant {
        match &self.stage {
            Stage::Connecting {
                confirm_until: Some(confirm),
                ..
            } => self.until.min(*confirm),
            _ => self.until,
        }
    }

    /// Whether its time is over.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Goes on as far as it goes without waiting. One that is ready has the
    /// write timeout until it is late.
    pub(crate) fn advance(&mut self, target: &Target, now: Instant) -> Result<(), Error> {
        let late = self.is_late(now);
        // The place holds something else for as long as it takes.
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
            connection = connection.secure(tls, &target.servers[self.server])?;
            progress = connection.advance()?;
        }
        let ready = match progress {
            Progress::Connecting | Progress::Established => false,
            Progress::Unconfirmed => now >= *confirm_until.get_or_insert(now + CONFIRM),
            Progress::Ready => true,
        };
        if ready {
            self.stage = Stage::Ready(connection);
            self.until = now + target.policy.write_timeout;
            return Ok(());
        }
        if late {
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
