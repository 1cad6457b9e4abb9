//! The settings of a session.

use std::time::Duration;

use crate::ReplayBuffer;

/// The timeouts of a session, and the size of its replay buffer.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The maximum duration of a connection attempt, including handshakes. The driver
    /// enforces it.
    pub connect_timeout: Duration,
    /// The maximum time without an acknowledgement while bytes are unacknowledged.
    pub write_timeout: Duration,
    /// The time for which a closed connection is watched for a reset, and the minimum age
    /// that an acknowledgement must have at the close for its frames to count as read.
    pub close_timeout: Duration,
    /// The minimum wait after a failure.
    pub backoff_min: Duration,
    /// The maximum wait after many failures.
    pub backoff_max: Duration,
    /// The size of the replay buffer.
    pub replay_buffer: ReplayBuffer,
    /// The maximum age of the frames in the replay buffer.
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
