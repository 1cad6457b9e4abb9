//! The choice of the agents to replace next.

use super::risk::{Lost, Risked};
use super::situation::{Nodes, Situation};
use super::{Attempt, Failed};
use crate::fleet::{Agent, lasts};

/// The maximum number of pods deleted in a step.
const MAX_DELETED: usize = 100;

/// The next step of the rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The revision of pods that are created from now on.
    pub revision: String,
    /// The pods to delete, so that they are created again.
    pub replace: Vec<String>,
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

impl Situation<'_> {
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
