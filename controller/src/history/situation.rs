//! The evidence of agents about revisions, and the choice of the agents to replace next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{Attempt, Failed, MAX_RETRY_WAIT, Revisions, Risk, Risked};
use crate::fleet::{Agent, Fleet, Obstacle, lasts};
use crate::plan::Plan;
use crate::settings::{Settings, Timing};
use crate::snapshot::Snapshot;

/// The number of nodes that may lose their working agents before no further one is risked.
pub(super) const MAX_LOST: usize = 3;
/// The number of canary timeouts after which a trial fails whose agent does not stay ready.
const FLAPS: u32 = 3;
/// The maximum number of pods deleted in a step.
const MAX_DELETED: usize = 100;

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
            at_once: settings.agent.at_once(fleet.wanted_nodes.unwrap_or(0)),
            timing: settings.timing,
            now: *now,
        }
    }
}

/// The next step of the rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The revision of pods that are created from now on.
    pub revision: String,
    /// The pods to delete, so that they are created again.
    pub replace: Vec<String>,
}

/// A node that has no working agent since its agent was deleted.
struct Lost<'a> {
    node: &'a String,
    risk: Risk,
    why: String,
    /// The agent that does not work, if it can be replaced.
    agent: Option<&'a Agent>,
}

/// The failure of a revision.
pub(super) struct Failure {
    pub(super) why: String,
    /// The node whose agent failed with it; none if no agent started.
    pub(super) node: Option<String>,
    /// Whether the agent's container has run.
    pub(super) has_run: bool,
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

    /// Returns whether all agents have the revision, and every agent that was replaced by a
    /// working one works, except on nodes that were unhealthy before. An agent that is ready
    /// again and again without staying so does not delay that forever, and neither do nodes
    /// that join, if there is a good revision (`has_good`).
    pub(super) fn all_have(
        &self,
        roll: &Attempt,
        unhealthy: &Nodes,
        risked: &Risked,
        has_good: bool,
    ) -> bool {
        let Fleet {
            agents,
            absent,
            ending,
            ..
        } = self.fleet;
        let has_it = |agent: &Agent| agent.revision == roll.revision;
        let is_done = |agent: &Agent| {
            let may_take_time = has_good && !risked.contains_key(&agent.node);
            self.is_settled(agent)
                || unhealthy.contains(&agent.node)
                || (!self.is_unhealthy(agent) && (may_take_time || self.is_long_there(agent)))
        };
        let mut under_way = absent.keys().chain(ending);
        let is_missing = |node: &String| {
            (!has_good || risked.contains_key(node)) && !self.fleet.out_of_reach.contains_key(node)
        };
        self.fleet.wanted_nodes.is_some()
            && !agents.is_empty()
            && agents.iter().all(|agent| has_it(agent) && is_done(agent))
            && self.fleet.not_started().all(has_it)
            && !under_way.any(is_missing)
    }

    /// Returns whether an agent had enough time to become ready several times.
    fn is_long_there(&self, agent: &Agent) -> bool {
        let span = self.timing.canary_timeout * FLAPS;
        let is_long = |since| self.observed(since) >= span;
        agent.created.max(agent.observed_since).is_some_and(is_long)
    }

