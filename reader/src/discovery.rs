//! Discovery of the containers' folders, and of changes in them, by a single inotify instance.
//!
//! ```text
//! /var/log/pods                            watched for folders of pods
//!   <namespace>_<pod>_<uid>                watched for folders of containers
//!     <container>                          watched for writes, new and renamed files
//!       0.log -> <folder>/<file>           the folder is watched for writes too
//! ```
//!
//! What was created before a watch was added is found by listing the folder afterwards. If the
//! kernel drops events, or a watch cannot be added because there are too many, a scan finds
//! the changes; the caller scans regularly.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::log_folder::{self, LogFolder};
use crate::pod_folder::{PodFolder, is_container};

/// The pods whose containers are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The namespaces of the pods.
    pub namespaces: Namespaces,
    /// Pods that are not read all the same, as `<namespace>/<pod>`.
    pub excluded_pods: BTreeSet<String>,
}

/// The namespaces whose containers are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// All namespaces except these.
    AllBut(BTreeSet<String>),
    /// Only these namespaces.
    Only(BTreeSet<String>),
}

/// Finds containers, and notices changes of their logs.
#[derive(Debug)]
pub struct Discovery {
    root: LogFolder,
    scope: Scope,
    inotify: OwnedFd,
    /// The uses of each of the kernel's watches. A folder has a single one.
    watches: HashMap<i32, Vec<Watch>>,
    watched: HashMap<Watch, i32>,
    /// The folders to which links of containers lead, by the containers' folders.
    targets: HashMap<PathBuf, BTreeSet<PathBuf>>,
    /// The folders for which the kernel has no watch left.
    unwatched: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Watch {
    Root,
    Pod(PathBuf),
    Container(PathBuf),
    /// A folder to which a link in a container's folder leads.
    Target {
        container: PathBuf,
        folder: PathBuf,
    },
}

/// The events of folders of pods and containers: new folders.
const FOLDERS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::MASK_ADD);
/// The events of a container's files.
const FILES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::MASK_ADD);
/// The events after which a container may have other links.
const NAMES: ReadFlags = ReadFlags::CREATE
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::MOVED_TO)
    .union(ReadFlags::DELETE);
/// The size of the buffer for events in bytes.
const BUFFER: usize = 16 * 1024;

impl Default for Namespaces {
    /// Returns all namespaces.
    fn default() -> Self {
        Self::AllBut(BTreeSet::new())
    }
}

impl Scope {
    /// Returns whether the containers of a pod are read.
    #[must_use]
    pub fn contains(&self, folder: &PodFolder) -> bool {
        let PodFolder { namespace, pod, .. } = folder;
        let is_included = match &self.namespaces {
            Namespaces::AllBut(namespaces) => !namespaces.contains(namespace),
            Namespaces::Only(namespaces) => namespaces.contains(namespace),
        };
        let is_excluded = || self.excluded_pods.contains(&format!("{namespace}/{pod}"));
        is_included && !is_excluded()
    }
}

impl Discovery {
    /// Creates the discovery of the containers below a folder. [`Discovery::scan`] finds
    /// those that exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the user has no inotify instance left.
    pub fn new(root: impl Into<LogFolder>, scope: Scope) -> io::Result<Self> {
        Ok(Self {
            root: root.into(),
            scope,
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            watches: HashMap::new(),
            watched: HashMap::new(),
            targets: HashMap::new(),
            unwatched: 0,
        })
    }

    /// Returns the file descriptor that becomes readable when there are changes.
    #[must_use]
    pub const fn descriptor(&self) -> &OwnedFd {
        &self.inotify
    }

    /// Returns the number of folders that have no watch, because the limit of the kernel
    /// (`fs.inotify.max_user_watches`) is reached. Only scans notice their changes.
    #[must_use]
    pub const fn unwatched(&self) -> usize {
        self.unwatched
    }

    /// Finds all containers. Passes the folder of each to `changed`.
    ///
    /// # Errors
    ///
    /// Returns an error if the root folder cannot be read.
    pub fn scan(&mut self, mut changed: impl FnMut(&Path)) -> io::Result<()> {
        self.unwatched = 0;
        self.watch(Watch::Root);
        let mut found = HashSet::new();
        for entry in self.root.path.read_dir()? {
            self.add_pod(&entry?.path(), &mut |container| {
                found.insert(container.to_owned());
                changed(container);
            });
        }
        let gone = self.targets.keys();
        let gone: Vec<PathBuf> = gone
            .filter(|path| !found.contains(*path))
            .cloned()
            .collect();
        for container in gone {
            self.set_targets(&container, &BTreeSet::new());
        }
        Ok(())
    }

