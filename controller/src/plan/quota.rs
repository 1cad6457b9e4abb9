//! Quotas: the share of every node that sinks may use.

use api::Reason;

use super::fields::BUFFER_LIMIT;
use super::refusal::Refusal;
use crate::render;
use crate::settings::{QueueSettings, Settings, Size};
use crate::tenants::Accepted;

/// The maximum number of bytes of a namespace's configuration and certificates: a Secret
/// holds 1 MiB.
const BYTES: usize = 512 * 1024;

/// The usage of a namespace so far.
#[derive(Debug, Default)]
pub(super) struct Quota {
    sinks: usize,
    bytes: usize,
    /// The sum of the queues' limits on a node's disk, in bytes.
    queued: u64,
}

impl Quota {
    /// Adds the usage of a sink.
    pub(super) fn take(
        &mut self,
        sink: &Accepted,
        rendered: &render::Sink,
        settings: &Settings,
    ) -> Result<(), Refusal> {
        let most = settings.max_sinks_per_namespace;
        if self.sinks == usize::from(most) {
            let message = format!(
                "the namespace has {most} older sinks, and no more are allowed \
                 (maxSinksPerNamespace of the controller's settings)"
            );
            return Err(Refusal::new(Reason::TooManySinks, &message));
        }
        let size = rendered.size();
        if self.bytes + size > BYTES {
            let message = format!(
                "with {size} bytes for this one the namespace's sinks have more than {BYTES} bytes \
                 of configuration and certificates"
            );
            return Err(Refusal::new(Reason::TooLarge, &message));
        }
        let QueueSettings {
            max_per_sink,
            max_per_namespace,
            ..
        } = settings.queues;
        if sink.buffer_limit > max_per_sink.0 {
            let limit = Size(sink.buffer_limit);
            let problem = format!(
                "the operator allows at most {max_per_sink} (queues.maxPerSink of the \
                 controller's settings)"
            );
            return Err(Refusal::value(
                BUFFER_LIMIT.name,
                &limit.to_string(),
                &problem,
            ));
        }
        if self.queued + sink.buffer_limit > max_per_namespace.0 {
            let message = format!(
                "{}: older sinks of the namespace have {} of a node's disk, and together at most \
                 {max_per_namespace} are allowed (queues.maxPerNamespace of the controller's \
                 settings)",
                BUFFER_LIMIT.name,
                Size(self.queued)
            );
            return Err(Refusal::new(Reason::TooLarge, &message));
        }
        self.sinks += 1;
        self.bytes += size;
        self.queued += sink.buffer_limit;
        Ok(())
    }
}

/// Checks the number of cluster sinks.
pub(super) fn has_room_for_cluster_sink(
    cluster_sinks: usize,
    settings: &Settings,
) -> Result<(), Refusal> {
    let most = settings.max_cluster_sinks;
    if cluster_sinks < usize::from(most) {
        return Ok(());
    }
    let message = format!(
        "there are {most} older ClusterLogSinks, and no more are allowed (maxClusterSinks of the \
         controller's settings)"
    );
    Err(Refusal::new(Reason::TooManySinks, &message))
}
