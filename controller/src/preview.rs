//! What this version of the controller would do, without doing it.

use std::fmt;

use kube::Client;
use kube::runtime::reflector::store::WriterDropped;
use thiserror::Error;

use crate::apply::{Applier, ApplyError, Change, ChangeKind};
use crate::history::Situation;
use crate::monitor::Monitor;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::watch::Watched;

/// What would be done next.
#[derive(Debug)]
pub struct Preview {
    /// The revision that is wanted.
    pub revision: String,
    /// How many agents have another one, and would be replaced.
    pub replaced: usize,
    /// How many agents there are.
    pub agents: usize,
    /// The objects that would be written or deleted now. A roll takes more than one
    /// round: what it deletes later is not among them.
    pub changes: Vec<Change>,
}

/// Why it is not known.
#[derive(Debug, Error)]
pub enum PreviewError {
    /// A watch ended.
    #[error("cannot watch the API server: {0}")]
    Watch(#[from] WriterDropped),
    /// The API server refused something.
    #[error("the API server refused: {0}")]
    Kube(#[from] kube::Error),
    /// What is to be written cannot be.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Asks the API server what would become of what the controller wants.
///
/// # Errors
///
/// Where it cannot be reached, or refuses.
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
    /// Comments, and the objects as YAML.
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
