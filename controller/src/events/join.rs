//! Lists of existing Events for sinks that are new.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::lenient::Lenient;
use crate::snapshot::SinkId;
use crate::tenants::Reads;

/// The number of Events in a page. A page is in memory as a whole, and each Event can be
/// larger than a megabyte.
pub(super) const PAGE: u32 = 50;
/// The maximum number of concurrent lists.
const MAX_CONCURRENT: usize = 4;
/// The maximum number of pages that wait.
const PAGES: usize = 4;
/// The wait before a failed list is repeated.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// A part of a list.
#[derive(Debug)]
pub(super) enum Joined {
    Page(SinkId, u64, Vec<Lenient<Event>>),
    Complete(SinkId, u64),
}

/// The lists in progress. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Joins {
    tasks: JoinSet<()>,
    permits: Arc<Semaphore>,
    sender: Sender<Joined>,
    receiver: Receiver<Joined>,
}

impl Joins {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel(PAGES);
        Self {
            tasks: JoinSet::new(),
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            sender,
            receiver,
        }
    }

    /// Starts the list of the Events that a sink reads, with this number.
    pub(super) fn begin(&mut self, client: &Client, id: SinkId, number: u64, reads: &Reads) {
        while self.tasks.try_join_next().is_some() {}
        let api = match reads {
            Reads::Only(namespaces) if namespaces.len() == 1 => {
                let namespace = namespaces.first().expect("it has one");
                Api::namespaced(client.clone(), namespace)
            }
            _ => Api::all(client.clone()),
        };
        let (permits, sender) = (Arc::clone(&self.permits), self.sender.clone());
        self.tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            while let Err(error) = list(&api, &id, number, &sender).await {
                tracing::warn!(sink = %id, %error, "cannot list events");
                sleep(RETRY_WAIT).await;
            }
            // Without a receiver, this controller no longer leads.
            let _ = sender.send(Joined::Complete(id, number)).await;
        });
    }

    /// Returns the next part of any list.
    pub(super) async fn next(&mut self) -> Joined {
        let next = self.receiver.recv().await;
        next.expect("a sender is kept beside it")
    }
}

async fn list(
    api: &Api<Lenient<Event>>,
    id: &SinkId,
    number: u64,
    sender: &Sender<Joined>,
) -> kube::Result<()> {
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await?;
        let _ = sender
            .send(Joined::Page(id.clone(), number, page.items))
            .await;
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => {
                parameters = parameters.continue_token(&token);
            }
            _ => return Ok(()),
        }
    }
}
