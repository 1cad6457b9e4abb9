//! The labels of pods, from files in the format of the folder `Kube_meta_preload_cache_dir` of
//! Fluent Bit's filter `kubernetes`: `<namespace>_<pod>.meta` contains the API's Pod object as
//! JSON. `sink-agent` writes them.
//!
//! A file belongs to the pod with its UID. Once another pod has the same name, as in a
//! `StatefulSet`, the file is that of the other pod. The kubelet's folder of a static pod has the
//! hash of the pod's manifest instead of the UID; the API's object has the hash in an
//! annotation.

use std::collections::BTreeMap;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde::Deserialize;

use crate::pod_folder::PodFolder;

/// The interval at which the file of a known pod is checked for changes.
const CHECK: Duration = Duration::from_secs(1);
/// The interval at which the file of an unknown pod is looked up.
const LOOK_UP: Duration = Duration::from_millis(100);
/// The maximum size of a file: that of an object in etcd.
const MAX_FILE: u64 = 3 << 19;
/// The maximum size of a pod's labels. The API has no limit, so a tenant could otherwise fill
/// the memory.
const MAX_LABELS: usize = 64 << 10;

/// The labels of pods.
#[derive(Debug)]
pub struct Labels {
    folder: PathBuf,
    pods: BTreeMap<PodFolder, Pod>,
}

#[derive(Debug)]
struct Pod {
    labels: Option<Arc<BTreeMap<String, String>>>,
    /// The version of the file that was read last.
    version: Option<Version>,
    /// The time of the next look at the file.
    next: Instant,
}

impl Labels {
    /// Creates the labels from the files of a folder, which need not exist yet.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            pods: BTreeMap::new(),
        }
    }

    /// Returns the labels of a pod, or `None` as long as they are unknown: there is no file, or
    /// it is damaged, too large, or of another pod. A pod that is known keeps its labels until
    /// the file has others for it. The same [`Arc`] is returned until the labels change.
    ///
    /// The pod takes memory until [`Labels::forget`].
    pub fn of(&mut self, pod: &PodFolder, now: Instant) -> Option<Arc<BTreeMap<String, String>>> {
        if !self.pods.contains_key(pod) {
            let unknown = Pod {
                labels: None,
                version: None,
                next: now,
            };
            self.pods.insert(pod.clone(), unknown);
        }
        let known = self.pods.get_mut(pod)?;
        if now >= known.next {
            let name = format!("{}_{}.meta", pod.namespace, pod.pod);
            known.update(&self.folder.join(name), &pod.uid);
            let is_known = known.labels.is_some();
            known.next = now + if is_known { CHECK } else { LOOK_UP };
        }
        known.labels.clone()
    }

    /// Drops a pod.
    pub fn forget(&mut self, pod: &PodFolder) {
        self.pods.remove(pod);
    }
}

impl Pod {
    /// Reads the file if it has changed.
    fn update(&mut self, path: &Path, uid: &str) {
        let is_new = |version: &Version| self.version.as_ref() != Some(version);
        let version = path
            .symlink_metadata()
            .ok()
            .and_then(|file| Version::of(&file));
        if !version.as_ref().is_some_and(is_new) {
            return;
        }
        // After an error, the file is read again.
        let Ok((version, text)) = read(path) else {
            return;
        };
        self.version = version;
        if let Some(labels) = parse(&text, uid)
            && self.labels.as_deref() != Some(&labels)
        {
            self.labels = Some(Arc::new(labels));
        }
    }
}

/// The version of a file: another one has other content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
}

