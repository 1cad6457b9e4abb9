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

/// The minimum time without a leader that counts as an interruption. After a normal change, the
/// next leader follows within seconds.
const INTERRUPTION: Duration = Duration::from_secs(60);

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
    let lead_in_turn = Box::pin(async {
        let watched = Watched::start(client.clone(), settings, monitor).await?;
        monitor.ready();
        loop {
            let since = candidate.lead().await;
            let without_leader = candidate.time_without_leader();
            watched.start_observing(without_leader.is_some_and(|time| time >= INTERRUPTION));
            monitor.leads(true);
            // Unfinished work is left for the next leader.
            tokio::select! {
                () = candidate.stay(since) => {}
                () = lead(&client, &watched, settings, monitor, &mut relay) => {}
            }
            monitor.leads(false);
            relay.stop();
        }
    });
    let ended = tokio::select! {
        ended = lead_in_turn => ended,
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
        let result = timeout(
            timing.request_timeout,
            round(client, watched, settings, routes, monitor),
        )
        .await;
        let result = result.map_err(Error::from).flatten();
        monitor.round(result.is_ok());
        let mut next: Pin<Box<dyn Future<Output = ()> + Send>> = match result {
            Ok(new) => {
                failures = 0;
                // During a rollout, each replaced agent is a change: look again soon, and do
                // not debounce for long.
                let (max_debounce, resync) = if new.history.is_settled(&new.plan.revision) {
                    (timing.max_debounce, timing.resync)
                } else {
                    (timing.debounce, timing.canary_ready.min(timing.resync))
                };
                decided = Some(new);
                Box::pin(gather(watched, timing.debounce, max_debounce, resync))
            }
            Err(error) => {
                tracing::warn!(%error, failures, "cannot apply the configuration");
                let wait = timing.retry * 2_u32.saturating_pow(failures);
                failures += 1;
                Box::pin(sleep(wait.min(timing.resync)))
            }
        };
        loop {
            // A round must not wait for statuses: those that are not written in time are
            // written in the next pass.
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
        monitor.rolled_back();
        tracing::error!(
            revision = failed.revision,
            why = failed.setback.why,
            "rolling back a revision"
        );
    }
    let blocks = history.blocking_failure(&plan.revision, &plan.template);
    monitor.set_blocked(blocks.is_some());
    // Created in each round, because the owner Deployment may have been created again.
    let applier = Applier::new(client.clone(), settings).await?;
    applier.apply(&plan, &snapshot, &history, &step).await?;
    tracing::info!(
        revision = plan.revision,
        ?step,
        sinks = plan.verdicts.len(),
        "applied the configuration"
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

/// Waits for a change, and then until there was none for `debounce`, at most for
/// `max_debounce`. Returns without a change after `resync`.
async fn gather(watched: &Watched, debounce: Duration, max_debounce: Duration, resync: Duration) {
    if timeout_at(Instant::now() + resync, watched.changed())
        .await
        .is_err()
    {
        return;
    }
    let end = Instant::now() + max_debounce;
    loop {
        let quiet = (Instant::now() + debounce).min(end);
        tokio::select! {
            () = sleep_until(quiet) => return,
            () = watched.changed() => {}
        }
    }
}
