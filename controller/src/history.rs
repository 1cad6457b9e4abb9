//! The state of the rollout: the results of revisions, and the revision that the agents
//! should have.
//!
//! ```text
//! wanted ──> trial ──────────> roll ────────────────> good
//!            on one node,      on all nodes, a few    the revision of
//!            until it has been at a time, watched     new agents
//!            ready for a while throughout
//!              └────────┬────────┘
//!                   agents fail: rollback to the good revision, and
//!                   the files that changed since are held back
//! ```
//!
//! A rollback holds back single files, each of which belongs to one namespace or cluster sink.
//! The plan replaces them with the files of the good revision, and all others proceed. If
//! several changed, halves of them are tried again in turn, which isolates the bad one. The
//! history outlives the controller, so that no failure is repeated after a restart.
//!
//! Nodes that are out of reach, and those whose agents were unhealthy before, neither delay a
//! rollout nor are evidence about a revision.
//!
//! # Design
//!
//! The controller decides which pod is replaced. A `DaemonSet`'s own rolling update has no
//! canary, and counts a node whose pod cannot terminate or start towards `maxUnavailable`, so
//! one dead node blocks every later change. So the strategy is `OnDelete`. In each round, this
//! module decides which template new pods get, and which pods are deleted: first one, then a
//! few at a time, and never one on a node that is out of reach. While one node tries a
//! revision, the template becomes the good one again as soon as that node's pod is created, so
//! nodes that join do not get the trial. Agents are replaced rather than reloaded, so that
//! Kubernetes' own readiness shows whether a revision is good.
//!
//! The next state is a pure function of the fleet, the history and the time, so the tests are
//! clusters in virtual time.

mod evidence;
mod held;
mod risk;
mod situation;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::evidence::Failure;
use self::held::MAX_RETRY_WAIT;
pub use self::held::{HeldFile, HeldFiles, HoldReason, Setback};
pub use self::risk::{Risk, Risked};
pub use self::situation::Situation;
pub use self::step::Step;
use crate::configuration::{Configuration, content_hash};
use crate::fleet::{Agent, lasts};

/// The maximum number of files that are held back.
const MAX_HELD: usize = 1000;

/// The state of the rollout, as it is stored.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// The last revision with which all agents were healthy.
    pub good: Option<Since>,
    /// The revision on trial on one node.
    pub trial: Option<Attempt>,
    /// The revision that is being rolled out to all nodes.
    pub roll: Option<Attempt>,
    /// The last failed revision.
    pub failed: Option<Failed>,
    /// The files with which agents failed under the good template. Another template may
    /// repair that.
    pub held: HeldFiles,
    /// The nodes without a healthy agent at the beginning of the last trial: they are no
    /// evidence about its revision.
    pub unhealthy: BTreeSet<String>,
    /// Files that changed together with a failure, to be tried again group by group.
    pub suspects: Vec<HeldFiles>,
    /// The nodes whose working agent was deleted and has not been replaced by another one
    /// yet, with the time of the deletion.
    pub risked: Risked,
}

/// A revision with the time since which it has its role.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Since {
    /// The revision.
    pub revision: String,
    /// The name of its template; empty if unknown.
    #[serde(default)]
    pub template: String,
    /// The time.
    pub since: Timestamp,
}

/// A revision that is being tried or rolled out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Attempt {
    /// The revision.
    pub revision: String,
    /// The name of its template.
    #[serde(default)]
    pub template: String,
    /// The time at which it began; for a roll, the time at which an agent was last
    /// replaced.
    pub since: Timestamp,
    /// The time at which it began.
    #[serde(default)]
    pub begun: Timestamp,
    /// The node of the trial, and when it was chosen.
    #[serde(default)]
    pub node: Option<(String, Timestamp)>,
    /// Whether the trial uses only nodes without an agent, while there are any: pods did
    /// not start the last time.
    #[serde(default)]
    pub is_careful: bool,
}

/// A revision that failed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failed {
    /// The revision.
    pub revision: String,
    /// The name of its template, if the template may be the cause.
    #[serde(default)]
    pub template: Option<String>,
    /// The failure.
    #[serde(flatten)]
    pub setback: Setback,
    /// The node whose agent failed with it; none if no agent started.
    #[serde(default)]
    pub node: Option<String>,
    /// Whether the container of that agent never ran.
    #[serde(default)]
    pub never_ran: bool,
}

/// The configurations of revisions, by their names.
pub type Revisions = BTreeMap<String, Arc<Configuration>>;

