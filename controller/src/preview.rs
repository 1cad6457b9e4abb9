//! A dry run: the changes that this version of the controller would make.

use std::fmt;

use kube::Client;
use kube::runtime::reflector::store::WriterDropped;
use thiserror::Error;

use crate::apply::{Applier, Change, ChangeKind};
use crate::error;
use crate::history::Situation;
use crate::monitor::Monitor;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::watch::Watched;

/// The changes that the controller would make next.
#[derive(Debug)]
pub struct Preview {
    /// The wanted revision.
    pub revision: String,
    /// The number of agents with another revision, which would be replaced.
    pub replaced: usize,
    /// The number of agents.
    pub agents: usize,
    /// The objects that would be written or deleted now. A roll takes several rounds; what
    /// it deletes later is not included.
    pub changes: Vec<Change>,
}

/// The reason why a dry run failed.
#[derive(Debug, Error)]
pub enum PreviewError {
    /// A watch ended.
    #[error("cannot watch the API server: {0}")]
    Watch(#[from] WriterDropped),
    /// The API server refused something.
    #[error("the API server refused: {0}")]
    Kube(#[from] kube::Error),
    /// A change could not be applied in the dry run.
    #[error(transparent)]
    Apply(#[from] error::Error),
}

/// Runs a round as a dry run.
///
/// # Errors
///
/// Returns an error if the API server cannot be reached or rejects a change.
pub async fn preview(client: Client, settings: &Settings) -> Result<Preview, PreviewError> {
    let watched = Watched::start(client.clone(), settings, &Monitor::default()).await?;
    let snapshot = watched.snapshot(settings).await?;
    let plan = Plan::new(&snapshot, settings);
    let situation = Situation::new(&plan, &snapshot, settings);
    let (history, step) = snapshot.history.clone().next(&situation);
    let applier = Applier::dry(client, settings).await?;
    applier.apply(&plan, &snapshot, &history, &step).await?;
    let fleet = &snapshot.fleet;
    let others = fleet.revisions().filter(|found| **found != plan.revision);
    Ok(Preview {
        replaced: others.count(),
        agents: fleet.revisions().count(),
        revision: plan.revision,
        changes: applier.into_changes(),
    })
}

impl fmt::Display for Preview {
    /// Writes comments, and the objects as YAML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            revision,
            replaced,
            agents,
            changes,
        } = self;
        writeln!(
            f,
            "# Revision {revision}: {replaced} of {agents} agents would be replaced"
        )?;
        if changes.is_empty() {
            return writeln!(f, "# No object would change");
        }
        for Change { object, kind } in changes {
            let (done, content) = match kind {
                ChangeKind::Created(content) => ("created", Some(content)),
                ChangeKind::Changed(content) => ("changed", Some(content)),
                ChangeKind::Deleted => ("deleted", None),
            };
            writeln!(f, "---\n# {done}: {object}")?;
            if let Some(content) = content {
                let text = serde_saphyr::to_string(content).map_err(|_| fmt::Error)?;
                write!(f, "{text}")?;
            }
        }
        Ok(())
    }
}
