//! A group of records of one container.
//!
//! The metadata of the group holds it beside the `kubernetes` map, whose `pod_id` and
//! `container_name` name the container:
//!
//! ```text
//! {"kubernetes": {...}, "pod_logs": {"begin": 0, "from": 0, "to": 0, "position": "", "last": false}}
//! ```

/// The key of the map in a group's metadata.
pub const KEY: &str = "pod_logs";

/// The place of a group's records in a container's log.
///
/// Places are numbers of bytes of the log. The first number of a container is arbitrary; of two
/// places of a container, the later one has the higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The UID of the container's pod.
    pub uid: &'a str,
    /// The name of the container.
    pub container: &'a str,
    /// The place at which the input began to read the container. Nothing before it comes.
    pub begin: u64,
    /// The place of the first record.
    pub from: u64,
    /// The place after the last record.
    pub to: u64,
    /// The position of `to` for the input.
    pub position: &'a str,
    /// Whether the container is gone, and nothing follows.
    pub is_last: bool,
}
