//! The folder of the files.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::pods::state::{Action, is_pods};

/// The beginning of the names of unfinished files.
const UNFINISHED: &str = ".sink-agent-";

/// A folder whose files are replaced as a whole.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates the handle of a folder, which need not exist.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the names of the pods' files that an earlier run has left, and removes its
    /// unfinished files.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder can be neither read nor created.
    pub(super) fn files(&self) -> io::Result<Vec<String>> {
        fs::create_dir_all(&self.path)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            } else if is_pods(&name) {
                files.push(name);
            }
        }
        Ok(files)
    }

    /// Performs an action.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written or removed.
    pub(super) fn perform(&self, action: Action<'_>) -> io::Result<()> {
        match action {
            Action::Write(name, content) if self.has(name, content) => Ok(()),
            Action::Write(name, content) => self.write(name, content),
            Action::Remove(name) => match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Returns whether a file has this content.
    fn has(&self, name: &str, content: &[u8]) -> bool {
        let path = self.path.join(name);
        let has_length = path
            .symlink_metadata()
            .is_ok_and(|file| file.is_file() && file.len() == content.len() as u64);
        has_length && fs::read(path).is_ok_and(|found| found == content)
    }

    /// Replaces a file, so that readers never see a part of it.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let mut options = tempfile::Builder::new();
        let mut file = options.prefix(UNFINISHED).tempfile_in(&self.path)?;
        file.write_all(content)?;
        file.persist(self.path.join(name))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    const NAME: &str = "shop_web-0.meta";

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_only_if_its_content_differs() {
        let dir = TempDir::new().unwrap();
        let folder = Folder::new(dir.path().join("a/pods"));
        let path = dir.path().join("a/pods").join(NAME);
        let write = |content: &[u8]| {
            folder.perform(Action::Write(NAME, content)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
            path.symlink_metadata().unwrap().ino()
        };
        let first = write(b"1");
        assert_eq!(write(b"1"), first);
        // The descriptor keeps the inode from being used again.
        let open = fs::File::open(&path).unwrap();
        assert_ne!(write(b"2"), first);
        drop(open);
        // A link is replaced, not followed.
        let target = dir.path().join("target");
        fs::rename(&path, &target).unwrap();
        symlink(&target, &path).unwrap();
        write(b"2");
        write(b"3");
        assert_eq!(fs::read(target).unwrap(), b"2");
        assert_eq!(names(&dir.path().join("a/pods")), [NAME]);
    }

    #[test]
    fn files_of_an_earlier_run_are_found_and_removed() {
        let dir = TempDir::new().unwrap();
        let unfinished = format!("{UNFINISHED}x");
        for name in [NAME, "shop.namespace_meta", "notes", &unfinished] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let folder = Folder::new(dir.path().to_owned());
        assert_eq!(folder.files().unwrap(), [NAME]);
        assert_eq!(names(dir.path()), ["notes", "shop.namespace_meta", NAME]);
        for _ in 0..2 {
            folder.perform(Action::Remove(NAME)).unwrap();
        }
        assert_eq!(names(dir.path()), ["notes", "shop.namespace_meta"]);
    }

    #[test]
    fn failures_leave_no_files() {
        let dir = TempDir::new().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        let name = format!("{}_x.meta", "n".repeat(255));
        folder.perform(Action::Write(&name, b"1")).unwrap_err();
        assert_eq!(names(dir.path()), [""; 0]);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        Folder::new(file).files().unwrap_err();
    }
}