impl History {
    /// Returns why agents do not get this file of a tenant for now, if so.
    #[must_use]
    pub fn hold_reason(
        &self,
        name: &str,
        content: &[u8],
        template: &str,
        now: Timestamp,
    ) -> Option<HoldReason> {
        let content = content_hash(content);
        let mut suspects = self.suspects.iter();
        let suspected = suspects.find_map(|group| group.get(name));
        let held = self.held.get(name);
        let is_suspected = suspected.is_some_and(|held| held.content == content);
        let is_held = held.is_some_and(|held| held.applies_to(&content, now));
        // Nothing that may be wrong is tried together with another template.
        let is_kept = is_suspected || is_held || self.has_another_template(template);
        let HeldFile { setback, .. } = held.filter(|_| is_held).or(suspected).or(held)?;
        is_kept.then(|| HoldReason {
            why: setback.why.clone(),
            // A file that only waits for another template may be right.
            is_suspect: !is_held,
        })
    }

    /// Returns whether a template that failed together with files is to be tried without any
    /// change of files, so that neither keeps the other back.
    #[must_use]
    pub fn tries_template_alone(&self, template: &str) -> bool {
        let failed = self.failed.as_ref();
        let has_failed = failed.is_some_and(|failed| failed.template.as_deref() == Some(template));
        has_failed && self.has_another_template(template)
    }

    /// Returns whether the good revision is known to have another template.
    fn has_another_template(&self, template: &str) -> bool {
        let good = self.good.as_ref();
        good.is_some_and(|good| !good.template.is_empty() && good.template != template)
    }

    /// Returns the next state and the step to take.
    #[must_use]
    pub fn next(mut self, situation: &Situation<'_>) -> (Self, Step) {
        self.clamp(situation.now);
        self.adopt(situation);
        situation.recover(&mut self.risked);
        self.clear_if_node_is_cause(situation);
        let before = self.failed.clone();
        self.evaluate_trial(situation);
        self.evaluate_roll(situation);
        // The wanted revision was planned before the failure, and unhealthy agents get the good
        // one back first.
        let may_begin = self.failed == before && !self.runs_failed_revision(situation);
        if self.trial.is_none() && self.roll.is_none() && may_begin {
            situation.retain_unhealthy(&mut self.unhealthy);
            self.begin(situation);
            // Agents may have it already, where what was wanted before is wanted again.
            self.evaluate_trial(situation);
        }
        let step = self.step(situation);
        self.take_risk(&step, situation);
        (self, step)
    }

    /// Sets times in the future to now: a former leader's clock was ahead.
    fn clamp(&mut self, now: Timestamp) {
        let attempts = self.trial.iter_mut().chain(&mut self.roll);
        let attempts = attempts.flat_map(|attempt| {
            let node = attempt.node.iter_mut().map(|(_, chosen)| chosen);
            node.chain([&mut attempt.since, &mut attempt.begun])
        });
        let groups = self.suspects.iter_mut().chain([&mut self.held]);
        let setbacks = groups.flat_map(|groups| groups.values_mut().map(|held| &mut held.setback));
        let setbacks = setbacks.chain(self.failed.iter_mut().map(|failed| &mut failed.setback));
        let times = attempts
            .chain(setbacks.map(|setback| &mut setback.since))
            .chain(self.good.iter_mut().map(|good| &mut good.since))
            .chain(self.risked.values_mut().map(|risk| &mut risk.deleted));
        times.for_each(|time| *time = now.min(*time));
    }

    /// Records the nodes whose working agent a step deletes. A node whose agent did not work
    /// is no evidence about the revision that it gets.
    fn take_risk(&mut self, step: &Step, situation: &Situation<'_>) {
        let is_attempt = self.trial.is_some() || self.roll.is_some();
        let agents = situation
            .fleet
            .agents
            .iter()
            .chain(situation.fleet.not_started());
        for agent in agents.filter(|agent| step.replace.contains(&agent.pod)) {
            // The agent of an excluded node may stop working at any time.
            let is_excluded = self.unhealthy.contains(&agent.node);
            if agent.ready_since.is_some() || (situation.works(agent) && !is_excluded) {
                let risk = Risk {
                    deleted: situation.now,
                    is_its_own: false,
                };
                self.risked.insert(agent.node.clone(), risk);
            } else if is_attempt {
                self.unhealthy.insert(agent.node.clone());
            }
        }
    }

    /// Returns the failure that blocks this revision, if its sinks are not the cause.
    #[must_use]
    pub fn blocking_failure(&self, revision: &str, template: &str) -> Option<&Failed> {
        let is_good = |good: &Since| good.revision == revision;
        let failed = self.failed.as_ref();
        let failed = failed.filter(|_| !self.good.as_ref().is_some_and(is_good));
        failed.filter(|failed| !failed.is_of_sinks() && failed.concerns(revision, template))
    }

