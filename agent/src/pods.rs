//! The labels of the node's pods, in files for an input of Fluent Bit.
//!
//! ```text
//! API server ── watch.rs ── events ──> state.rs ── actions ──> folder.rs
//!                                                                <namespace>_<pod>.meta
//! ```
//!
//! This runs in a thread of its own, so that neither the network nor a disk delays signals for
//! Fluent Bit. After an error, the files stay as they are, and the watch is tried again.

mod folder;
mod outage;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::api::WatchEvent;
use kube::runtime::watcher::DefaultBackoff;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::log::{chain, info, warn};
use crate::pods::folder::Folder;
use crate::pods::outage::Outage;
use crate::pods::state::{Pod, Pods, TooLarge};
use crate::pods::watch::{Kind, WatchError, connect, watch};

/// The time after which a watch without events is restarted: the API server sends a bookmark
/// every minute, and a connection may break without notice.
const SILENCE: Duration = Duration::from_secs(150);
/// The time between two looks at nothing.
const IDLE: Duration = Duration::from_secs(3600);

/// The settings of the files.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The folder of the files.
    pub(crate) folder: PathBuf,
    /// The name of the node.
    pub(crate) node: String,
    /// The time for which files of deleted pods are kept.
    pub(crate) retention: Duration,
}

/// Starts the thread that keeps the files up to date, until the process exits.
///
/// # Errors
///
/// Returns an error if the thread cannot be started.
pub(crate) fn start(settings: Settings) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("pods".to_owned());
    thread.spawn(move || runtime.block_on(keep(settings, connect)))?;
    Ok(())
}

/// Keeps the files up to date.
async fn keep(
    settings: Settings,
    connect: impl AsyncFn() -> Result<Client, WatchError>,
) -> Infallible {
    let mut keeper = Keeper::new(settings);
    let mut backoff = DefaultBackoff::default();
    loop {
        match keeper.follow(&connect).await {
            Err(error) if error.is_expired() => keeper.version = None,
            Err(error) => keeper.on_error(&error),
            Ok(()) => {}
        }
        let wait = backoff.next().unwrap_or(SILENCE);
        keeper.wait_until(Instant::now() + wait).await;
    }
}

struct Keeper {
    node: String,
    pods: Pods,
    folder: Folder,
    /// The version at which the watch can be resumed.
    version: Option<String>,
    watch: Outage<Kind>,
    files: Outage<io::ErrorKind>,
    has_logged_size: bool,
}

impl Keeper {
    fn new(settings: Settings) -> Self {
        let Settings {
            folder,
            node,
            retention,
        } = settings;
        let shown = folder.display().to_string();
        let folder = Folder::new(folder);
        let files = folder.files().unwrap_or_else(|error| {
            warn(&format!("cannot use the folder of labels {shown}: {error}"));
            Vec::new()
        });
        Self {
            pods: Pods::new(node.clone(), retention, files),
            node,
            folder,
            version: None,
            watch: Outage::new(),
            files: Outage::new(),
            has_logged_size: false,
        }
    }

    /// Follows one watch to its end.
    async fn follow(
        &mut self,
        connect: impl AsyncFn() -> Result<Client, WatchError>,
    ) -> Result<(), WatchError> {
        let client = connect().await?;
        let events = watch(&client, &self.node, self.version.as_deref()).await?;
        let mut events = pin!(events);
        if self.version.is_none() {
            self.pods.begin();
        }
        let mut silent = Instant::now() + SILENCE;
        loop {
            tokio::select! {
                event = timeout_at(silent, events.try_next()) => match event {
                    Ok(Ok(Some(event))) => self.on_event(event)?,
                    Ok(Err(error @ WatchError::Event)) => self.on_error(&error),
                    Ok(Err(error)) => return Err(error),
                    // The API server ends each watch after some minutes.
                    Ok(Ok(None)) | Err(_) => return Ok(()),
                },
                () = sleep_until(self.deadline()) => {
                    self.perform();
                    continue;
                }
            }
            silent = Instant::now() + SILENCE;
            self.perform();
        }
    }

    fn on_event(&mut self, event: WatchEvent<Pod>) -> Result<(), WatchError> {
        let now = Instant::now().into_std();
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                let result = self.pods.apply(&pod);
                self.on_pod(&pod, result.err());
            }
            WatchEvent::Deleted(pod) => {
                let result = self.pods.delete(&pod, now);
                self.on_pod(&pod, result.err());
            }
            WatchEvent::Bookmark(bookmark) => {
                let version = bookmark.metadata.resource_version;
                if self.version.replace(version).is_none() {
                    self.pods.listed(now);
                }
            }
            WatchEvent::Error(status) => return Err(status.into()),
        }
        if self.watch.on_success() {
            info("the watch of this node's pods works again");
        }
        Ok(())
    }

    fn on_pod(&mut self, pod: &Pod, error: Option<TooLarge>) {
        if let Some(version) = &mut self.version {
            pod.resource_version().clone_into(version);
        }
        if let Some(TooLarge { size }) = error
            && !std::mem::replace(&mut self.has_logged_size, true)
        {
            let file = pod.file();
            warn(&format!(
                "{file} not written: {size} bytes of labels exceed the limit; further files like \
                 this are not logged"
            ));
        }
    }

    fn on_error(&mut self, error: &WatchError) {
        if self.watch.on_failure(error.kind()) {
            warn(&format!(
                "cannot watch the pods of this node, so labels may be missing: {}",
                chain(error)
            ));
        }
    }

    /// Performs the actions that are due.
    fn perform(&mut self) {
        let Self {
            pods,
            folder,
            files,
            ..
        } = self;
        pods.perform(Instant::now().into_std(), |action| {
            let result = folder.perform(action);
            if let Err(error) = &result
                && files.on_failure(error.kind())
            {
                warn(&format!("cannot update the labels of a pod: {error}"));
            }
            result.is_ok()
        });
        if !pods.has_failed() && files.on_success() {
            info("the labels of all pods are updated again");
        }
    }

    /// Performs the actions that become due in the meantime.
    async fn wait_until(&mut self, end: Instant) {
        while self.deadline() < end {
            sleep_until(self.deadline()).await;
            self.perform();
        }
        sleep_until(end).await;
    }

    /// Returns the time of the next action.
    fn deadline(&self) -> Instant {
        let deadline = self.pods.deadline().map(Instant::from_std);
        deadline.unwrap_or_else(|| Instant::now() + IDLE)
    }
}
