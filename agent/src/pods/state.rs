//! The files of a node's pods: which ones to write and to remove, and when.
//!
//! ```text
//!   a file of an earlier run ──> Unlisted ── listed ──> Gone ── retention ──> removed
//!                                  │   ^                  ^
//!                            apply │   │ begin            │ delete
//!                                  v   │                  │
//!               a pod ── apply ──> Listed ────────────────┘
//! ```
//!
//! The state has no clock and does no I/O: time comes in, and actions go out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The wait before a failed action is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The maximum size of a pod's labels. The API has no limit, so a tenant could otherwise fill
/// a folder in memory. The reader of the files has the same limit.
const MAX_LABELS: usize = 64 << 10;

/// The metadata of a pod, as the API server sends it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pod {
    metadata: Metadata,
}

/// The metadata that is stored in a file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
    #[serde(skip_serializing)]
    resource_version: String,
}

/// The annotations of a static pod: the kubelet's folder of its logs has the hash instead of
/// the UID of the API's object.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Annotations {
    #[serde(
        rename = "kubernetes.io/config.hash",
        skip_serializing_if = "Option::is_none"
    )]
    hash: Option<String>,
    #[serde(
        rename = "kubernetes.io/config.mirror",
        skip_serializing_if = "Option::is_none"
    )]
    mirror: Option<String>,
}

/// The content of a file: the API's Pod object, reduced.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    metadata: &'a Metadata,
    spec: Spec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    node_name: &'a str,
}

impl Pod {
    /// Returns the version of the object.
    pub(super) fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// Returns the name of the pod's file.
    pub(super) fn file(&self) -> String {
        format!("{}_{}.meta", self.metadata.namespace, self.metadata.name)
    }

    fn content(&self, node_name: &str) -> Result<Vec<u8>, TooLarge> {
        let metadata = &self.metadata;
        let labels = metadata.labels.iter().flatten();
        let size: usize = labels.map(|(key, value)| key.len() + value.len()).sum();
        if size > MAX_LABELS {
            return Err(TooLarge { size });
        }
        let spec = Spec { node_name };
        Ok(serde_json::to_vec(&Object { metadata, spec }).expect("its keys are strings"))
    }
}

/// Returns whether a file in the folder is that of a pod.
pub(super) fn is_pods(name: &str) -> bool {
    let pod = name.strip_suffix(".meta");
    pod.is_some_and(|pod| pod.split('_').count() == 2)
}

/// The labels of a pod exceed [`MAX_LABELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    /// The size of the labels in bytes.
    pub(super) size: usize,
}

/// The state of all files.
#[derive(Debug)]
pub(super) struct Pods {
    node: String,
    retention: Duration,
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
struct File {
    state: State,
    /// The content that has to be written.
    content: Option<Vec<u8>>,
    /// The time of the next attempt, after one that failed.
    retry: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The API server has not sent the pod since the watch began.
    Unlisted,
    /// The pod exists.
    Listed,
    /// The pod was deleted.
    Gone(Instant),
}

/// An action on the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// Write a file, unless it has this content.
    Write(&'a str, &'a [u8]),
    /// Remove a file.
    Remove(&'a str),
}

impl Pods {
    /// Creates the state from the files of an earlier run. Files stay for `retention` after
    /// their pods were deleted.
    pub(super) fn new(
        node: String,
        retention: Duration,
        files: impl IntoIterator<Item = String>,
    ) -> Self {
        let file = |name| {
            let file = File {
                state: State::Unlisted,
                content: None,
                retry: None,
            };
            (name, file)
        };
        Self {
            node,
            retention,
            files: files.into_iter().map(file).collect(),
        }
    }

    /// Notes that a watch begins, which sends all pods.
    pub(super) fn begin(&mut self) {
        for file in self.files.values_mut() {
            if file.state == State::Listed {
                file.state = State::Unlisted;
            }
        }
    }

    /// Notes that the watch has sent all pods.
    pub(super) fn listed(&mut self, now: Instant) {
        for file in self.files.values_mut() {
            if file.state == State::Unlisted {
                file.state = State::Gone(now);
            }
        }
    }

    /// Notes that a pod exists.
    ///
    /// # Errors
    ///
    /// Returns an error if the labels are too large: they are not written.
    pub(super) fn apply(&mut self, pod: &Pod) -> Result<(), TooLarge> {
        self.set(pod, State::Listed)
    }

    /// Notes that a pod was deleted. Its last labels are written.
    ///
    /// # Errors
    ///
    /// Returns an error if the labels are too large: they are not written.
    pub(super) fn delete(&mut self, pod: &Pod, now: Instant) -> Result<(), TooLarge> {
        self.set(pod, State::Gone(now))
    }