    /// Removes the nodes from `risked` that have a working agent again, that are gone, or
    /// that were lost long ago. A node that works again shows that agents start: those whose
    /// agents were deleted no later have faults of their own.
    pub(super) fn recover(&self, risked: &mut Risked) {
        let settled = self
            .fleet
            .agents
            .iter()
            .filter(|agent| self.is_settled(agent));
        let recovered: Vec<(&String, Timestamp)> = settled
            .filter_map(|agent| {
                let deleted = risked.get(&agent.node)?.deleted;
                (agent.created >= Some(deleted)).then_some((&agent.node, deleted))
            })
            .collect();
        let latest = recovered.iter().map(|(_, deleted)| *deleted).max();
        for (node, _) in recovered {
            risked.remove(node);
        }
        let Fleet {
            absent,
            ending,
            out_of_reach,
            agents,
            ..
        } = self.fleet;
        let agents: BTreeSet<&String> = agents.iter().map(|agent| &agent.node).collect();
        // The API server may have refused the deletion.
        let is_late = |risk: &Risk| self.observed(risk.deleted) >= self.timing.canary_timeout;
        let ready: BTreeSet<&String> = self.fleet.ready().map(|agent| &agent.node).collect();
        risked.retain(|node, risk| {
            risk.is_its_own |= Some(risk.deleted) <= latest;
            let is_there = agents.contains(node)
                || absent.contains_key(node)
                || ending.contains(node)
                || out_of_reach.contains_key(node);
            let is_ready = ready.contains(node) && is_late(risk);
            is_there && !is_ready && lasts(risk.deleted, self.now) < MAX_RETRY_WAIT
        });
    }

    /// Returns the nodes in `risked` that have no working agent.
    fn lost<'s>(&'s self, risked: &'s Risked) -> impl Iterator<Item = Lost<'s>> {
        let agents = self.fleet.agents.iter();
        let agents = agents.filter(|agent| risked.contains_key(&agent.node));
        let agents: BTreeMap<&String, &Agent> = agents.map(|agent| (&agent.node, agent)).collect();
        risked.iter().filter_map(move |(node, risk)| {
            let (agent, out) = (agents.get(node), self.fleet.out_of_reach.get(node));
            if agent.is_some_and(|agent| self.works(agent)) {
                return None;
            }
            let is_long = self.observed(risk.deleted) >= self.timing.canary_timeout;
            let is_unhealthy = agent.is_some_and(|agent| self.is_unhealthy(agent));
            let is_lost = is_long || is_unhealthy || out.is_some();
            let problem = agent.and_then(|agent| agent.problem.clone());
            let obstacle = out.map(|out| out.obstacle.to_string());
            let why = problem.or(obstacle);
            let is_dead = self.is_dead(node);
            let agent = agent.copied().or(out.and_then(|out| out.agent.as_ref()));
            is_lost.then(|| Lost {
                node,
                risk: *risk,
                why: why.unwrap_or_else(|| "the agent is not ready".to_owned()),
                agent: agent.filter(|_| !is_dead),
            })
        })
    }

    /// Returns the number of nodes that must lose their agents before no further one is
    /// risked. One agent stays, if there are several.
    fn max_lost(&self) -> usize {
        let nodes = self.fleet.wanted_nodes.unwrap_or(usize::MAX);
        nodes.saturating_sub(1).clamp(1, MAX_LOST)
    }

    /// Returns whether so many nodes have lost their agent that no further one is risked.
    /// A fault of many nodes is no longer each node's own.
    pub(super) fn is_braked(&self, risked: &Risked) -> bool {
        let lost: BTreeSet<&String> = self.lost(risked).map(|lost| lost.node).collect();
        let working = self.fleet.agents.iter().filter(|agent| self.works(agent));
        let working: BTreeSet<&String> = working.map(|agent| &agent.node).collect();
        // After an outage of the API server, nodes may have been lost before it.
        let may_be_lost = |node: &String, risk: &Risk| {
            Some(risk.deleted) < self.fleet.observed_since && !working.contains(node)
        };
        let lost = risked
            .iter()
            .filter(|(node, risk)| lost.contains(node) || may_be_lost(node, risk));
        let (all, max) = (lost.clone().count(), self.max_lost());
        let not_its_own = lost.filter(|(_, risk)| !risk.is_its_own);
        not_its_own.count() >= max || all >= max + self.at_once
    }

    /// Describes the first lost node.
    pub(super) fn loss(&self, risked: &Risked) -> Option<String> {
        let mut lost = self.lost(risked);
        let Lost { node, why, .. } = lost.next()?;
        Some(format!("on node {node}: {why}"))
    }

