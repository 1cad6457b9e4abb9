//! What became of revisions, and which one the agents shall have.
//!
//! ```text
//! a new revision -> tried on one node -> ready for a while -> good: the others follow
//!                                     -> not ready: the good one comes back,
//!                                        and what changed since is held
//! ```
//!
//! What is held is a tenant's own file. With several, halves of them are tried
//! again one after the other, so that what is wrong ends up alone. The history
//! outlives the controller, so that nothing is tried twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{Files, content_hash, units};
use crate::fleet::Agent;
use crate::settings::Pace;

/// See the [module](self).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// The last revision that an agent was seen well with.
    pub good: Option<Since>,
    /// The one that is being tried.
    pub trial: Option<Since>,
    /// The last one that failed.
    pub failed: Option<Failed>,
    /// The agents' template at that time: with another one, all is open again.
    pub template: String,
    /// What is known to be wrong.
    pub held: Units,
    /// What was changed together with something wrong, to be tried again one
    /// group after the other.
    pub suspects: Vec<Units>,
}

/// Files of tenants that agents do not get, by their names.
pub type Units = BTreeMap<String, Held>;

/// A file's content that agents do not get.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Held {
    /// The content's hash: another content is another matter.
    pub content: String,
    /// What became of the agents that had it.
    pub why: String,
}

/// A revision, and since when it is what it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Since {
    /// Which.
    pub revision: String,
    /// Since when.
    pub since: Timestamp,
}

/// A revision that failed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failed {
    /// Which.
    pub revision: String,
    /// What became of the agents that had it.
    pub why: String,
}

/// What the agents shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which revision.
    pub revision: String,
    /// How many of them at once.
    pub reach: Reach,
}

/// How many agents get a revision at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One, to see what becomes of it.
    One,
    /// All, as many at a time as the settings say.
    All,
}

impl Step {
    fn new(revision: &str, reach: Reach) -> Self {
        let revision = revision.to_owned();
        Self { revision, reach }
    }
}

/// The files of revisions.
pub type Revisions = BTreeMap<String, Arc<Files>>;

impl History {
    /// What is held while the agents' template is this one.
    pub fn held(&self, template: &str) -> impl Iterator<Item = (&String, &Held)> {
        let groups = std::iter::once(&self.held).chain(&self.suspects);
        let groups = groups.filter(move |_| self.template == template);
        groups.flatten()
    }

    /// What comes next, and what is remembered then, where a revision with such a
    /// template is wanted. `revisions` are those that agents have, and the good
    /// one.
    #[must_use]
    pub fn next(
        mut self,
        wanted: &str,
        template: &str,
        revisions: &Revisions,
        agents: &[Agent],
        pace: Pace,
        now: Timestamp,
    ) -> (Self, Step) {
        if self.template != template {
            template.clone_into(&mut self.template);
            self.held.clear();
            self.suspects.clear();
        }
        let is_adopted = self.adopt(wanted, revisions, agents, now);
        let step = self
            .see_through(wanted, revisions, agents, pace, now)
            .or_else(|| self.stay(wanted, agents, pace, now, is_adopted))
            .unwrap_or_else(|| self.attempt(wanted, now));
        (self, step)
    }

    /// Ends the trial under way where it is known what came of it.
    fn see_through(
        &mut self,
        wanted: &str,
        revisions: &Revisions,
        agents: &[Agent],
        pace: Pace,
        now: Timestamp,
    ) -> Option<Step> {
        let trial = self.trial.clone()?;
        let tried = lasts(trial.since, now);
        let outcome = outcome(&trial.revision, agents, pace, tried, now);
        if let Some(Ok(())) = outcome {
            let revision = trial.revision;
            let since = now;
            self.good = Some(Since { revision, since });
            self.trial = None;
            return None;
        }
        // Else there is nothing to come back to.
        self.good.as_ref()?;
        if let Some(Err(why)) = outcome {
            self.fail(&trial.revision, revisions, &why);
            self.trial = None;
            return None;
        }
        // Changes that come all the time must not keep one from being seen
        // through.
        let is_in_time = trial.revision != wanted && tried < pace.settle * 3;
        is_in_time.then(|| Step::new(&trial.revision, Reach::One))
    }