    fn set(&mut self, pod: &Pod, state: State) -> Result<(), TooLarge> {
        let content = pod.content(&self.node);
        let name = pod.file();
        match self.files.get_mut(&name) {
            Some(file) => {
                file.state = state;
                // The content of an earlier pod with this name is outdated in any case.
                file.content = content.as_ref().ok().cloned();
            }
            None => {
                if let Ok(content) = &content {
                    let file = File {
                        state,
                        content: Some(content.clone()),
                        retry: None,
                    };
                    self.files.insert(name, file);
                }
            }
        }
        content.map(drop)
    }

    /// Performs the actions that are due. `act` returns whether an action has succeeded; if
    /// not, the action is tried again later.
    pub(super) fn perform(&mut self, now: Instant, mut act: impl FnMut(Action<'_>) -> bool) {
        self.files.retain(|name, file| {
            if file.retry.is_some_and(|retry| now < retry) {
                return true;
            }
            let is_over = matches!(file.state, State::Gone(since) if now >= since + self.retention);
            let action = match &file.content {
                _ if is_over => Action::Remove(name),
                Some(content) => Action::Write(name, content),
                None => return true,
            };
            let is_done = act(action);
            if is_done {
                file.content = None;
            }
            file.retry = (!is_done).then(|| now + RETRY);
            !(is_over && is_done)
        });
    }

    /// Returns whether an action has failed and was not successful since.
    pub(super) fn has_failed(&self) -> bool {
        self.files.values().any(|file| file.retry.is_some())
    }

    /// Returns the time at which [`Pods::perform`] has something to do, if there are no
    /// changes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = self.files.values().filter_map(|file| {
            file.retry.or(match file.state {
                State::Gone(since) => Some(since + self.retention),
                State::Listed | State::Unlisted => None,
            })
        });
        deadlines.min()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RETENTION: Duration = Duration::from_secs(600);

    pub(in crate::pods) fn object(name: &str, app: &str) -> Value {
        json!({
            "metadata": {
                "name": name,
                "namespace": "shop",
                "uid": format!("uid-of-{name}"),
                "labels": {"app": app},
                "resourceVersion": "7",
            },
        })
    }

    fn pod(name: &str, app: &str) -> Pod {
        serde_json::from_value(object(name, app)).unwrap()
    }

    struct World {
        pods: Pods,
        now: Instant,
    }

    impl World {
        fn new(files: &[&str]) -> Self {
            let files = files.iter().map(|name| (*name).to_owned());
            Self {
                pods: Pods::new("node-1".to_owned(), RETENTION, files),
                now: Instant::now(),
            }
        }

        /// Performs all actions, and returns them.
        fn actions(&mut self) -> Vec<String> {
            self.attempt(true)
        }

        fn attempt(&mut self, succeeds: bool) -> Vec<String> {
            let mut actions = Vec::new();
            self.pods.perform(self.now, |action| {
                actions.push(match action {
                    Action::Write(name, content) => {
                        let content: Value = serde_json::from_slice(content).unwrap();
                        let app = &content["metadata"]["labels"]["app"];
                        format!("write {name} {}", app.as_str().unwrap())
                    }
                    Action::Remove(name) => format!("remove {name}"),
                });
                succeeds
            });
            actions
        }

        /// Continues at the deadline.
        fn wait(&mut self) {
            self.now = self.pods.deadline().unwrap();
        }
    }

    #[test]
    fn a_file_contains_the_metadata_of_a_pod() {
        let mut object = object("web-0", "web");
        object["metadata"]["annotations"] = json!({
            "kubernetes.io/config.hash": "0d1c",
            "kubernetes.io/config.mirror": "0d1c",
            "kubernetes.io/config.source": "file",
        });
        let pod: Pod = serde_json::from_value(object).unwrap();
        assert_eq!(pod.resource_version(), "7");
        assert_eq!(pod.file(), "shop_web-0.meta");
        assert!(is_pods(&pod.file()));
        let content = String::from_utf8(pod.content("node-1").unwrap()).unwrap();
        assert_eq!(
            content,
            r#"{"metadata":{"name":"web-0","namespace":"shop","uid":"uid-of-web-0","labels":{"app":"web"},"annotations":{"kubernetes.io/config.hash":"0d1c","kubernetes.io/config.mirror":"0d1c"}},"spec":{"nodeName":"node-1"}}"#
        );
        let bare = json!({"metadata": {
            "name": "web-0", "namespace": "shop", "uid": "1", "resourceVersion": "7",
        }});
        let pod: Pod = serde_json::from_value(bare).unwrap();
        let content = String::from_utf8(pod.content("node-1").unwrap()).unwrap();
        assert_eq!(
            content,
            r#"{"metadata":{"name":"web-0","namespace":"shop","uid":"1"},"spec":{"nodeName":"node-1"}}"#
        );
        for name in ["shop.namespace_meta", "web.meta", "a_b_c.meta", "shop_web"] {
            assert!(!is_pods(name), "{name}");
        }
    }

