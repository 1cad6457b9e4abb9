//! The log files in a container's folder, and those to which links in it lead.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::docker;
use crate::file_id::FileId;
use crate::file_name::FileName;
use crate::link::Target;
use crate::source::{Source, is_of_file, refusal};

/// A folder of logs, and the folders to which symbolic links in it may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFolder {
    /// The folder.
    pub path: PathBuf,
    /// The folders below which a link's file must be, after all links are resolved. Without
    /// any, links are not followed.
    pub links: Arc<[PathBuf]>,
}

impl LogFolder {
    /// Returns a folder below this one.
    #[must_use]
    pub fn below(&self, path: PathBuf) -> Self {
        let links = Arc::clone(&self.links);
        Self { path, links }
    }
}

/// A folder without links.
impl From<PathBuf> for LogFolder {
    fn from(path: PathBuf) -> Self {
        let links = Arc::new([]);
        Self { path, links }
    }
}

/// A folder without links.
impl From<&Path> for LogFolder {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<&Self> for LogFolder {
    fn from(folder: &Self) -> Self {
        folder.clone()
    }
}

/// A log file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: FileName,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// A file of the folder.
    Own,
    /// A file to which a link leads. It is open, because it may be renamed at any time.
    Linked(Arc<fs::File>),
    /// A link that is not followed, and the reason.
    Refused(String),
}

impl Entry {
    pub(crate) fn open(&self) -> io::Result<Source> {
        match &self.content {
            Content::Own => Source::open(&self.path, self.name.is_compressed),
            Content::Linked(file) => Source::new(Arc::clone(file), self.name.is_compressed),
            Content::Refused(why) => Err(refusal(why)),
        }
    }