    /// Passes the folder of each container whose files have changed to `changed`. A folder
    /// may be passed several times. Returns whether the kernel has dropped events, so that a
    /// scan is necessary.
    ///
    /// # Errors
    ///
    /// Returns an error if the events cannot be read.
    pub fn changes(&mut self, mut changed: impl FnMut(&Path)) -> io::Result<bool> {
        let mut has_dropped = false;
        let (mut found, mut gone, mut renamed) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            has_dropped |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()));
            if flags.contains(ReadFlags::IGNORED) {
                // The folder is gone.
                let watches = self.watches.remove(&event.wd()).into_iter().flatten();
                gone.extend(watches.map(|watch| (event.wd(), watch)));
                continue;
            }
            for watch in self.watches.get(&event.wd()).into_iter().flatten() {
                match (watch, name) {
                    (Watch::Root, Some(name)) => found.push((self.root.path.join(name), true)),
                    (Watch::Pod(pod), Some(name)) => found.push((pod.join(name), false)),
                    (Watch::Root | Watch::Pod(_), None) => {}
                    (Watch::Container(container), _) => {
                        if flags.intersects(NAMES) {
                            renamed.insert(container.clone());
                        }
                        changed(container);
                    }
                    (Watch::Target { container, .. }, _) => changed(container),
                }
            }
        }
        for (descriptor, watch) in gone {
            self.forget(descriptor, &watch);
        }
        for container in renamed {
            self.watch_targets(&container);
        }
        for (path, is_pod) in found {
            if is_pod {
                self.add_pod(&path, &mut changed);
            } else {
                self.add_container(&path, &mut changed);
            }
        }
        Ok(has_dropped)
    }

    /// Adds a pod's folder, if it is one.
    fn add_pod(&mut self, path: &Path, changed: &mut impl FnMut(&Path)) {
        let name = path.file_name().and_then(OsStr::to_str);
        let Some(folder) = name.and_then(PodFolder::parse) else {
            return;
        };
        if !self.scope.contains(&folder) {
            return;
        }
        self.watch(Watch::Pod(path.to_owned()));
        // A folder that is gone has no containers.
        let entries = path.read_dir().into_iter().flatten();
        for entry in entries.flatten() {
            self.add_container(&entry.path(), changed);
        }
    }

    /// Adds a container's folder, if it is one.
    fn add_container(&mut self, path: &Path, changed: &mut impl FnMut(&Path)) {
        let name = path.file_name().and_then(OsStr::to_str);
        let is_folder = path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir());
        if is_folder && name.is_some_and(is_container) {
            self.watch(Watch::Container(path.to_owned()));
            self.watch_targets(path);
            changed(path);
        }
    }

    /// Watches the folders to which links in a container's folder lead at present.
    fn watch_targets(&mut self, container: &Path) {
        let folder = self.root.below(container.to_owned());
        self.set_targets(container, &log_folder::linked_folders(&folder));
    }

    fn set_targets(&mut self, container: &Path, targets: &BTreeSet<PathBuf>) {
        let watch = |folder: &PathBuf| Watch::Target {
            container: container.to_owned(),
            folder: folder.clone(),
        };
        for folder in targets {
            self.watch(watch(folder));
        }
        let before = if targets.is_empty() {
            self.targets.remove(container)
        } else {
            self.targets.insert(container.to_owned(), targets.clone())
        };
        for folder in before.unwrap_or_default().difference(targets) {
            self.unwatch(&watch(folder));
        }
    }

    /// Forgets a watch that the kernel has removed.
    fn forget(&mut self, descriptor: i32, watch: &Watch) {
        // The folder may have been created again, and have another watch.
        if self.watched.get(watch) != Some(&descriptor) {
            return;
        }
        self.watched.remove(watch);
        match watch {
            Watch::Container(container) => self.set_targets(container, &BTreeSet::new()),
            Watch::Root | Watch::Pod(_) | Watch::Target { .. } => {}
        }
    }

    /// Removes a watch, if there is one.
    fn unwatch(&mut self, watch: &Watch) {
        let Some(descriptor) = self.watched.remove(watch) else {
            return;
        };
        let Some(uses) = self.watches.get_mut(&descriptor) else {
            return;
        };
        uses.retain(|other| other != watch);
        if uses.is_empty() {
            self.watches.remove(&descriptor);
            // The folder may be gone, and the watch with it.
            let _ = inotify::remove_watch(&self.inotify, descriptor);
        }
    }

    /// Adds a watch. The kernel returns the same one for a folder that has one; a folder that
    /// was created again has none, even if the event of its removal was dropped.
    fn watch(&mut self, watch: Watch) {
        let (path, flags) = match &watch {
            Watch::Root => (&self.root.path, FOLDERS),
            Watch::Pod(path) => (path, FOLDERS),
            Watch::Container(path) | Watch::Target { folder: path, .. } => (path, FILES),
        };
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(descriptor) => {
                let earlier = self.watched.insert(watch.clone(), descriptor);
                if let Some(earlier) = earlier.filter(|earlier| *earlier != descriptor) {
                    self.watches.remove(&earlier);
                }
                let uses = self.watches.entry(descriptor).or_default();
                if !uses.contains(&watch) {
                    uses.push(watch);
                }
            }
            Err(Errno::NOSPC | Errno::NOMEM) => self.unwatched += 1,
            // It is gone, or no folder.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const WEB: &str = "shop_web_2f6b0c9e-0000-4000-8000-000000000001";
    const DB: &str = "bank_db_2f6b0c9e-0000-4000-8000-000000000002";

    fn discovery(root: &TempDir) -> Discovery {
        Discovery::new(root.path().to_owned(), Scope::default()).unwrap()
    }

    /// Returns `<namespace>/<container>` for a container's folder.
    fn name(path: &Path) -> String {
        let pod = path.parent().unwrap().file_name().unwrap();
        let (namespace, _) = pod.to_str().unwrap().split_once('_').unwrap();
        let container = path.file_name().unwrap();
        format!("{namespace}/{}", container.to_str().unwrap())
    }

    fn scan(discovery: &mut Discovery) -> Vec<String> {
        let mut found = Vec::new();
        discovery.scan(|path| found.push(name(path))).unwrap();
        found.sort();
        found
    }

    fn changes(discovery: &mut Discovery) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let has_dropped = discovery.changes(|path| {
            found.insert(name(path));
        });
        assert!(!has_dropped.unwrap());
        found
    }

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    #[test]
    fn containers_are_found_whenever_they_are_created() {
        let root = TempDir::new().unwrap();
        let (web, db) = (
            root.path().join(WEB).join("app"),
            root.path().join(DB).join("app"),
        );
        fs::create_dir_all(&web).unwrap();
        let mut discovery = discovery(&root);
        assert_eq!(scan(&mut discovery), ["shop/app"]);
        assert_eq!(changes(&mut discovery), names([]));
        fs::write(web.join("0.log"), "a\n").unwrap();
        assert_eq!(changes(&mut discovery), names(["shop/app"]));
        // A pod, its container and a line, before the reader looks.
        fs::create_dir_all(&db).unwrap();
        fs::write(db.join("0.log"), "a\n").unwrap();
        assert_eq!(changes(&mut discovery), names(["bank/app"]));
        fs::write(db.join("0.log"), "b\n").unwrap();
        fs::rename(web.join("0.log"), web.join("0.log.20260301-000001")).unwrap();
        assert_eq!(changes(&mut discovery), names(["bank/app", "shop/app"]));
        let side = web.parent().unwrap().join("side");
        fs::create_dir(&side).unwrap();
        assert_eq!(changes(&mut discovery), names(["shop/side"]));
    }

    #[test]
    fn a_pod_that_is_created_again_is_watched_again() {
        let root = TempDir::new().unwrap();
        let web = root.path().join(WEB).join("app");
        let mut discovery = discovery(&root);
        assert_eq!(scan(&mut discovery), [""; 0]);
        for _ in 0..3 {
            fs::create_dir_all(&web).unwrap();
            assert_eq!(changes(&mut discovery), names(["shop/app"]));
            fs::remove_dir_all(root.path().join(WEB)).unwrap();
            // The reader learns that the folder is gone.
            assert_eq!(changes(&mut discovery), names(["shop/app"]));
        }
        assert_eq!((discovery.watches.len(), discovery.watched.len()), (1, 1));
    }

    #[test]
    fn other_namespaces_and_other_folders_are_ignored() {
        let root = TempDir::new().unwrap();
        let web = root.path().join(WEB).join("app");
        let scope = Scope {
            namespaces: Namespaces::Only(BTreeSet::from(["shop".to_owned()])),
            excluded_pods: BTreeSet::from(["shop/agent".to_owned()]),
        };
        let mut discovery = Discovery::new(root.path().to_owned(), scope).unwrap();
        let folders = [
            &*web,
            &root.path().join(WEB.replace("web", "agent")).join("app"),
            &root.path().join(DB).join("app"),
            &root.path().join("x"),
        ];
        for folder in folders {
            fs::create_dir_all(folder).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join(WEB).join("link")).unwrap();
        assert_eq!(scan(&mut discovery), ["shop/app"]);
        fs::write(root.path().join(DB).join("app/0.log"), "a\n").unwrap();
        assert_eq!(changes(&mut discovery), names([]));
    }

    /// A folder of logs and Docker's folder, with the folders of a container and two IDs.
    struct Docker {
        root: TempDir,
        container: PathBuf,
        discovery: Discovery,
    }

    impl Docker {
        fn new() -> Self {
            let root = TempDir::new().unwrap();
            let container = root.path().join("pods").join(WEB).join("app");
            fs::create_dir_all(&container).unwrap();
            for id in ["a", "b"] {
                fs::create_dir_all(root.path().join("docker").join(id)).unwrap();
                fs::write(root.path().join("docker").join(id).join("log"), "a\n").unwrap();
            }
            let folder = LogFolder {
                path: root.path().join("pods"),
                links: [root.path().join("docker")].into(),
            };
            let discovery = Discovery::new(folder, Scope::default()).unwrap();
            Self {
                root,
                container,
                discovery,
            }
        }

        fn path(&self, id: &str) -> PathBuf {
            self.root.path().join("docker").join(id).join("log")
        }

        fn link(&self, id: &str, name: &str) {
            std::os::unix::fs::symlink(self.path(id), self.container.join(name)).unwrap();
        }

        fn write(&self, id: &str) {
            let mut options = fs::OpenOptions::new();
            let mut file = options.append(true).open(self.path(id)).unwrap();
            std::io::Write::write_all(&mut file, b"b\n").unwrap();
        }

        fn changes(&mut self) -> BTreeSet<String> {
            changes(&mut self.discovery)
        }

        /// Returns the numbers of folders that are watched, of watches and of containers
        /// with links.
        fn counts(&self) -> (usize, usize, usize) {
            let Discovery {
                watches,
                watched,
                targets,
                ..
            } = &self.discovery;
            (watches.len(), watched.len(), targets.len())
        }
    }

    #[test]
    fn writes_to_the_files_of_links_are_noticed() {
        let mut docker = Docker::new();
        docker.link("a", "0.log");
        assert_eq!(scan(&mut docker.discovery), ["shop/app"]);
        assert_eq!(docker.changes(), names([]));
        docker.write("a");
        assert_eq!(docker.changes(), names(["shop/app"]));
        docker.write("b");
        assert_eq!(docker.changes(), names([]));
        // The container restarts, and Docker rotates.
        docker.link("b", "1.log");
        assert_eq!(docker.changes(), names(["shop/app"]));
        docker.write("b");
        assert_eq!(docker.changes(), names(["shop/app"]));
        fs::rename(docker.path("b"), docker.path("b").with_extension("1")).unwrap();
        assert_eq!(docker.changes(), names(["shop/app"]));
        assert_eq!(docker.counts(), (5, 5, 1));
    }

    #[test]
    fn the_folders_of_links_that_are_gone_are_not_watched() {
        let mut docker = Docker::new();
        docker.link("a", "0.log");
        docker.link("b", "1.log");
        scan(&mut docker.discovery);
        assert_eq!(docker.counts(), (5, 5, 1));
        fs::remove_file(docker.container.join("0.log")).unwrap();
        assert_eq!(docker.changes(), names(["shop/app"]));
        assert_eq!(docker.counts(), (4, 4, 1));
        docker.write("a");
        assert_eq!(docker.changes(), names([]));
        // Docker deletes its folder, and creates it again.
        fs::remove_dir_all(docker.path("b").parent().unwrap()).unwrap();
        assert_eq!(docker.changes(), names(["shop/app"]));
        assert_eq!(docker.counts(), (3, 3, 1));
        fs::create_dir(docker.path("b").parent().unwrap()).unwrap();
        scan(&mut docker.discovery);
        assert_eq!(docker.counts(), (4, 4, 1));
        fs::remove_dir_all(&docker.container).unwrap();
        assert_eq!(docker.changes(), names(["shop/app"]));
        assert_eq!(docker.counts(), (2, 2, 0));
        assert_eq!(docker.changes(), names([]));
    }

    #[test]
    fn a_folder_can_be_that_of_a_container_and_of_a_link() {
        let mut docker = Docker::new();
        let other = docker.root.path().join("pods").join(DB).join("app");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("0.log"), "a\n").unwrap();
        docker.discovery.root.links = [docker.root.path().to_owned()].into();
        for _ in 0..3 {
            let link = docker.container.join("0.log");
            std::os::unix::fs::symlink(other.join("0.log"), &link).unwrap();
            scan(&mut docker.discovery);
            assert_eq!(docker.counts(), (5, 6, 1));
            docker.changes();
            fs::write(other.join("0.log"), "b\n").unwrap();
            assert_eq!(docker.changes(), names(["bank/app", "shop/app"]));
            fs::remove_file(link).unwrap();
            assert_eq!(docker.changes(), names(["shop/app"]));
            fs::write(other.join("0.log"), "c\n").unwrap();
            assert_eq!(docker.changes(), names(["bank/app"]));
        }
    }
}