    /// Gives agents what is good: because it is what is wanted, because what is
    /// wanted has failed, or because not all of them have it yet.
    fn stay(
        &mut self,
        wanted: &str,
        agents: &[Agent],
        pace: Pace,
        now: Timestamp,
        is_adopted: bool,
    ) -> Option<Step> {
        let good = self.good.clone()?;
        if good.revision == wanted {
            self.trial = None;
            if !self.suspects.is_empty() {
                self.suspects.remove(0);
            }
            return Some(Step::new(wanted, Reach::All));
        }
        let failed = self.failed.as_ref();
        if failed.is_some_and(|failed| failed.revision == wanted) {
            self.trial = None;
            return Some(Step::new(&good.revision, Reach::All));
        }
        // One that is ready since a moment ago counts as replaced only later: the
        // DaemonSet's controller replaces what it takes for ill at once.
        let is_new = |agent: &Agent| {
            agent.ready_since.is_some_and(|since| {
                agent.revision != good.revision || lasts(since, now) < pace.settle
            })
        };
        let is_under_way = agents.iter().any(is_new);
        let is_recent = lasts(good.since, now) < pace.roll;
        let shall_wait = self.trial.is_none() && is_under_way && is_recent && !is_adopted;
        shall_wait.then(|| Step::new(&good.revision, Reach::All))
    }

    /// Tries what is wanted, from now on or as before.
    fn attempt(&mut self, wanted: &str, now: Timestamp) -> Step {
        let trial = self.trial.take();
        let trial = trial.filter(|trial| trial.revision == wanted);
        self.trial = trial.or_else(|| {
            Some(Since {
                revision: wanted.to_owned(),
                since: now,
            })
        });
        Step::new(wanted, Reach::One)
    }

    /// Where nothing is known to be good, what agents are ready with is. Says
    /// whether that was so.
    fn adopt(
        &mut self,
        wanted: &str,
        revisions: &Revisions,
        agents: &[Agent],
        now: Timestamp,
    ) -> bool {
        // One whose Secrets somebody deleted cannot come back.
        self.good
            .take_if(|good| good.revision != wanted && !revisions.contains_key(&good.revision));
        let is_well = |agent: &&Agent| {
            agent.ready_since.is_some()
                && agent.revision != wanted
                && revisions.contains_key(&agent.revision)
        };
        if self.good.is_none()
            && let Some(agent) = agents.iter().find(is_well)
        {
            // It was the first one's: nothing is left to find out.
            self.trial.take_if(|trial| trial.revision == agent.revision);
            self.good = Some(Since {
                revision: agent.revision.clone(),
                since: now,
            });
            return true;
        }
        false
    }

    fn fail(&mut self, revision: &str, revisions: &Revisions, why: &str) {
        self.failed = Some(Failed {
            revision: revision.to_owned(),
            why: why.to_owned(),
        });
        let good = self.good.as_ref();
        let good = good.and_then(|good| revisions.get(&good.revision));
        let (Some(files), Some(good)) = (revisions.get(revision), good) else {
            return;
        };
        let changed = units(files).filter(|(name, content)| good.get(*name) != Some(content));
        let mut changed: Vec<(String, Held)> = changed
            .map(|(name, content)| {
                let content = content_hash(content);
                let why = why.to_owned();
                (name.clone(), Held { content, why })
            })
            .collect();
        if changed.len() > 1 {
            let half = changed.split_off(changed.len() / 2);
            self.suspects.push(changed.into_iter().collect());
            self.suspects.push(half.into_iter().collect());
        } else {
            self.held.extend(changed);
        }
    }
}

fn lasts(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).try_into().unwrap_or_default()
}

/// Whether agents are well with a revision, once that is known.
fn outcome(
    revision: &str,
    agents: &[Agent],
    pace: Pace,
    tried: Duration,
    now: Timestamp,
) -> Option<Result<(), String>> {
    let with_it = || agents.iter().filter(|agent| agent.revision == revision);
    let is_settled = |agent: &Agent| {
        let since = agent.ready_since;
        since.is_some_and(|since| lasts(since, now) >= pace.settle)
    };
    if with_it().any(is_settled) {
        return Some(Ok(()));
    }
    let is_late = |agent: &&Agent| tried >= pace.trial && agent.ready_since.is_none();
    let ill = with_it()
        .find(|agent| agent.is_crashing())
        .or_else(|| with_it().find(is_late))?;
    let trouble = ill.trouble.as_deref().unwrap_or("it is not ready");
    Some(Err(format!("on node {}: {trouble}", ill.node)))
}

#[cfg(test)]
mod tests;