    /// Returns whether no trial or roll is under way and the wanted revision is good.
    #[must_use]
    pub fn is_settled(&self, wanted: &str) -> bool {
        let good = self.good.as_ref();
        self.trial.is_none()
            && self.roll.is_none()
            && self.suspects.is_empty()
            && good.is_some_and(|good| good.revision == wanted)
    }

    /// Returns the revisions whose files are still needed.
    pub fn revisions(&self) -> impl Iterator<Item = &String> {
        let attempts = self.trial.iter().chain(&self.roll);
        let good = self.good.iter().map(|good| &good.revision);
        good.chain(attempts.map(|attempt| &attempt.revision))
    }

    /// Returns whether agents still run with a revision that has just failed.
    fn runs_failed_revision(&self, situation: &Situation<'_>) -> bool {
        self.failed.as_ref().is_some_and(|failed| {
            let is_recent =
                lasts(failed.setback.since, situation.now) < situation.timing.canary_timeout;
            is_recent && situation.agents_with(&failed.revision).next().is_some()
        })
    }

    /// Adopts the revision that agents are ready with as good, if none is known to be good.
    fn adopt(&mut self, situation: &Situation<'_>) {
        let Situation {
            wanted, revisions, ..
        } = *situation;
        // A revision whose Secrets were deleted cannot be restored.
        let is_gone = |revision: &str| revision != wanted && !revisions.contains_key(revision);
        self.good.take_if(|good| is_gone(&good.revision));
        for attempt in [&mut self.trial, &mut self.roll] {
            attempt.take_if(|attempt| is_gone(&attempt.revision));
        }
        let is_known =
            |agent: &&Agent| agent.revision != wanted && revisions.contains_key(&agent.revision);
        if self.good.is_none()
            && let Some(agent) = situation.fleet.ready().find(is_known)
        {
            // It was the first one's: nothing is left to find out.
            let is_its = |attempt: &mut Attempt| attempt.revision == agent.revision;
            let (trial, roll) = (self.trial.take_if(is_its), self.roll.take_if(is_its));
            self.good = Some(Since {
                revision: agent.revision.clone(),
                template: trial.or(roll).map_or_else(String::new, |its| its.template),
                since: situation.now,
            });
        }
    }

    /// Clears a failed revision if the agent on its node fails with the good one as well:
    /// the node was the cause.
    fn clear_if_node_is_cause(&mut self, situation: &Situation<'_>) {
        let (Some(failed), Some(good)) = (&self.failed, &self.good) else {
            return;
        };
        let is_the_node = |agent: &&Agent| {
            Some(&agent.node) == failed.node.as_ref()
                && agent.revision == good.revision
                && situation.is_unhealthy(agent)
        };
        if situation
            .fleet
            .agents
            .iter()
            .any(|agent| is_the_node(&agent))
        {
            let is_its = |held: &HeldFile| held.setback.why == failed.setback.why;
            self.held.retain(|_, held| !is_its(held));
            for group in &mut self.suspects {
                group.retain(|_, held| !is_its(held));
            }
            self.suspects.retain(|group| !group.is_empty());
            // The fault of several nodes is neither one node's nor a sink's.
            self.failed = situation.is_braked(&self.risked).then(|| Failed {
                revision: situation.wanted.to_owned(),
                template: Some(situation.template.to_owned()),
                setback: Setback {
                    why: situation.loss(&self.risked).unwrap_or_default(),
                    since: situation.now,
                    times: 1,
                },
                node: None,
                never_ran: false,
            });
        }
    }

    /// Ends the trial if its result is known, or if another revision is wanted by now.
    fn evaluate_trial(&mut self, situation: &Situation<'_>) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        // With another template, that may be the cause.
        if !self.has_another_template(&trial.template) {
            self.exclude_never_ran(&trial, situation);
        }
        let is_retry = self.is_retry(&trial.revision, situation);
        let is_healthy = situation
            .agents_with(&trial.revision)
            .any(|agent| situation.is_settled(agent) && (!is_retry || situation.is_proven(agent)));
        // A roll could not replace anything yet, and would fail because of earlier losses.
        let waits_for_lost = trial.is_careful && situation.is_braked(&self.risked);
        if is_healthy && !waits_for_lost {
            self.roll = Some(Attempt {
                since: situation.now,
                begun: situation.now,
                node: None,
                is_careful: false,
                ..trial
            });
        } else if self.good.is_some()
            && let Some(failure) = situation.failure(&trial, &self.unhealthy, &self.risked)
        {
            self.fail(&trial, failure, situation);
        } else if trial.revision == situation.wanted
            || (self.good.is_some() && situation.must_be_completed(&trial, &self.unhealthy))
        {
            self.trial = Some(trial);
        }
    }

