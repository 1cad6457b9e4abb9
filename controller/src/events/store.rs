//! Storage of the checkpoint in a `ConfigMap`.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::checkpoint::Checkpoint;
use crate::names::{CHECKPOINT, EVENTS};
use crate::settings::Settings;

/// The field manager of the checkpoint; the `ConfigMap` itself is applied by another.
const MANAGER: &str = "sink-controller-events";

/// The storage of the checkpoint.
#[derive(Clone)]
pub(super) struct Store {
    api: Api<ConfigMap>,
    every: Duration,
    patience: Duration,
    retry: Duration,
}

impl Store {
    pub(super) fn new(client: &Client, settings: &Settings) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &settings.namespace),
            every: settings.timing.checkpoint_interval,
            patience: settings.timing.request_timeout,
            retry: settings.timing.retry,
        }
    }

    /// Reads the checkpoint. An invalid one counts as missing: Events that the API server
    /// still has are delivered again.
    pub(super) async fn read(&self) -> Checkpoint {
        loop {
            let stored = match timeout(self.patience, self.api.get_opt(EVENTS)).await {
                Ok(Ok(stored)) => stored,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot read the event checkpoint");
                    sleep(self.retry).await;
                    continue;
                }
                Err(_) => continue,
            };
            let data = stored.and_then(|stored| stored.data).unwrap_or_default();
            let Some(text) = data.get(CHECKPOINT) else {
                return Checkpoint::default();
            };
            return serde_json::from_str(text).unwrap_or_else(|error| {
                tracing::warn!(%error, "invalid event checkpoint, starting from scratch");
                Checkpoint::default()
            });
        }
    }

    /// Stores each checkpoint that differs from the previous one.
    pub(super) async fn keep(&self, mut newest: watch::Receiver<Checkpoint>) {
        while newest.changed().await.is_ok() {
            let checkpoint = newest.borrow_and_update().clone();
            if !self.write(&checkpoint).await {
                newest.mark_changed();
            }
            sleep(self.every).await;
        }
    }

    /// Stores a checkpoint. Returns whether that succeeded.
    pub(super) async fn write(&self, checkpoint: &Checkpoint) -> bool {
        let text = serde_json::to_string(checkpoint).expect("names, numbers and a time");
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": EVENTS},
            "data": {CHECKPOINT: text},
        }));
        let parameters = PatchParams::apply(MANAGER).force();
        let written = self.api.patch(EVENTS, &parameters, &patch);
        match timeout(self.patience, written).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot write the event checkpoint");
                false
            }
            Err(_) => false,
        }
    }
}
