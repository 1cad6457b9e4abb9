//! The evidence of agents about a revision: whether all have it, or why it failed.

use std::collections::BTreeSet;

use super::Attempt;
use super::risk::{Lost, Risked};
use super::situation::{Nodes, Situation};
use crate::fleet::{Agent, Fleet, Obstacle, lasts};

/// The failure of a revision.
pub(super) struct Failure {
    pub(super) why: String,
    /// The node whose agent failed with it; none if no agent started.
    pub(super) node: Option<String>,
    /// Whether the container of that agent never ran.
    pub(super) never_ran: bool,
}

impl Failure {
    const fn without_agent(why: String) -> Self {
        Self {
            why,
            node: None,
            never_ran: false,
        }
    }
}

impl Situation<'_> {
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
        let of_attempt = lost().filter(|lost| lost.risk.is_of(attempt));
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
        // The agent of an excluded node may have worked until the attempt replaced it.
        let was_replaced = |agent: &Agent| {
            let risk = risked.get(&agent.node);
            risk.is_some_and(|risk| risk.is_of(attempt))
        };
        let is_evidence = |agent: &Agent| {
            !unhealthy.contains(&agent.node) || (agent.has_run && was_replaced(agent))
        };
        let mut failing = self.agents_with(&attempt.revision).filter(|agent| {
            agent.has_begun && self.is_unhealthy(agent) && worked(agent) && is_evidence(agent)
        });
        let agent = failing.next()?;
        let problem = agent.problem.as_deref().unwrap_or("the agent is not ready");
        Some(Failure {
            why: format!("on node {}: {problem}", agent.node),
            node: Some(agent.node.clone()),
            never_ran: !agent.has_run,
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
            never_ran: false,
        })
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

    /// Returns the agents of a revision that are late although their containers never ran.
    pub(super) fn never_ran<'s>(&'s self, revision: &'s str) -> impl Iterator<Item = &'s Agent> {
        let agents = self.agents_with(revision);
        agents.filter(|agent| !agent.has_run && self.is_unhealthy(agent))
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

    /// Returns whether a trial that is no longer wanted must be completed: frequent changes
    /// must not prevent that, and an agent's revision must get a result.
    pub(super) fn must_be_completed(&self, trial: &Attempt, unhealthy: &Nodes) -> bool {
        let agents = self.fleet.agents.iter().chain(self.fleet.not_started());
        let mut with_it = agents.filter(|agent| agent.revision == trial.revision);
        with_it.any(|agent| !unhealthy.contains(&agent.node))
            || self.is_under_way(trial)
            || lasts(trial.since, self.now) < self.timing.canary_timeout
    }
}