    /// Returns the device and the inode of the file.
    pub(crate) fn inode(&self) -> io::Result<(u64, u64)> {
        let metadata = match &self.content {
            Content::Linked(file) => file.metadata()?,
            Content::Own | Content::Refused(_) => self.path.symlink_metadata()?,
        };
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Returns whether the file was written after another one, if there was one.
    pub(crate) fn is_after(&self, other: Option<&FileName>) -> bool {
        other.is_none_or(|other| self.name.is_later_than(other))
    }
}

/// Returns the log files in the order in which they were written; none if there is no folder.
pub(crate) fn list(folder: &LogFolder) -> io::Result<Option<Vec<Entry>>> {
    let Some(names) = names(folder)? else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    for Found {
        name,
        path,
        inode,
        is_link,
    } in names
    {
        if is_link {
            list_linked(folder, name, path, &mut entries)?;
        } else {
            let content = Content::Own;
            entries.push(Entry {
                name,
                path,
                inode,
                content,
            });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    // A file and its compressed copy exist together for a moment, and have the same content.
    entries.dedup_by(|copy, file| copy.name.has_content_of(&file.name));
    Ok(Some(entries))
}

/// Adds the file to which a link leads, and those that were rotated.
fn list_linked(
    folder: &LogFolder,
    name: FileName,
    path: PathBuf,
    entries: &mut Vec<Entry>,
) -> io::Result<()> {
    let files = Target::resolve(&path, &folder.links)
        .and_then(|target| Ok((docker::files(&target)?, target.path)));
    let (files, folder) = match files {
        Ok(files) => files,
        // There is no file yet, or no longer.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if !is_of_file(&error) => return Err(error),
        Err(error) => {
            let content = Content::Refused(error.to_string());
            entries.push(Entry {
                name,
                path,
                inode: 0,
                content,
            });
            return Ok(());
        }
    };
    entries.extend(files.into_iter().map(|file| Entry {
        inode: file.inode(),
        name: FileName {
            run: name.run,
            rotated: file.rotated,
            is_compressed: file.is_compressed,
        },
        path: folder.join(file.name),
        content: match file.file {
            Ok(file) => Content::Linked(file),
            Err(why) => Content::Refused(why),
        },
    }));
    Ok(())
}

/// Returns whether a file is the last one of the folder, so that nothing was written after it.
pub(crate) fn is_last(folder: &LogFolder, inode: (u64, u64)) -> io::Result<bool> {
    let names = names(folder)?.unwrap_or_default();
    let Some(last) = names.into_iter().max_by(|a, b| a.name.cmp(&b.name)) else {
        return Ok(false);
    };
    let metadata = last.path.metadata();
    Ok(metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == inode))
}

/// Returns the folders to which links lead that are followed.
pub(crate) fn linked_folders(folder: &LogFolder) -> BTreeSet<PathBuf> {
    if folder.links.is_empty() {
        return BTreeSet::new();
    }
    let names = names(folder).ok().flatten().unwrap_or_default();
    let links = names.into_iter().filter(|name| name.is_link);
    let targets = links.filter_map(|name| Target::resolve(&name.path, &folder.links).ok());
    targets.map(|target| target.path).collect()
}

/// A name of a log file in the folder.
struct Found {
    name: FileName,
    path: PathBuf,
    inode: u64,
    is_link: bool,
}

/// Returns the names of log files; none if there is no folder.
fn names(folder: &LogFolder) -> io::Result<Option<Vec<Found>>> {
    let entries = match folder.path.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(FileName::parse) {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            names.push(Found {
                // The kubelet does not rotate links.
                is_link: is_link && name.rotated.is_none(),
                name,
                path: entry.path(),
                inode: entry.ino(),
            });
        }
    }
    Ok(Some(names))
}

/// The maximum number of times that a folder is listed whose files are changing.
const LISTS: usize = 10;

/// Returns the log files like [`list`], but as they are at one time: a listing during a rename
/// may lack the file.
pub(crate) fn list_at_rest(folder: &LogFolder) -> io::Result<Option<Vec<Entry>>> {
    look(folder, |_| Ok(((), false))).map(|((), entries)| entries)
}

/// Returns whether two listings have the same files.
fn is_same_list(one: Option<&[Entry]>, other: Option<&[Entry]>) -> bool {
    let key = |entry: &Entry| (entry.name.clone(), entry.path.clone(), entry.inode);
    let keys = |entries: &[Entry]| entries.iter().map(key).collect::<Vec<_>>();
    one.map(keys) == other.map(keys)
}

/// Looks for something among the log files, again if it was not found and they have changed
/// since they were listed.
pub(crate) fn look<T>(
    folder: &LogFolder,
    mut find: impl FnMut(&[Entry]) -> io::Result<(T, bool)>,
) -> io::Result<(T, Option<Vec<Entry>>)> {
    let mut entries = list(folder)?;
    for _ in 0..LISTS {
        let (result, is_found) = find(entries.as_deref().unwrap_or_default())?;
        if is_found {
            return Ok((result, entries));
        }
        let now = list(folder)?;
        if is_same_list(now.as_deref(), entries.as_deref()) {
            return Ok((result, entries));
        }
        entries = now;
    }
    Err(io::Error::other("the files are changing"))
}

/// Finds a file by its identity among those after another one. Returns its index too. Files
/// that begin alike are told apart by their order: all before it were read.
pub(crate) fn find(
    entries: &[Entry],
    after: Option<&FileName>,
    id: &FileId,
) -> Option<(usize, Source)> {
    let later = (0..entries.len()).filter(|index| entries[*index].is_after(after));
    let mut opened = later.filter_map(|index| Some((index, entries[index].open().ok()?)));
    let found = opened.find_map(|(index, mut source)| {
        let is_same = source.beginning_matches(id).unwrap_or(false);
        is_same.then_some((index, source))
    });
    found.or_else(|| find_earlier(entries, after, id))
}

/// Finds a file that was rotated after the node's clock was set back, so that its name is not
/// later than that of the file before it.
fn find_earlier(
    entries: &[Entry],
    after: Option<&FileName>,
    id: &FileId,
) -> Option<(usize, Source)> {
    let is_same = |entry: &Entry| !entry.is_after(after) && entry.inode == id.inode.1;
    let index = entries.iter().position(is_same)?;
    let mut source = entries[index].open().ok()?;
    let is_same = source.inode() == id.inode
        && !id.fingerprint.is_empty()
        && source.beginning_matches(id).unwrap_or(false);
    is_same.then_some((index, source))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    /// A pod's folder, and Docker's folder with a folder for each ID.
    struct World {
        root: TempDir,
        folder: LogFolder,
    }

    impl World {
        fn new() -> Self {
            let root = TempDir::new().unwrap();
            for folder in ["pod", "docker/a", "docker/b"] {
                fs::create_dir_all(root.path().join(folder)).unwrap();
            }
            let folder = LogFolder {
                path: root.path().join("pod"),
                links: Arc::new([root.path().join("docker")]),
            };
            Self { root, folder }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn link(&self, to: &str, at: &str) {
            symlink(self.path(to), self.path(at)).unwrap();
        }

        /// Writes a file with a single line.
        fn write(&self, path: &str, second: u32) {
            let line = format!("2026-03-01T12:00:{second:02}Z stdout F x\n");
            let mut bytes = line.into_bytes();
            if path.contains(".gz") {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&bytes).unwrap();
                bytes = encoder.finish().unwrap();
            }
            fs::write(self.path(path), bytes).unwrap();
        }

        fn list(&self) -> Vec<Entry> {
            list(&self.folder).unwrap().unwrap()
        }

        /// Returns the names of the files and their order, from one to the next.
        fn names(&self) -> Vec<(String, FileName)> {
            let entries = self.list();
            assert!(entries.is_sorted_by(|a, b| b.is_after(Some(&a.name))));
            let name = |entry: Entry| {
                let path = entry.path.strip_prefix(self.root.path()).unwrap();
                (path.to_str().unwrap().to_owned(), entry.name)
            };
            entries.into_iter().map(name).collect()
        }
    }

    fn paths(names: &[(String, FileName)]) -> Vec<&str> {
        names.iter().map(|(path, _)| path.as_str()).collect()
    }

    #[test]
    fn the_files_of_all_runs_are_in_order() {
        let world = World::new();
        world.write("docker/a/log.10.gz", 1);
        world.write("docker/a/log.2.gz", 2);
        world.write("docker/a/log.1", 3);
        world.write("docker/a/log", 4);
        world.write("docker/b/log.1", 5);
        world.write("docker/b/log", 6);
        world.write("pod/2.log", 7);
        world.link("docker/a/log", "pod/0.log");
        world.link("docker/b/log", "pod/1.log");
        for other in [
            "log.0",
            "log.01",
            "log.+1",
            "log.1.gz.tmp",
            "log.x",
            "logs",
            "other",
        ] {
            world.write(&format!("docker/a/{other}"), 1);
        }
        let names = world.names();
        let expected = [
            "docker/a/log.10.gz",
            "docker/a/log.2.gz",
            "docker/a/log.1",
            "docker/a/log",
            "docker/b/log.1",
            "docker/b/log",
            "pod/2.log",
        ];
        assert_eq!(paths(&names), expected);
        let rotated = names[2].1.rotated.as_deref();
        assert_eq!(rotated, Some("001772366403.000000000"));
    }

    #[test]
    fn a_rotated_file_keeps_its_order_when_it_is_renamed_or_compressed() {
        let world = World::new();
        world.write("docker/a/log.1", 1);
        world.write("docker/a/log", 2);
        world.link("docker/a/log", "pod/0.log");
        let before = world.names();
        world.write("docker/a/log.2.gz", 1);
        fs::rename(world.path("docker/a/log"), world.path("docker/a/log.1")).unwrap();
        // Docker has not created the next file yet.
        let after = world.names();
        assert_eq!(paths(&after), ["docker/a/log.2.gz", "docker/a/log.1"]);
        assert_eq!(before[0].1.rotated, after[0].1.rotated);
        assert_eq!(before[1].1.rotated, None);
        // An incomplete copy is ignored.
        fs::write(world.path("docker/a/log.1.gz"), "").unwrap();
        assert_eq!(world.names(), after);
    }

    #[test]
    fn files_without_a_time_are_in_order_too() {
        let world = World::new();
        world.write("docker/a/log.6", 5);
        fs::write(world.path("docker/a/log.5"), "no line\n").unwrap();
        fs::write(world.path("docker/a/log.4"), "").unwrap();
        fs::write(world.path("docker/a/log.3.gz"), "no gzip").unwrap();
        // The clock was set back.
        world.write("docker/a/log.2", 4);
        world.write("docker/a/log.1", 6);
        fs::write(world.path("docker/a/log"), "").unwrap();
        world.link("docker/a/log", "pod/0.log");
        let names = world.names();
        let expected = ["log.6", "log.5", "log.3.gz", "log.2", "log.1", "log"];
        let expected = expected.map(|name| format!("docker/a/{name}"));
        assert_eq!(paths(&names), expected);
    }

    #[test]
    fn other_links_are_refused() {
        let world = World::new();
        fs::create_dir(world.path("secret")).unwrap();
        world.write("secret/log", 1);
        world.write("docker/a/log", 1);
        world.link("secret/log", "docker/a/out");
        world.link("secret/log", "docker/b/log.1");
        world.write("docker/b/log", 1);
        let kind = rustix::fs::FileType::Fifo;
        let pipe = world.path("docker/a/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
        for (to, reason) in [
            ("secret/log", "which is not below"),
            ("docker/a/out", "which is not below"),
            ("docker/a", "not a regular file"),
            ("docker/a/pipe", "not a regular file"),
            ("docker/b/log.1", "which is not below"),
        ] {
            world.link(to, "pod/0.log");
            let entries = world.list();
            let error = entries[0].open().unwrap_err().to_string();
            assert!(
                entries.len() == 1 && error.contains(reason),
                "{to}: {error}"
            );
            assert!(is_of_file(&entries[0].open().unwrap_err()));
            fs::remove_file(world.path("pod/0.log")).unwrap();
        }
        // A rotated file must not be a link, and the kubelet's files neither.
        world.link("docker/b/log", "pod/0.log");
        world.link("docker/a/log", "pod/1.log.20260301-120000");
        let is_open = |entry: &Entry| entry.open().is_ok();
        let open: Vec<bool> = world.list().iter().map(is_open).collect();
        assert_eq!(open, [false, true, false]);
        // Without allowed folders, no link is followed.
        let entries = list(&world.folder.path.clone().into()).unwrap().unwrap();
        let error = entries[0].open().unwrap_err().to_string();
        assert_eq!(error, "symbolic links are not followed");
    }

    #[test]
    fn a_link_without_a_file_is_ignored() {
        let world = World::new();
        world.link("docker/a/log", "pod/0.log");
        world.link("docker/missing/log", "pod/1.log");
        assert!(world.list().is_empty());
        let targets = linked_folders(&world.folder);
        assert_eq!(targets, BTreeSet::from([world.path("docker/a")]));
    }

    #[test]
    fn the_last_file_is_known() {
        let world = World::new();
        world.write("docker/a/log", 1);
        world.write("docker/b/log", 2);
        world.link("docker/a/log", "pod/0.log");
        let inode = |path| {
            let metadata = fs::metadata(world.path(path)).unwrap();
            (metadata.dev(), metadata.ino())
        };
        let (a, b) = (inode("docker/a/log"), inode("docker/b/log"));
        assert!(is_last(&world.folder, a).unwrap());
        world.link("docker/b/log", "pod/1.log");
        assert!(!is_last(&world.folder, a).unwrap() && is_last(&world.folder, b).unwrap());
        fs::rename(world.path("docker/b/log"), world.path("docker/b/log.1")).unwrap();
        assert!(!is_last(&world.folder, b).unwrap());
    }
}