    #[test]
    fn each_change_is_written_once() {
        let mut world = World::new(&[]);
        world.pods.begin();
        world.pods.apply(&pod("a", "1")).unwrap();
        world.pods.apply(&pod("b", "1")).unwrap();
        world.pods.apply(&pod("b", "2")).unwrap();
        assert_eq!(
            world.actions(),
            ["write shop_a.meta 1", "write shop_b.meta 2"]
        );
        assert_eq!(world.actions(), [""; 0]);
        assert_eq!(world.pods.deadline(), None);
    }

    #[test]
    fn the_file_of_a_deleted_pod_stays_for_the_retention() {
        let mut world = World::new(&[]);
        world.pods.apply(&pod("a", "1")).unwrap();
        world.actions();
        world.pods.delete(&pod("a", "last"), world.now).unwrap();
        assert_eq!(world.actions(), ["write shop_a.meta last"]);
        let deleted = world.now;
        world.wait();
        assert_eq!(world.now, deleted + RETENTION);
        assert_eq!(world.actions(), ["remove shop_a.meta"]);
        assert_eq!(world.pods.deadline(), None);
    }

    #[test]
    fn a_pod_with_the_name_of_a_deleted_one_keeps_the_file() {
        let mut world = World::new(&[]);
        world.pods.delete(&pod("a", "1"), world.now).unwrap();
        world.pods.apply(&pod("a", "2")).unwrap();
        world.now += RETENTION;
        assert_eq!(world.actions(), ["write shop_a.meta 2"]);
        assert_eq!(world.pods.deadline(), None);
    }

    #[test]
    fn files_of_an_earlier_run_are_removed_once_all_pods_are_known() {
        let mut world = World::new(&["shop_a.meta", "shop_b.meta"]);
        world.pods.begin();
        world.now += RETENTION;
        world.pods.apply(&pod("b", "1")).unwrap();
        assert_eq!(world.actions(), ["write shop_b.meta 1"]);
        world.pods.listed(world.now);
        world.wait();
        assert_eq!(world.actions(), ["remove shop_a.meta"]);
        assert_eq!(world.pods.deadline(), None);
    }

    #[test]
    fn pods_that_were_deleted_between_two_watches_are_noticed() {
        let mut world = World::new(&[]);
        world.pods.apply(&pod("a", "1")).unwrap();
        world.pods.apply(&pod("b", "1")).unwrap();
        world.pods.delete(&pod("c", "1"), world.now).unwrap();
        world.actions();
        let deleted = world.now;
        world.pods.begin();
        world.pods.apply(&pod("b", "1")).unwrap();
        world.now += RETENTION / 2;
        world.pods.listed(world.now);
        world.actions();
        world.wait();
        assert_eq!(world.now, deleted + RETENTION);
        assert_eq!(world.actions(), ["remove shop_c.meta"]);
        world.wait();
        assert_eq!(world.actions(), ["remove shop_a.meta"]);
        assert_eq!(world.pods.deadline(), None);
    }

    #[test]
    fn failed_actions_are_tried_again() {
        let mut world = World::new(&[]);
        world.pods.apply(&pod("a", "1")).unwrap();
        assert_eq!(world.attempt(false), ["write shop_a.meta 1"]);
        assert!(world.pods.has_failed());
        world.pods.apply(&pod("a", "2")).unwrap();
        assert_eq!(world.actions(), [""; 0], "not at once");
        world.wait();
        assert_eq!(world.actions(), ["write shop_a.meta 2"]);
        assert!(!world.pods.has_failed());

        world.pods.delete(&pod("a", "2"), world.now).unwrap();
        world.wait();
        assert_eq!(world.attempt(false), ["remove shop_a.meta"]);
        world.wait();
        assert_eq!(world.actions(), ["remove shop_a.meta"]);
        assert!(!world.pods.has_failed());
    }

    #[test]
    fn labels_that_are_too_large_are_not_written() {
        let mut world = World::new(&[]);
        let value = "x".repeat(MAX_LABELS - "app".len());
        world.pods.apply(&pod("a", &value)).unwrap();
        let error = world.pods.apply(&pod("a", &format!("{value}x")));
        let size = MAX_LABELS + 1;
        assert_eq!(error, Err(TooLarge { size }));
        assert!(world.pods.apply(&pod("b", &format!("{value}x"))).is_err());
        assert_eq!(world.actions(), [""; 0]);
        assert_eq!(world.pods.files.len(), 1);
    }
}
