//! Mount namespaces, in which a process sees different files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Skipped;

/// Returns a command prefix that runs shell commands and then the command, in a
/// separate mount namespace.
///
/// # Errors
///
/// Returns an error if mount namespaces are not permitted.
pub(crate) fn wrapper(commands: &str) -> Result<Vec<String>, Skipped> {
    let script = format!("{commands} && exec \"$0\" \"$@\"");
    let wrapper = ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned);
    let works = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if works.is_ok_and(|status| status.success()) {
        Ok(wrapper.into())
    } else {
        Err(Skipped(
            "mount namespaces cannot be created here".to_owned(),
        ))
    }
}

/// A disk with its own file system, in a file.
pub(crate) struct Disk {
    dir: TempDir,
}

impl Disk {
    /// Creates a disk of 64 MB.
    ///
    /// # Errors
    ///
    /// Returns an error if mkfs.ext4 is missing.
    pub(crate) fn new() -> Result<Self, Skipped> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Self { dir };
        let image = disk.image();
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
        match made {
            Ok(status) if status.success() => Ok(disk),
            _ => Err(Skipped("mkfs.ext4 is missing (Debian: e2fsprogs)".into())),
        }
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Returns a command prefix that mounts this disk on a folder. After a disk error
    /// the file system is read-only.
    ///
    /// # Errors
    ///
    /// Returns an error if mount namespaces are not permitted.
    pub(crate) fn wrapper(&self, folder: &Path) -> Result<Vec<String>, Skipped> {
        let (image, folder) = (self.image(), folder.display());
        wrapper(&format!(
            "mount -o loop,errors=remount-ro {} {folder}",
            image.display()
        ))
    }
}

/// Runs a shell command in the mount namespace of a process.
pub(crate) fn run_inside(process: u32, command: &str) {
    let status = Command::new("nsenter")
        .args(["--mount", "--target", &process.to_string(), "sh", "-c"])
        .arg(command)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{command}");
}

/// Blocks all writes to a folder's disk until it is dropped.
pub(crate) struct Frozen {
    process: u32,
    folder: PathBuf,
}

impl Frozen {
    /// Freezes the file system of the folder in the mount namespace of a process.
    pub(crate) fn new(process: u32, folder: &Path) -> Self {
        let frozen = Self {
            process,
            folder: folder.to_owned(),
        };
        frozen.run("--freeze");
        frozen
    }

    fn run(&self, action: &str) {
        let command = format!("fsfreeze {action} {}", self.folder.display());
        run_inside(self.process, &command);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.run("--unfreeze");
    }
}
