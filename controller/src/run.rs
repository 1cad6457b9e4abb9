//! The controller's life: watch, gather, plan, apply, tell, again.

use std::time::Duration;

use kube::{Client, runtime::reflector};
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::apply::apply;
use crate::lease::Candidate;
use crate::plan::{Plan, Settings};
use crate::status;
use crate::watch::Watched;

/// When something is done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Changes are gathered until there was none for so long,
    pub quiet: Duration,
    /// but no longer than this.
    pub gather: Duration,
    /// After this everything is looked at again, changed or not: Secrets are
    /// not watched, and pods become ready.
    pub resync: Duration,
    /// The wait after a failure, twice as long after each further one, up to
    /// the resync.
    pub retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(3),
            gather: Duration::from_secs(15),
            resync: Duration::from_secs(30),
            retry: Duration::from_secs(1),
        }
    }
}

/// Why the controller ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// A watch ended.
    #[error("cannot watch the API server: {0}")]
    Watch(#[from] reflector::store::WriterDropped),
}

/// Runs until `stop` is ready. Only one controller of a cluster does anything:
/// the one that leads.
///
/// # Errors
///
/// Where nothing can be watched at all; everything else is tried again.
pub async fn run(
    client: Client,
    settings: &Settings,
    pace: Pace,
    mut candidate: Candidate,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let watched = Watched::start(client.clone()).await?;
    let reign = async {
        loop {
            candidate.lead().await;
            // What was begun is left as it is: the next leader goes on with it.
            tokio::select! {
                () = candidate.stay() => {}
                () = work(&client, &watched, settings, pace) => {}
            }
        }
    };
    tokio::select! {
        () = reign => {}
        () = stop => {}
    }
    candidate.resign().await;
    Ok(())
}

async fn work(client: &Client, watched: &Watched, settings: &Settings, pace: Pace) {
    let mut failures = 0;
    loop {
        match once(client, watched, settings).await {
            Ok(()) => failures = 0,
            Err(error) => {
                tracing::warn!(%error, failures, "the API server did not take everything");
                let wait = pace.retry * 2_u32.saturating_pow(failures);
                sleep(wait.min(pace.resync)).await;
                failures += 1;
                continue;
            }
        }
        gather(watched, pace).await;
    }
}

async fn once(client: &Client, watched: &Watched, settings: &Settings) -> kube::Result<()> {
    let snapshot = watched.snapshot(settings).await?;
    let plan = Plan::new(&snapshot, settings);
    let rollout = apply(client, &plan, settings).await?;
    tracing::info!(revision = plan.revision, ?rollout, "applied");
    status::write(client, watched, &plan, rollout).await
}

/// Waits for a change, and for those that come with it.
async fn gather(watched: &Watched, pace: Pace) {
    let resync = Instant::now() + pace.resync;
    if timeout_at(resync, watched.changed()).await.is_err() {
        return;
    }
    let end = Instant::now() + pace.gather;
    loop {
        let quiet = (Instant::now() + pace.quiet).min(end);
        tokio::select! {
            () = sleep_until(quiet) => return,
            () = watched.changed() => {}
        }
    }
}
