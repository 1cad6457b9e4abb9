//! Symbolic links from a container's folder to log files elsewhere.
//!
//! ```text
//! /var/log/pods/<pod>/<container>/0.log
//!     v resolved, with all links on the way
//! /var/lib/docker/containers/<id>/<id>-json.log
//!     v must be below an allowed folder
//! /var/lib/docker/containers, then each folder below it without links, then the file
//! ```
//!
//! The folders are opened one in another, so a link that somebody puts in their path after it
//! was resolved is not followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};

use crate::source::{self, refusal};

/// The folder and the name to which a link leads.
#[derive(Debug)]
pub(crate) struct Target {
    /// The path of the folder, without links.
    pub(crate) path: PathBuf,
    pub(crate) name: OsString,
    folder: OwnedFd,
}

impl Target {
    /// Resolves a link. Its file need not exist.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder does not exist, or is not below an allowed one.
    pub(crate) fn resolve(link: &Path, allowed: &[PathBuf]) -> io::Result<Self> {
        if allowed.is_empty() {
            return Err(refusal("symbolic links are not followed"));
        }
        let path = canonical(link)?;
        let roots = allowed.iter().filter_map(|root| root.canonicalize().ok());
        let found = roots.into_iter().find_map(|root| {
            let below = path.strip_prefix(&root).ok()?.to_owned();
            Some((root, below))
        });
        let Some((root, below)) = found else {
            let allowed: Vec<String> = allowed
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            return Err(refusal(format!(
                "a symbolic link to {}, which is not below {}",
                path.display(),
                allowed.join(" or "),
            )));
        };
        let (Some(name), Some(folders)) = (below.file_name(), below.parent()) else {
            return Err(refusal("a symbolic link to a folder"));
        };
        let mut folder = openat(CWD, &root, FOLDER, Mode::empty())?;
        for name in folders {
            folder = openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(Self {
            path: root.join(folders),
            name: name.to_owned(),
            folder,
        })
    }

    /// Opens a file of the folder, which may be of any type.
    pub(crate) fn open(&self, name: &OsStr) -> io::Result<File> {
        let flags = source::OPEN | OFlags::RDONLY;
        Ok(openat(&self.folder, name, flags, Mode::empty())?.into())
    }

    /// Returns the names in the folder.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = Dir::read_from(&self.folder)?;
        let name = |entry: rustix::io::Result<rustix::fs::DirEntry>| {
            Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned())
        };
        entries.map(name).collect()
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Returns the path to which a link leads, without links. The last part need not exist.
fn canonical(link: &Path) -> io::Result<PathBuf> {
    match link.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Docker renames the file before it creates the next one.
            let target = link.read_link()?;
            let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
                return Err(error);
            };
            let of_link = link.parent().unwrap_or(Path::new("/"));
            Ok(of_link.join(folder).canonicalize()?.join(name))
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A folder `allowed` beside a folder `secret`, each with a file.
    struct World {
        root: TempDir,
    }

    impl World {
        fn new() -> Self {
            let root = TempDir::new().unwrap();
            for folder in ["allowed", "allowed/id", "allowed-not", "secret"] {
                fs::create_dir(root.path().join(folder)).unwrap();
                fs::write(root.path().join(folder).join("file"), folder).unwrap();
            }
            Self { root }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn link(&self, to: &str, at: &str) {
            symlink(self.path(to), self.path(at)).unwrap();
        }

        /// Reads the file to which the link `0.log` leads.
        fn read(&self, to: &str) -> Result<String, String> {
            let _ = fs::remove_file(self.path("0.log"));
            symlink(to, self.path("0.log")).unwrap();
            let allowed = [self.path("missing"), self.path("allowed")];
            let read = || -> io::Result<String> {
                let target = Target::resolve(&self.path("0.log"), &allowed)?;
                let mut text = String::new();
                target.open(&target.name)?.read_to_string(&mut text)?;
                Ok(text)
            };
            read().map_err(|error| error.to_string())
        }

        fn read_below(&self, to: &str) -> Result<String, String> {
            self.read(self.path(to).to_str().unwrap())
        }
    }

    #[test]
    fn links_are_followed_to_allowed_folders() {
        let world = World::new();
        assert_eq!(world.read_below("allowed/id/file").unwrap(), "allowed/id");
        assert_eq!(world.read_below("allowed/file").unwrap(), "allowed");
        assert_eq!(world.read("allowed/id/file").unwrap(), "allowed/id");
        // The whole of Docker's folder may be on another disk.
        world.link("allowed", "other");
        assert_eq!(world.read_below("other/id/file").unwrap(), "allowed/id");
    }

    #[test]
    fn links_are_not_followed_to_other_folders() {
        let world = World::new();
        world.link("secret/file", "allowed/id/out");
        world.link("secret", "allowed/folder");
        for to in [
            "secret/file",
            "allowed-not/file",
            "allowed/../secret/file",
            "allowed/id/out",
            "allowed/folder/file",
            "allowed/folder/missing",
        ] {
            let error = world.read_below(to).unwrap_err();
            assert!(error.contains("which is not below"), "{to}: {error}");
        }
        let error = world.read("/etc/passwd").unwrap_err();
        assert!(
            error.starts_with("a symbolic link to /etc/passwd,"),
            "{error}"
        );
        assert_eq!(
            world.read_below("allowed").unwrap_err(),
            "a symbolic link to a folder"
        );
        let link = world.path("0.log");
        assert!(Target::resolve(&link, &[]).is_err());
    }

    /// The path was resolved before its parts became links.
    #[test]
    fn links_that_appear_later_are_not_followed() {
        let world = World::new();
        world.link("allowed/id/missing", "0.log");
        let allowed = [world.path("allowed")];
        let target = Target::resolve(&world.path("0.log"), &allowed).unwrap();
        world.link("secret/file", "allowed/id/missing");
        assert!(target.open(&target.name).is_err());
        // A folder that was exchanged is still the one that was resolved.
        fs::rename(world.path("allowed/id"), world.path("allowed/old")).unwrap();
        world.link("secret", "allowed/id");
        assert!(target.open(OsStr::new("file")).is_ok());
        let names = target.names().unwrap();
        assert!(names.contains(&OsString::from("missing")), "{names:?}");
    }
}
