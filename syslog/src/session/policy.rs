//! The bounds of a session.

use std::time::Duration;

use crate::ReplayBuffer;

/// The bounds of a session's waits and memory.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The longest attempt to connect, handshakes included: kept by the driver.
    pub connect_timeout: Duration,
    /// The longest time without a byte more acknowledged while some are
    /// outstanding.
    pub write_timeout: Duration,
    /// How long a closed connection is watched for a reset, and how old an
    /// acknowledgement must be at the close for its frames to count as read.
    pub close_timeout: Duration,
    /// The shortest wait after a failure.
    pub backoff_min: Duration,
    /// The longest wait after many failures.
    pub backoff_max: Duration,
    /// How many bytes of frames are kept to be sent again.
    pub replay_buffer: ReplayBuffer,
    /// How long they are kept.
    pub replay_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            replay_buffer: ReplayBuffer::FollowWindow,
            replay_age: Duration::from_secs(300),
        }
    }
}
