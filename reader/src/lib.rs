//! Reads the logs of containers on a node, as the kubelet and the container runtime write and
//! rotate them.
//!
//! ```text
//! /var/log/pods/<namespace>_<pod>_<uid>/<container>/
//!     0.log.20260301-120000.gz   rotated and compressed
//!     0.log.20260301-130000      rotated
//!     0.log                      the current file of the first run
//!     1.log                      of the next run, after a restart of the container
//!     2.log -> /var/lib/docker/containers/<id>/<id>-json.log    with Docker, a link
//!                                              <id>-json.log.1.gz, rotated by Docker
//!        v
//! container_log.rs   the files in order, from a position on, across renames and restarts
//!   begin.rs           the position from which several receivers can be served
//!   log_folder.rs      the files of the folder, and of links in it
//!     link.rs            the folder to which a link leads, if that is allowed
//!     docker.rs          the files that Docker has rotated
//!   file_name.rs       the order of the files
//!   source.rs          a file's bytes, compressed or not
//!   file_id.rs         the file's identity
//!        v
//! line.rs            CRI and json-file lines: time, stream, text
//!        v
//! assembler.rs       parts of long lines, joined
//!        v
//! container.rs       the texts of a container, from a position on
//!        ^
//! reader.rs          all containers of a node, in turns
//!   discovery.rs       folders of pods and containers, and changes in them
//!
//! labels.rs          the labels of pods, from files that `sink-agent` writes
//! ```
//!
//! The crate has no threads and no clock: time comes in as a value.
#![forbid(unsafe_code)]

pub mod assembler;
pub mod begin;
pub mod container;
pub mod container_log;
pub mod discovery;
mod docker;
pub mod file_id;
pub mod file_name;
pub mod labels;
pub mod line;
mod link;
mod log_folder;
pub mod pod_folder;
pub mod reader;
mod source;

pub use self::container::{Container, Item, Position, Turn};
pub use self::log_folder::LogFolder;
pub use self::reader::{Backlog, ContainerId, Event, Passage, Reader, Receiver};
