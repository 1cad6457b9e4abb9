//! The account of deleted agents: a fault of the cluster must not cost all nodes theirs.
//!
//! # Design
//!
//! Each deleted agent is accounted for ([`Risked`]): the history records the nodes whose
//! working agent the controller has deleted, until they have a working one again. Three such
//! nodes (fewer in a small cluster) mean that new agents do not start, for whatever reason, so
//! no further working agent is deleted. A node that gets a working agent again clears those
//! whose agents were deleted no later, because then the faults are their own, unless there are
//! many. This single rule covers registries, network plug-ins and admission webhooks that are
//! down, pods that do not terminate, and revisions that take their nodes down
//! (`history/tests/outages.rs`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Attempt;
use super::held::MAX_RETRY_WAIT;
use super::situation::Situation;
use crate::fleet::{Agent, Fleet, lasts};

/// The number of nodes that may lose their working agents before no further one is risked.
pub(super) const MAX_LOST: usize = 3;

/// Nodes whose working agent was deleted.
pub type Risked = BTreeMap<String, Risk>;

/// The deletion of a working agent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Risk {
    /// The time of the deletion.
    pub deleted: Timestamp,
    /// Whether a new agent has started elsewhere since, so that the node has a fault of its
    /// own.
    #[serde(default)]
    pub is_its_own: bool,
}

impl Risk {
    /// Returns whether an attempt deleted the agent.
    pub(super) fn is_of(&self, attempt: &Attempt) -> bool {
        self.deleted >= attempt.begun
    }
}

/// A node that has no working agent since its agent was deleted.
pub(super) struct Lost<'a> {
    pub(super) node: &'a String,
    pub(super) risk: Risk,
    pub(super) why: String,
    /// The agent that does not work, if it can be replaced.
    pub(super) agent: Option<&'a Agent>,
}

impl Situation<'_> {
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
    pub(super) fn lost<'s>(&'s self, risked: &'s Risked) -> impl Iterator<Item = Lost<'s>> {
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
    pub(super) fn max_lost(&self) -> usize {
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
}