    /// Ends the roll if its agents fail, if all agents have it, or if it makes no progress
    /// and another revision is wanted.
    fn evaluate_roll(&mut self, situation: &Situation<'_>) {
        let Some(roll) = self.roll.take() else {
            return;
        };
        let Situation { wanted, timing, .. } = *situation;
        let is_next = roll.revision != wanted;
        match &self.good {
            // What was before is wanted again.
            Some(good) if good.revision == wanted && is_next => return,
            Some(good) if good.revision != roll.revision => {
                self.exclude_never_ran(&roll, situation);
                if let Some(failure) = situation.failure(&roll, &self.unhealthy, &self.risked) {
                    self.fail(&roll, failure, situation);
                    return;
                }
            }
            Some(_) | None => {}
        }
        let was_watched = situation.observed(roll.since) >= timing.rollout_timeout;
        let has_good = self.good.is_some();
        let is_complete = situation.all_have(&roll, &self.unhealthy, &self.risked, has_good);
        if is_complete && (is_next || was_watched) {
            self.end(roll, situation);
            if is_next && !self.suspects.is_empty() {
                self.suspects.remove(0);
            }
        } else if !(is_next && was_watched) {
            self.roll = Some(roll);
        }
    }

    /// Excludes nodes on which the containers of an attempt never run: the node is the cause.
    fn exclude_never_ran(&mut self, attempt: &Attempt, situation: &Situation<'_>) {
        let never_ran = situation.never_ran(&attempt.revision);
        let nodes = never_ran.map(|agent| agent.node.clone());
        self.unhealthy.extend(nodes);
    }

    /// Returns whether a revision has failed before, or has a file that has.
    fn is_retry(&self, revision: &str, situation: &Situation<'_>) -> bool {
        let failed = self.failed.as_ref();
        let has_failed = |name: &String, content: &[u8]| {
            let mut groups = self.suspects.iter().chain([&self.held]);
            let content = content_hash(content);
            groups.any(|groups| groups.get(name).is_some_and(|held| held.content == content))
        };
        failed.is_some_and(|failed| failed.revision == revision && failed.node.is_some())
            || situation
                .revisions
                .get(revision)
                .is_some_and(|configuration| {
                    let mut files = configuration.tenant_files();
                    files.any(|(name, content)| has_failed(name, content))
                })
    }

    /// Records a roll with which all agents are healthy as good.
    fn end(&mut self, roll: Attempt, situation: &Situation<'_>) {
        let Attempt {
            revision, template, ..
        } = roll;
        if self.has_another_template(&template) {
            self.held.clear();
            self.suspects.clear();
        }
        self.failed
            .take_if(|failed| failed.concerns(&revision, &template));
        // Files of the new good revision are released, and so are those that were not retried for
        // a long time.
        let before = self.good.as_ref();
        let before = before.and_then(|before| situation.revisions.get(&before.revision));
        let now_good = situation.revisions.get(&revision);
        self.held.retain(|name, held| {
            let content = now_good.and_then(|now_good| now_good.files.get(name));
            let was_in_it = content.is_some_and(|content| held.content == content_hash(content));
            let before = before.and_then(|before| before.files.get(name));
            let is_another = !was_in_it && content.is_some() && content != before;
            !was_in_it
                && !is_another
                && lasts(held.setback.since, situation.now) < MAX_RETRY_WAIT * 2
        });
        self.good = Some(Since {
            revision,
            template,
            since: situation.now,
        });
    }