impl Version {
    /// Returns the version of a regular file of an allowed size.
    fn of(file: &Metadata) -> Option<Self> {
        let is_allowed = file.is_file() && file.len() <= MAX_FILE;
        is_allowed.then(|| Self {
            inode: (file.dev(), file.ino()),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

/// Reads a file, and returns its version as well. The file may have been replaced since it was
/// looked at, so a symbolic link or a large file is refused here again.
fn read(path: &Path) -> io::Result<(Option<Version>, Vec<u8>)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags.bits() as i32);
    let file = file.open(path)?;
    let Some(version) = Version::of(&file.metadata()?) else {
        return Ok((None, Vec::new()));
    };
    let mut text = Vec::with_capacity(version.length as usize);
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    // A file that grew while it was read is read again.
    let is_complete = text.len() as u64 == version.length;
    Ok((is_complete.then_some(version), text))
}

/// The Pod object of the API, as far as it is read.
#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct ObjectMeta {
    uid: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
}

/// The annotations of the API's object of a static pod.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.hash")]
    hash: Option<String>,
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

/// Returns the labels in a Pod object, or `None` if it is damaged or that of another pod.
fn parse(text: &[u8], uid: &str) -> Option<BTreeMap<String, String>> {
    let ObjectMeta {
        uid: own,
        labels,
        annotations,
    } = serde_json::from_slice::<Object>(text).ok()?.metadata;
    let hashes = annotations.map(|annotations| [annotations.hash, annotations.mirror]);
    let mut uids = hashes.into_iter().flatten().flatten().chain([own]);
    if !uids.any(|own| own == uid) {
        return None;
    }
    let labels = labels.unwrap_or_default();
    let sizes = labels.iter().map(|(key, value)| key.len() + value.len());
    (sizes.sum::<usize>() <= MAX_LABELS).then_some(labels)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    const UID: &str = "2f6b0c9e-0000-4000-8000-000000000001";
    const OTHER_UID: &str = "2f6b0c9e-0000-4000-8000-000000000002";
    const HASH: &str = "0d1c2b3a4f5e6d7c8b9a0f1e2d3c4b5a";
    const FILE: &str = "shop_web-0.meta";

    struct World {
        folder: TempDir,
        labels: Labels,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            Self {
                labels: Labels::new(folder.path().to_owned()),
                folder,
                now: Instant::now(),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join(FILE)
        }

        /// Replaces the file as `sink-agent` does.
        fn write(&self, content: impl AsRef<[u8]>) {
            let new = self.folder.path().join("new");
            fs::write(&new, content).unwrap();
            fs::rename(new, self.path()).unwrap();
        }

        fn get(&mut self, uid: &str) -> Option<Arc<BTreeMap<String, String>>> {
            self.labels.of(&pod(uid), self.now)
        }

        /// Returns the value of the label `app` after a second.
        fn app(&mut self, uid: &str) -> Option<String> {
            self.now += CHECK;
            Some(self.get(uid)?.get("app").cloned().unwrap_or_default())
        }
    }

    fn pod(uid: &str) -> PodFolder {
        PodFolder::parse(&format!("shop_web-0_{uid}")).unwrap()
    }

    fn object(uid: &str, app: &str) -> Value {
        json!({
            "metadata": {
                "name": "web-0",
                "namespace": "shop",
                "uid": uid,
                "labels": {"app": app},
            },
            "spec": {"nodeName": "node-1"},
        })
    }

    fn text(uid: &str, app: &str) -> String {
        object(uid, app).to_string()
    }

    #[test]
    fn a_pod_has_the_labels_of_the_file_with_its_uid() {
        let mut world = World::new();
        assert_eq!(world.app(UID), None);
        world.write(text(UID, "web"));
        assert_eq!(world.app(UID).unwrap(), "web");
        assert_eq!(world.app(OTHER_UID), None);
        for labels in [json!({}), Value::Null] {
            let mut object = object(UID, "");
            object["metadata"]["labels"] = labels;
            world.write(object.to_string());
            assert_eq!(world.app(UID).unwrap(), "", "a pod without labels is known");
        }
    }

    #[test]
    fn an_unknown_pod_is_looked_up_again_after_a_tenth_of_a_second() {
        let mut world = World::new();
        assert_eq!(world.get(UID), None);
        world.write(text(UID, "web"));
        world.now += LOOK_UP / 2;
        assert_eq!(world.get(UID), None);
        world.now += LOOK_UP / 2;
        assert!(world.get(UID).is_some());
    }

    #[test]
    fn a_known_pod_is_checked_once_a_second() {
        let mut world = World::new();
        world.write(text(UID, "web"));
        let first = world.get(UID).unwrap();
        world.write(text(UID, "bank"));
        world.now += CHECK / 2;
        assert!(Arc::ptr_eq(&first, &world.get(UID).unwrap()));
        world.now += CHECK / 2;
        let second = world.get(UID).unwrap();
        assert_eq!((&*first["app"], &*second["app"]), ("web", "bank"));
        // The same labels again.
        world.write(text(UID, "bank"));
        world.now += CHECK;
        assert!(Arc::ptr_eq(&second, &world.get(UID).unwrap()));
    }

    #[test]
    fn a_pod_keeps_its_labels_when_the_file_has_none_of_it() {
        let mut world = World::new();
        world.write(text(UID, "web"));
        assert_eq!(world.app(UID).unwrap(), "web");
        fs::remove_file(world.path()).unwrap();
        assert_eq!(world.app(UID).unwrap(), "web");
        world.write(text(OTHER_UID, "bank"));
        assert_eq!(world.app(UID).unwrap(), "web");
        assert_eq!(world.app(OTHER_UID).unwrap(), "bank");
        world.labels.forget(&pod(UID));
        assert_eq!(world.app(UID), None);
        assert_eq!(world.labels.pods.len(), 2);
    }

    #[test]
    fn a_damaged_file_counts_as_unknown() {
        let whole = text(UID, "web");
        for length in 0..whole.len() {
            let labels = parse(&whole.as_bytes()[..length], UID);
            assert_eq!(labels, None, "{length}");
        }
        for text in [
            format!("{whole}{{"),
            whole.replace("\"web\"", "1"),
            whole.replace("uid", "id"),
            "[]".to_owned(),
            "\0".repeat(whole.len()),
        ] {
            assert_eq!(parse(text.as_bytes(), UID), None, "{text}");
        }
        // The rest of a file is written later.
        let mut world = World::new();
        world.write(&whole[..20]);
        assert_eq!(world.app(UID), None);
        fs::write(world.path(), &whole).unwrap();
        assert_eq!(world.app(UID).unwrap(), "web");
    }

    #[test]
    fn files_and_labels_that_are_too_large_are_refused() {
        let mut world = World::new();
        let mut text = text(UID, "web");
        text.push_str(&" ".repeat(MAX_FILE as usize - text.len()));
        world.write(format!("{text} "));
        assert_eq!(world.app(UID), None);
        world.write(text);
        assert_eq!(world.app(UID).unwrap(), "web");

        let with = |size: usize| object(UID, &"x".repeat(size - "app".len())).to_string();
        assert!(parse(with(MAX_LABELS).as_bytes(), UID).is_some());
        assert!(parse(with(MAX_LABELS + 1).as_bytes(), UID).is_none());
    }

    #[test]
    fn only_regular_files_are_read() {
        let mut world = World::new();
        let target = world.folder.path().join("target");
        fs::write(&target, text(UID, "web")).unwrap();
        symlink(&target, world.path()).unwrap();
        assert_eq!(world.app(UID), None);
        // As if the link had replaced a file that was looked at.
        assert!(read(&world.path()).is_err());
        fs::remove_file(world.path()).unwrap();
        fs::create_dir(world.path()).unwrap();
        assert_eq!(world.app(UID), None);
        assert_eq!(read(&world.path()).unwrap(), (None, Vec::new()));
    }

    #[test]
    fn a_static_pod_has_the_labels_of_its_mirror_pod() {
        for annotation in ["hash", "mirror"] {
            let mut world = World::new();
            let mut object = object(UID, "etcd");
            let name = format!("kubernetes.io/config.{annotation}");
            object["metadata"]["annotations"] = json!({name: HASH, "other": "x"});
            world.write(object.to_string());
            assert_eq!(world.app(HASH).unwrap(), "etcd");
            assert_eq!(world.app(UID).unwrap(), "etcd");
            assert_eq!(world.app(OTHER_UID), None);
        }
    }
}
