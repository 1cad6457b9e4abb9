//! The evidence of agents about revisions, and the choice of the agents to replace next.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use super::{Attempt, Revisions};
use crate::fleet::{Agent, Fleet, Obstacle, OutOfReach, lasts};
use crate::plan::Plan;
use crate::settings::{Settings, Timing};
use crate::snapshot::Snapshot;

/// The number of nodes on which pods must fail to start before a revision fails.
pub(super) const NOT_BEGUN: usize = 3;
/// The number of canary timeouts after which a trial fails whose agent does not stay ready.
const FLAPS: u32 = 3;
/// The maximum number of pods deleted in a step.
const AT_ONCE: usize = 100;

/// The names of nodes.
type Nodes = BTreeSet<String>;

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
            at_once: settings.agent.at_once(fleet.wanted.unwrap_or(0)),
            timing: settings.timing,
            now: *now,
        }
    }
}

/// The next step of the rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The revision of pods that are created from now on.
    pub template: String,
    /// The pods to delete, so that they are created again.
    pub replace: Vec<String>,
}

/// The failure of a revision.
pub(super) struct Failure {
    pub(super) why: String,
    /// The node whose agent failed with it; none if no agent started.
    pub(super) node: Option<String>,
}

impl Situation<'_> {
    pub(super) fn agents_with<'s>(&'s self, revision: &'s str) -> impl Iterator<Item = &'s Agent> {
        let agents = self.fleet.agents.iter();
        agents.filter(move |agent| agent.revision == revision)
    }

    /// Returns whether an agent has been ready for long enough.
    pub(super) fn is_settled(&self, agent: &Agent) -> bool {
        let Timing { canary_ready, .. } = self.timing;
        let is_long = |since, span| lasts(since, self.now) >= span;
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

    /// Returns whether all nodes within reach have the revision, and its agents are healthy
    /// except on nodes that were unhealthy before.
    pub(super) fn all_have(&self, roll: &Attempt, unhealthy: &Nodes) -> bool {
        let agents = &self.fleet.agents;
        let has_it = |agent: &Agent| agent.revision == roll.revision;
        let is_healthy = |agent: &Agent| self.is_settled(agent) || unhealthy.contains(&agent.node);
        let nodes = self.fleet.within_reach();
        !agents.is_empty()
            && nodes.is_some_and(|nodes| agents.len() >= nodes)
            && agents
                .iter()
                .all(|agent| has_it(agent) && is_healthy(agent))
            && self.fleet.not_started().all(has_it)
    }

    /// Returns whether a trial that is no longer wanted must be completed: frequent changes
    /// must not prevent that, and an agent's revision must get a result.
    pub(super) fn is_open(&self, trial: &Attempt, unhealthy: &Nodes) -> bool {
        let agents = self.fleet.agents.iter().chain(self.fleet.not_started());
        let mut with_it = agents.filter(|agent| agent.revision == trial.revision);
        with_it.any(|agent| !unhealthy.contains(&agent.node))
            || self.is_under_way(trial)
            || lasts(trial.since, self.now) < self.timing.canary_timeout
    }

    /// Returns whether the pod of a trial is still to be created.
    fn is_under_way(&self, trial: &Attempt) -> bool {
        let Fleet { absent, ending, .. } = self.fleet;
        let node = trial.node.as_ref();
        node.is_some_and(|(node, _)| absent.contains_key(node) || ending.contains(node))
    }

    /// Returns whether an agent will not become ready.
    pub(super) fn is_unhealthy(&self, agent: &Agent) -> bool {
        agent.is_unhealthy(self.timing.canary_timeout, self.now)
    }

    /// Returns the failure of a revision: of agents that were healthy before, or that do
    /// not start.
    pub(super) fn failure(&self, attempt: &Attempt, unhealthy: &Nodes) -> Option<Failure> {
        let revision = &attempt.revision;
        let mut failing = self.agents_with(revision).filter(|agent| {
            agent.has_begun && self.is_unhealthy(agent) && !unhealthy.contains(&agent.node)
        });
        if let Some(agent) = failing.next() {
            let problem = agent.problem.as_deref().unwrap_or("the agent is not ready");
            return Some(Failure {
                why: format!("on node {}: {problem}", agent.node),
                node: Some(agent.node.clone()),
            });
        }
        let on_its_node = self.failure_on_its_node(attempt, unhealthy);
        on_its_node.or_else(|| self.failure_to_start(attempt, unhealthy))
    }

    /// Returns the failure of a revision on the node of its trial.
    fn failure_on_its_node(&self, attempt: &Attempt, unhealthy: &Nodes) -> Option<Failure> {
        let (node, chosen) = attempt.node.as_ref()?;
        let patience = self.timing.canary_timeout;
        let absent = self.fleet.absent.get(node);
        if absent.is_some_and(|since| lasts(*since.max(chosen), self.now) >= patience) {
            return Some(Failure {
                why: format!("on node {node}: {}", Obstacle::NoPod),
                node: None,
            });
        }
        let is_long_there = |agent: &Agent| {
            let created = agent.created;
            created.is_some_and(|created| lasts(created, self.now) >= patience * FLAPS)
        };
        let mut agents = self.agents_with(&attempt.revision);
        let does_not_stay =
            agents.any(|agent| agent.node == *node && agent.has_begun && is_long_there(agent));
        (does_not_stay && !unhealthy.contains(node)).then(|| Failure {
            why: format!("on node {node}: the agent does not stay ready"),
            node: Some(node.clone()),
        })
    }

    /// Returns the failure of a revision whose pods do not start.
    fn failure_to_start(&self, attempt: &Attempt, unhealthy: &Nodes) -> Option<Failure> {
        let revision = &attempt.revision;
        let is_its = |out: &OutOfReach| {
            let agent = out.agent.as_ref();
            // One that was evicted had begun.
            let has_it = |agent: &Agent| agent.revision == *revision && !agent.has_begun;
            out.obstacle == Obstacle::NoPod || agent.is_some_and(has_it)
        };
        let without = || self.without_agent(unhealthy);
        let with_it = || without().filter(|(_, out)| is_its(out));
        let is_enough = with_it().count() >= NOT_BEGUN || self.fleet.agents.is_empty();
        let is_in_vain = attempt.is_careful
            && lasts(attempt.since, self.now) >= self.timing.canary_timeout
            && self.agents_with(revision).next().is_none();
        let (node, out) = if is_in_vain {
            without().next()?
        } else {
            with_it().next().filter(|_| is_enough)?
        };
        Some(Failure {
            why: format!("on node {node}: {}", out.obstacle),
            node: None,
        })
    }

    /// Returns the nodes that have lost their agent since the current trial or roll began.
    fn without_agent<'s>(
        &'s self,
        unhealthy: &'s Nodes,
    ) -> impl Iterator<Item = (&'s String, &'s OutOfReach)> {
        let without = self.fleet.without_agent();
        without.filter(|(node, _)| !unhealthy.contains(*node))
    }

    /// Returns whether nodes have lost their agent, or may have.
    fn lacks_agents(&self, unhealthy: &Nodes) -> bool {
        let Fleet { absent, ending, .. } = self.fleet;
        let mut on_their_way = absent.keys().chain(ending);
        on_their_way.any(|node| !unhealthy.contains(node))
            || self.without_agent(unhealthy).next().is_some()
    }

    /// Gives one agent the revision on trial. Pods created for other reasons get the good
    /// revision, once the pod of the trial exists.
    pub(super) fn try_on_one(&self, trial: &mut Attempt, good: &str, unhealthy: &Nodes) -> Step {
        let revision = &trial.revision;
        let proves = |agent: &Agent| !unhealthy.contains(&agent.node);
        let mut with_it: Vec<&Agent> = self.agents_with(revision).collect();
        if with_it.iter().any(|agent| proves(agent)) {
            // Nodes that joined meanwhile may have it as well.
            with_it.sort_by_key(|agent| (!proves(agent), !agent.has_begun, agent.created));
            let is_new = |agent: &&Agent| agent.created >= Some(trial.since);
            let others = with_it.into_iter().skip(1).filter(is_new);
            return Step::new(good, others.take(self.at_once));
        }
        if self.is_under_way(trial) {
            return Step::new(revision, None);
        }
        // Where no agent is left, nothing is to be lost anywhere.
        let is_anywhere = self.fleet.agents.is_empty();
        if is_anywhere || (trial.is_careful && self.lacks_agents(unhealthy)) {
            let not_started = || self.fleet.not_started();
            let is_tried = not_started().any(|agent| agent.revision == *revision);
            let mut others = not_started()
                .filter(|agent| !is_tried && (is_anywhere || !unhealthy.contains(&agent.node)));
            return Step::new(revision, others.next());
        }
        let others = self.fleet.agents.iter();
        let others = others.filter(|agent| agent.revision != *revision);
        let chosen = others.min_by_key(|agent| {
            // What an earlier trial has left, else one that works: it tells the most.
            let is_left = agent.revision != good;
            (!proves(agent), !is_left, agent.ready_since.is_none())
        });
        // Another node that proves nothing does not help.
        let chosen = chosen.filter(|agent| proves(agent) || with_it.is_empty());
        let Some(chosen) = chosen else {
            return Step::new(good, None);
        };
        let step = Step::new(revision, Some(chosen));
        trial.node = Some((chosen.node.clone(), self.now));
        step
    }

    /// Replaces agents with other revisions, a few at a time. Agents that are not ready or
    /// out of reach do not delay that; agents that fail with a revision that cannot be
    /// rolled back do.
    pub(super) fn roll(&self, revision: &str, unhealthy: &Nodes, can_come_back: bool) -> Step {
        let agents = self.fleet.agents.iter().chain(self.fleet.not_started());
        let others = agents.filter(|agent| agent.revision != revision);
        let (ready, not_ready): (Vec<&Agent>, Vec<&Agent>) =
            others.partition(|agent| agent.ready_since.is_some());
        let nodes = self.fleet.within_reach().unwrap_or(usize::MAX);
        // Where a pod that was deleted is not made again, the next one would not be either.
        let emptied = self.without_agent(unhealthy);
        let emptied = emptied.filter(|(_, out)| out.obstacle == Obstacle::NoPod);
        let nodes = nodes.saturating_add(emptied.count());
        let is_lost = |agent: &&Agent| {
            let is_its = agent.revision == revision;
            agent.ready_since.is_some() || (self.is_unhealthy(agent) && (can_come_back || !is_its))
        };
        let lost = self.fleet.agents.iter().filter(is_lost);
        let under_way = nodes.saturating_sub(lost.count());
        let room = self.at_once.saturating_sub(under_way);
        let replaced = not_ready.into_iter().chain(ready.into_iter().take(room));
        Step::new(revision, replaced.take(AT_ONCE))
    }
}

impl Step {
    fn new<'a>(template: &str, replace: impl IntoIterator<Item = &'a Agent>) -> Self {
        let replace = replace.into_iter().map(|agent| agent.pod.clone());
        Self {
            template: template.to_owned(),
            replace: replace.collect(),
        }
    }
}