    /// Begins a trial or a roll of the wanted revision, if it may be tried.
    fn begin(&mut self, situation: &Situation<'_>) {
        let Situation {
            wanted,
            template,
            fleet,
            ..
        } = *situation;
        if self
            .good
            .as_ref()
            .is_some_and(|good| good.revision == wanted)
        {
            if !self.suspects.is_empty() {
                self.suspects.remove(0);
            }
            // Pods may have begun to start long ago.
            let is_old = |failed: &mut Failed| {
                failed.node.is_none() && failed.setback.is_over(situation.now)
            };
            self.failed.take_if(is_old);
            return;
        }
        let failed = self.failed.as_ref();
        let failed = failed.filter(|failed| failed.concerns(wanted, template));
        if self.good.is_some()
            && failed.is_some_and(|failed| !failed.setback.is_over(situation.now))
        {
            return;
        }
        let agents = fleet.agents.iter();
        let unhealthy = agents.filter(|agent| agent.ready_since.is_none());
        // An agent with another revision may be unhealthy because of that revision.
        let good = self.good.as_ref().map(|good| &good.revision);
        let is_before = |agent: &&Agent| good.is_none_or(|good| *good == agent.revision);
        let is_careful = failed.is_some_and(|failed| failed.node.is_none())
            || (self.good.is_some() && situation.is_braked(&self.risked));
        let unhealthy = unhealthy.filter(is_before).map(|agent| &agent.node);
        let without_agent = fleet.without_agent().map(|(node, _)| node);
        let unhealthy = unhealthy.chain(without_agent).cloned();
        if is_careful {
            self.unhealthy.extend(unhealthy);
        } else {
            self.unhealthy = unhealthy.collect();
        }
        self.trial = Some(Attempt {
            revision: wanted.to_owned(),
            template: template.to_owned(),
            since: situation.now,
            begun: situation.now,
            node: None,
            is_careful,
        });
    }

    fn step(&mut self, situation: &Situation<'_>) -> Step {
        let (unhealthy, risked) = (&self.unhealthy, &self.risked);
        match (&mut self.trial, &mut self.roll, &self.good) {
            (Some(trial), _, Some(good)) => {
                let before = self.failed.as_ref();
                situation.try_on_one(trial, &good.revision, before, unhealthy, risked)
            }
            // There is nothing to come back to.
            (Some(trial), _, None) => situation.roll(&trial.revision, risked, false),
            (None, Some(roll), good) => {
                let step = situation.roll(&roll.revision, risked, good.is_some());
                if !step.replace.is_empty() {
                    roll.since = situation.now;
                }
                step
            }
            (None, None, Some(good)) => situation.roll(&good.revision, risked, true),
            (None, None, None) => situation.roll(situation.wanted, risked, false),
        }
    }

    fn fail(&mut self, attempt: &Attempt, failure: Failure, situation: &Situation<'_>) {
        let Situation { revisions, .. } = *situation;
        let Failure {
            why,
            node,
            never_ran,
        } = failure;
        let Attempt {
            revision, template, ..
        } = attempt;
        let good = self.good.as_ref();
        // Where no agent began, none had its sinks.
        let is_suspect = node.is_none() || self.has_another_template(template);
        let template = is_suspect.then(|| template.clone());
        let before = self.failed.as_ref().filter(|failed| {
            failed.revision == *revision || (template.is_some() && failed.template == template)
        });
        let setback = |before: Option<&Setback>| Setback {
            why: why.clone(),
            since: situation.now,
            // A careful trial in which no pod started has cost no agent.
            times: before
                .filter(|_| node.is_some() || !attempt.is_careful)
                .map_or(0, |before| before.times)
                + 1,
        };
        let failed = Failed {
            revision: revision.clone(),
            template,
            setback: setback(before.map(|failed| &failed.setback)),
            node: node.clone(),
            never_ran,
        };
        let good = good.and_then(|good| revisions.get(&good.revision));
        if failed.is_of_sinks()
            && let (Some(failed), Some(good)) = (revisions.get(revision), good)
        {
            let changed = failed
                .tenant_files()
                .filter(|(name, content)| good.files.get(*name) != Some(content));
            let changed = changed.map(|(name, content)| {
                let content = content_hash(content);
                let setback = setback(self.held.get(name).map(|held| &held.setback));
                (name.clone(), HeldFile { content, setback })
            });
            self.hold(changed.collect());
        }
        self.failed = Some(failed);
    }

    /// Holds back the files that changed in a failed revision.
    fn hold(&mut self, mut changed: Vec<(String, HeldFile)>) {
        // The object that has them may be 1 MiB, and so many are not their tenants' doing.
        let suspects: usize = self.suspects.iter().map(HeldFiles::len).sum();
        if self.held.len() + suspects + changed.len() > MAX_HELD {
            return;
        }
        if changed.len() > 1 {
            let half = changed.split_off(changed.len() / 2);
            self.suspects.push(changed.into_iter().collect());
            self.suspects.push(half.into_iter().collect());
        } else {
            self.held.extend(changed);
        }
    }
}

impl Failed {
    /// Returns whether sinks are the cause. They are not if no agent started; if the
    /// template changed as well, the cause is unknown.
    #[must_use]
    pub const fn is_of_sinks(&self) -> bool {
        self.template.is_none()
    }

    /// Returns whether this revision failed, or may fail because of its template.
    #[must_use]
    pub fn concerns(&self, revision: &str, template: &str) -> bool {
        self.revision == revision || self.template.as_deref() == Some(template)
    }
}
