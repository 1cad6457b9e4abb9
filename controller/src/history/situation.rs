//! The facts that the next step of a rollout depends on, and the states of agents.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{Attempt, Revisions};
use crate::fleet::{Agent, Fleet, Obstacle, lasts};
use crate::plan::Plan;
use crate::settings::{Settings, Timing};
use crate::snapshot::Snapshot;

/// The number of canary timeouts after which a trial fails whose agent does not stay ready.
const FLAPS: u32 = 3;

/// The names of nodes.
pub(super) type Nodes = BTreeSet<String>;

/// The facts that the next step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The wanted revision.
    pub wanted: &'a str,
    /// The name of its template.
    pub template: &'a str,
    /// The configurations of the revisions that agents or the history have.
    pub revisions: &'a Revisions,
    /// The agents.
    pub fleet: &'a Fleet,
    /// The maximum number of agents that are being replaced at the same time.
    pub at_once: usize,
    /// The intervals and timeouts.
    pub timing: Timing,
    /// The current time.
    pub now: Timestamp,
}

impl<'a> Situation<'a> {
    /// Returns the situation in which a plan was made from a snapshot.
    #[must_use]
    pub fn new(plan: &'a Plan, snapshot: &'a Snapshot, settings: &Settings) -> Self {
        let Snapshot {
            revisions,
            fleet,
            now,
            ..
        } = snapshot;
        Self {
            wanted: &plan.revision,
            template: &plan.template,
            revisions,
            fleet,
            at_once: settings.agent.at_once(fleet.wanted_nodes.unwrap_or(0)),
            timing: settings.timing,
            now: *now,
        }
    }
}

impl Situation<'_> {
    pub(super) fn agents_with<'s>(&'s self, revision: &'s str) -> impl Iterator<Item = &'s Agent> {
        let agents = self.fleet.agents.iter();
        agents.filter(move |agent| agent.revision == revision)
    }

    /// Returns the time since `since` during which the API server has answered, without
    /// interruption until now.
    pub(super) fn observed(&self, since: Timestamp) -> Duration {
        let observed = self.fleet.observed_since;
        lasts(
            observed.map_or(since, |observed| observed.max(since)),
            self.now,
        )
    }

    /// Returns whether an agent has been ready for long enough.
    pub(super) fn is_settled(&self, agent: &Agent) -> bool {
        let Timing { canary_ready, .. } = self.timing;
        let is_long = |since, span| self.observed(since) >= span;
        let Agent {
            created,
            ready_since,
            ..
        } = *agent;
        // A node's clock may be ahead, the API server's counts then.
        let is_old = created.is_some_and(|created| is_long(created, canary_ready * 6));
        let is_ahead = |since| since > self.now && is_old;
        // Or behind.
        let since = ready_since.map(|since| created.map_or(since, |created| since.max(created)));
        since.is_some_and(|since| is_long(since, canary_ready) || is_ahead(since))
    }

    /// Returns whether an agent has been ready for so long that a slow failure would have
    /// shown.
    pub(super) fn is_proven(&self, agent: &Agent) -> bool {
        let span = self.timing.canary_timeout * 2;
        let is_long = |since: Timestamp| lasts(since, self.now) >= span;
        // A node's clock may be ahead.
        let ready_since = agent.ready_since.filter(|since| *since <= self.now);
        self.is_settled(agent) && ready_since.max(agent.created).is_some_and(is_long)
    }

    /// Returns whether an agent had enough time to become ready several times.
    pub(super) fn is_long_there(&self, agent: &Agent) -> bool {
        let span = self.timing.canary_timeout * FLAPS;
        let is_long = |since| self.observed(since) >= span;
        agent.created.max(agent.observed_since).is_some_and(is_long)
    }

    /// Returns whether the pod of a trial is still to be created.
    pub(super) fn is_under_way(&self, trial: &Attempt) -> bool {
        let Fleet { absent, ending, .. } = self.fleet;
        let node = trial.node.as_ref();
        node.is_some_and(|(node, _)| {
            let is_absent = absent.contains_key(node) && !self.is_dead(node);
            is_absent || ending.contains(node)
        })
    }

    pub(super) fn is_dead(&self, node: &str) -> bool {
        let out = self.fleet.out_of_reach.get(node);
        out.is_some_and(|out| matches!(out.obstacle, Obstacle::NodeNotReady(_)))
    }

    /// Returns whether an agent that is not ready has been settled before.
    pub(super) fn was_ready(&self, agent: &Agent) -> bool {
        let since = agent.not_ready_since.zip(agent.created);
        since.is_some_and(|(since, created)| lasts(created, since) >= self.timing.canary_ready)
    }

    /// Returns whether an agent is ready, or was until a moment ago.
    pub(super) fn works(&self, agent: &Agent) -> bool {
        agent.ready_since.is_some() || (self.was_ready(agent) && !self.is_unhealthy(agent))
    }

    /// Returns whether an agent will not become ready.
    pub(super) fn is_unhealthy(&self, agent: &Agent) -> bool {
        agent.is_unhealthy(self.timing.canary_timeout, self.now)
    }

    /// Returns whether an attempt has had the time in which an agent starts.
    pub(super) fn is_late(&self, attempt: &Attempt) -> bool {
        self.observed(attempt.since) >= self.timing.canary_timeout
    }
}