    /// Removes the nodes from `unhealthy` that have a settled agent, or are gone.
    pub(super) fn retain_unhealthy(&self, unhealthy: &mut Nodes) {
        let agents = self.fleet.agents.iter();
        let others = agents.filter(|agent| !self.is_settled(agent));
        let others = others.map(|agent| &agent.node);
        let nodes = others.chain(self.fleet.out_of_reach.keys());
        let nodes: BTreeSet<&String> = nodes.collect();
        unhealthy.retain(|node| nodes.contains(node));
    }

    /// Returns the agents of a revision that are late although their containers never ran.
    pub(super) fn never_ran<'s>(&'s self, revision: &'s str) -> impl Iterator<Item = &'s Agent> {
        let agents = self.agents_with(revision);
        agents.filter(|agent| !agent.has_run && self.is_unhealthy(agent))
    }

    /// Returns whether a trial that is no longer wanted must be completed: frequent changes
    /// must not prevent that, and an agent's revision must get a result.
    pub(super) fn must_be_completed(&self, trial: &Attempt, unhealthy: &Nodes) -> bool {
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
        node.is_some_and(|(node, _)| {
            let is_absent = absent.contains_key(node) && !self.is_dead(node);
            is_absent || ending.contains(node)
        })
    }

    fn is_dead(&self, node: &str) -> bool {
        let out = self.fleet.out_of_reach.get(node);
        out.is_some_and(|out| matches!(out.obstacle, Obstacle::NodeNotReady(_)))
    }

