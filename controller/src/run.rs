//! The main loop, the equivalent of a `reconcile` function for the whole cluster: watch,
//! gather changes, plan, decide, apply, write statuses. Events are relayed beside it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, runtime::reflector};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::apply::Applier;
use crate::delivery::Observations;
use crate::error::Error;
use crate::events::{Relay, Routes};
use crate::history::Situation;
use crate::lease::Candidate;
use crate::monitor::Monitor;
use crate::plan::Plan;
use crate::scrape::scrape;
use crate::settings::Settings;
use crate::status::{Decided, StatusWriter};
use crate::watch::Watched;

/// The reason why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A watch ended.
    #[error("cannot watch the API server: {0}")]
    Watch(#[from] reflector::store::WriterDropped),
    /// The event loop that sends events cannot be started.
    #[error("cannot send events: {0}")]
    Send(#[from] io::Error),
}

/// Runs until `stop` is ready. Of several controllers in a cluster, only the leader acts.
///
/// # Errors
///
/// Where nothing can be watched at all; everything else is tried again.
pub async fn run(
    client: Client,
    settings: &Settings,
    mut candidate: Candidate,
    monitor: &Monitor,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let mut relay = Relay::new(&client, settings, monitor)?;
    let reign = Box::pin(async {
        let watched = Watched::start(client.clone(), settings, monitor).await?;
        monitor.ready();
        loop {
            let since = candidate.lead().await;
            watched.begin();
            monitor.leads(true);
            // What was begun is left as it is: the next leader goes on with it.
            tokio::select! {
                () = candidate.stay(since) => {}
                () = lead(&client, &watched, settings, monitor, &mut relay) => {}
            }
            monitor.leads(false);
            relay.stop();
        }
    });
    let ended = tokio::select! {
        ended = reign => ended,
        () = stop => Ok(()),
    };
    relay.end().await;
    candidate.resign().await;
    ended
}

async fn lead(
    client: &Client,
    watched: &Watched,
    settings: &Settings,
    monitor: &Monitor,
    relay: &mut Relay<'_>,
) {
    let observations = Mutex::new(Observations::default());
    let (routes, to) = watch::channel(Routes::default());
    tokio::join!(
        scrape(watched, settings, &observations, monitor),
        work(client, watched, settings, &observations, &routes, monitor),
        relay.lead(to, &observations),
    );
}

async fn work(
    client: &Client,
    watched: &Watched,
    settings: &Settings,
    observations: &Mutex<Observations>,
    routes: &watch::Sender<Routes>,
    monitor: &Monitor,
) {
    let timing = settings.timing;
    let status_writer = StatusWriter::new(client.clone(), watched, monitor, timing);
    let mut failures = 0;
    let mut decided: Option<Decided> = None;
    loop {
        let round = timeout(
            timing.request_timeout,
            round(client, watched, settings, routes, monitor),
        )
        .await;
        let round = round.map_err(Error::from).flatten();
        monitor.round(round.is_ok());
        let mut next: Pin<Box<dyn Future<Output = ()> + Send>> = match round {
            Ok(new) => {
                failures = 0;
                // A rollout in progress is checked often, and replaced agents cause changes all
                // the time.
                let (again, most) = if new.history.is_settled(&new.plan.revision) {
                    (timing.resync, timing.max_debounce)
                } else {
                    (timing.canary_ready.min(timing.resync), timing.debounce)
                };
                decided = Some(new);
                Box::pin(gather(watched, timing.debounce, most, again))
            }
            Err(error) => {
                tracing::warn!(%error, failures, "cannot apply the configuration");
                let wait = timing.retry * 2_u32.saturating_pow(failures);
                failures += 1;
                Box::pin(sleep(wait.min(timing.resync)))
            }
        };
        loop {
            // Statuses that are not written in time are written next: a round must not wait
            // for them.
            if let Some(decided) = &decided
                && let writing = status_writer.write_all(decided, observations)
                && let Err(late) = timeout(timing.request_timeout, writing).await
            {
                tracing::warn!(%late, "timed out while writing statuses");
            }
            tokio::select! {
                () = &mut next => break,
                () = sleep(timing.scrape_interval) => {}
            }
        }
    }
}

/// Runs one round, from the snapshot to the applied objects: `reconcile`, in the words of
/// kube-rs.
async fn round(
    client: &Client,
    watched: &Watched,
    settings: &Settings,
    routes: &watch::Sender<Routes>,
    monitor: &Monitor,
) -> Result<Decided, Error> {
    let mut snapshot = watched.snapshot(settings).await?;
    monitor.fleet(&snapshot.fleet);
    let begun = Instant::now();
    let plan = Plan::new(&snapshot, settings);
    monitor.planned(begun.elapsed().as_secs_f64());
    // Events wait for no agent.
    routes.send_if_modified(|routes| {
        let is_news = *routes != plan.routes;
        routes.clone_from(&plan.routes);
        is_news
    });

    let before = snapshot.history.failed.clone();
    let situation = Situation::new(&plan, &snapshot, settings);
    let (history, step) = snapshot.history.clone().next(&situation);
    if history.failed != before
        && let Some(failed) = &history.failed
    {
        monitor.took_back();
        tracing::error!(
            revision = failed.revision,
            why = failed.setback.why,
            "rolling back a revision"
        );
    }
    let blocks = history.blocks(&plan.revision, &plan.template);
    monitor.is_blocked(blocks.is_some());
    // One for each round: the Deployment may be another one now.
    let applier = Applier::new(client.clone(), settings).await?;
    applier.apply(&plan, &snapshot, &history, &step).await?;
    tracing::info!(
        revision = plan.revision,
        ?step,
        sinks = plan.verdicts.len(),
        "applied"
    );

    let of_plan = snapshot.revisions.entry(plan.revision.clone());
    of_plan.or_insert_with(|| Arc::new(plan.configuration.clone()));
    let decided = Decided {
        plan,
        versions: snapshot.versions,
        history,
        revisions: snapshot.revisions,
    };
    Ok(decided)
}

/// Waits for a change, and then until there was none for `quiet`, at most for `most`.
/// Returns without a change after `again`.
async fn gather(watched: &Watched, quiet: Duration, most: Duration, again: Duration) {
    if timeout_at(Instant::now() + again, watched.changed())
        .await
        .is_err()
    {
        return;
    }
    let end = Instant::now() + most;
    loop {
        let quiet = (Instant::now() + quiet).min(end);
        tokio::select! {
            () = sleep_until(quiet) => return,
            () = watched.changed() => {}
        }
    }
}