    /// Returns whether an agent that is not ready has been settled before.
    fn was_ready(&self, agent: &Agent) -> bool {
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

    /// Returns the failure of a revision: of agents that were healthy before, or that do
    /// not start.
    pub(super) fn failure(
        &self,
        attempt: &Attempt,
        unhealthy: &Nodes,
        risked: &Risked,
    ) -> Option<Failure> {
        if self.has_lost_many(attempt, risked) && !attempt.is_careful {
            let why = self.loss(risked)?;
            return Some(Failure::without_agent(why));
        }
        let of_agent = self.failure_of_agent(attempt, unhealthy, risked);
        let on_its_node = || self.failure_on_its_node(attempt, unhealthy);
        let to_start = || self.failure_to_start(attempt, unhealthy, risked);
        of_agent.or_else(on_its_node).or_else(to_start)
    }

    /// Returns whether so many nodes have lost their agent that an attempt fails: by any
    /// fault that is not their own, or by this attempt.
    fn has_lost_many(&self, attempt: &Attempt, risked: &Risked) -> bool {
        // Agents that run and fail with the revision are evidence about its content.
        let fails = |agent: &Agent| {
            let is_unhealthy = self.is_unhealthy(agent) && (agent.has_run || agent.is_crashing());
            is_unhealthy && agent.revision == attempt.revision
        };
        let no_agent_starts = |lost: &Lost<'_>| !lost.agent.is_some_and(fails);
        let lost = || self.lost(risked).filter(no_agent_starts);
        let not_its_own = lost().filter(|lost| !lost.risk.is_its_own);
        let of_attempt = lost().filter(|lost| lost.risk.deleted >= attempt.begun);
        let max = self.max_lost();
        not_its_own.count() >= max || of_attempt.count() >= max.max(self.at_once / 2)
    }

    /// Returns the failure of an agent that runs with a revision.
    fn failure_of_agent(
        &self,
        attempt: &Attempt,
        unhealthy: &Nodes,
        risked: &Risked,
    ) -> Option<Failure> {
        // An agent that is merely late is evidence only where one worked before.
        let worked = |agent: &Agent| {
            agent.is_crashing() || risked.contains_key(&agent.node) || self.was_ready(agent)
        };
        // One that did not work at first may have worked until the attempt replaced it.
        let replaced_it = |risk: &Risk| risk.deleted >= attempt.begun;
        let is_replaced = |agent: &Agent| risked.get(&agent.node).is_some_and(replaced_it);
        let is_evidence = |agent: &Agent| {
            !unhealthy.contains(&agent.node) || (agent.has_run && is_replaced(agent))
        };
        let mut failing = self.agents_with(&attempt.revision).filter(|agent| {
            agent.has_begun && self.is_unhealthy(agent) && worked(agent) && is_evidence(agent)
        });
        let agent = failing.next()?;
        let problem = agent.problem.as_deref().unwrap_or("the agent is not ready");
        Some(Failure {
            why: format!("on node {}: {problem}", agent.node),
            node: Some(agent.node.clone()),
            has_run: agent.has_run,
        })
    }

    /// Returns the failure of a revision on the node of its trial.
    fn failure_on_its_node(&self, attempt: &Attempt, unhealthy: &Nodes) -> Option<Failure> {
        let (node, chosen) = attempt.node.as_ref()?;
        let patience = self.timing.canary_timeout;
        let absent = self.fleet.absent.get(node).filter(|_| !self.is_dead(node));
        if absent.is_some_and(|since| self.observed(*since.max(chosen)) >= patience) {
            let why = format!("on node {node}: {}", Obstacle::NoPod);
            return Some(Failure::without_agent(why));
        }
        let mut agents = self.agents_with(&attempt.revision);
        let does_not_stay =
            agents.any(|agent| agent.node == *node && agent.has_begun && self.is_long_there(agent));
        (does_not_stay && !unhealthy.contains(node)).then(|| Failure {
            why: format!("on node {node}: the agent does not stay ready"),
            node: Some(node.clone()),
            has_run: true,
        })
    }

    /// Returns whether an attempt has had the time in which an agent starts.
    fn is_late(&self, attempt: &Attempt) -> bool {
        self.observed(attempt.since) >= self.timing.canary_timeout
    }

    /// Returns the failure of a revision that no agent starts with: of one on trial on nodes
    /// without an agent, or where no node has an agent any longer.
    fn failure_to_start(
        &self,
        attempt: &Attempt,
        unhealthy: &Nodes,
        risked: &Risked,
    ) -> Option<Failure> {
        let why = if attempt.is_careful && self.is_late(attempt) && self.is_braked(risked) {
            self.loss(risked)
        } else if self.fleet.agents.is_empty() {
            let mut without = self.fleet.without_agent();
            let first = without.find(|(node, out)| {
                let agent = out.agent.as_ref();
                let has_it = |agent: &Agent| agent.revision == attempt.revision && !agent.has_begun;
                !unhealthy.contains(*node) && agent.is_none_or(has_it)
            });
            first.map(|(node, out)| format!("on node {node}: {}", out.obstacle))
        } else {
            None
        };
        why.map(Failure::without_agent)
    }

    /// Gives one agent the revision on trial. Pods created for other reasons get the good
    /// revision, once the pod of the trial exists. The node of the failure `before` is tried
    /// last, if the container of its agent never ran.
    pub(super) fn try_on_one(
        &self,
        trial: &mut Attempt,
        good: &str,
        before: Option<&Failed>,
        unhealthy: &Nodes,
        risked: &Risked,
    ) -> Step {
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
        if self.fleet.agents.is_empty() {
            let mut others = self.fleet.not_started();
            let is_tried = |agent: &Agent| agent.revision == *revision;
            let is_any_tried = self.fleet.not_started().any(is_tried);
            return Step::new(revision, others.next().filter(|_| !is_any_tried));
        }
        if trial.is_careful
            && (self.is_braked(risked) || !self.is_late(trial))
            && let Some(step) = self.try_on_lost(revision, risked)
        {
            return step;
        }
        if self.is_braked(risked) {
            return Step::new(good, None);
        }
        trial.is_careful = false;
        let others = self.fleet.agents.iter();
        let others = others.filter(|agent| agent.revision != *revision);
        let never_ran = before.filter(|failed| failed.never_ran);
        let never_ran = never_ran.and_then(|failed| failed.node.as_ref());
        let chosen = others.min_by_key(|agent| {
            // Preferably the node of an earlier trial, otherwise one whose agent works, which is the
            // best evidence.
            let is_left = agent.revision != good;
            (
                !proves(agent),
                Some(&agent.node) == never_ran,
                !is_left,
                agent.ready_since.is_none(),
                !self.is_settled(agent),
            )
        });
        // Another node that proves nothing does not help at once, and costs nothing later if
        // its agent does not work anyway.
        let waits = trial
            .node
            .as_ref()
            .map(|(_, chosen)| lasts(*chosen, self.now));
        let is_stuck = waits.is_none_or(|waits| waits >= self.timing.canary_timeout);
        let chosen = chosen.filter(|agent| {
            proves(agent) || with_it.is_empty() || (is_stuck && agent.ready_since.is_none())
        });
        let Some(chosen) = chosen else {
            return Step::new(good, None);
        };
        let step = Step::new(revision, Some(chosen));
        trial.node = Some((chosen.node.clone(), self.now));
        step
    }

    /// Gives the revision to one of the nodes that have lost their agent; none if there is no
    /// such node on which a pod can be created.
    fn try_on_lost(&self, revision: &str, risked: &Risked) -> Option<Step> {
        let lost = self.lost(risked).filter(|lost| !lost.risk.is_its_own);
        let is_tried = |agent: &Agent| agent.revision == revision;
        let (mut is_possible, mut is_any_tried, mut chosen) = (false, false, None);
        for Lost { node, agent, .. } in lost {
            let is_absent = self.fleet.absent.contains_key(node) && !self.is_dead(node);
            is_possible |= is_absent || agent.is_some();
            is_any_tried |= agent.is_some_and(is_tried);
            chosen = chosen.or(agent);
        }
        is_possible.then(|| Step::new(revision, chosen.filter(|_| !is_any_tried)))
    }

    /// Replaces agents with other revisions, a few at a time. Agents that are not ready or
    /// out of reach do not delay that; agents that fail with a revision that cannot be
    /// rolled back do.
    pub(super) fn roll(&self, revision: &str, risked: &Risked, can_come_back: bool) -> Step {
        let agents = self.fleet.agents.iter().chain(self.fleet.not_started());
        let others = agents.filter(|agent| agent.revision != revision);
        let (working, not_working): (Vec<&Agent>, Vec<&Agent>) =
            others.partition(|agent| self.works(agent));
        let nodes = self.fleet.within_reach().unwrap_or(usize::MAX);
        let is_lost = |agent: &&Agent| {
            let is_its = agent.revision == revision;
            agent.ready_since.is_some() || (self.is_unhealthy(agent) && (can_come_back || !is_its))
        };
        let lost = self.fleet.agents.iter().filter(is_lost);
        let under_way = nodes.saturating_sub(lost.count());
        // Where nodes do not get a working agent back, the next one would not either.
        let room = if self.is_braked(risked) {
            0
        } else {
            self.at_once.saturating_sub(under_way)
        };
        let working = working.into_iter().take(room);
        let replaced = not_working.into_iter().chain(working);
        Step::new(revision, replaced.take(MAX_DELETED))
    }
}

impl Failure {
    const fn without_agent(why: String) -> Self {
        Self {
            why,
            node: None,
            has_run: false,
        }
    }
}

impl Step {
    fn new<'a>(revision: &str, replace: impl IntoIterator<Item = &'a Agent>) -> Self {
        let replace = replace.into_iter().map(|agent| agent.pod.clone());
        Self {
            revision: revision.to_owned(),
            replace: replace.collect(),
        }
    }
}
