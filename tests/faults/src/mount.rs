//! Mount namespaces: another process sees other files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Skipped;

/// The command that runs another one after these shell commands, whose mounts
/// nobody else sees.
///
/// # Errors
///
/// Where that is not allowed.
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
        Err(Skipped("mount namespaces cannot be made here".to_owned()))
    }
}

/// A disk with a file system of its own, in a file.
pub(crate) struct Disk {
    dir: TempDir,
}

impl Disk {
    /// Makes one of 64 MB.
    ///
    /// # Errors
    ///
    /// Where there is no mkfs.ext4.
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

    /// The command that runs another one for which a folder is this disk. At an
    /// error of the disk, it is read-only.
    ///
    /// # Errors
    ///
    /// Where that is not allowed.
    pub(crate) fn wrapper(&self, folder: &Path) -> Result<Vec<String>, Skipped> {
        let (image, folder) = (self.image(), folder.display());
        wrapper(&format!(
            "mount -o loop,errors=remount-ro {} {folder}",
            image.display()
        ))
    }
}

/// Runs a shell command that sees the mounts of a process.
pub(crate) fn run_inside(process: u32, command: &str) {
    let status = Command::new("nsenter")
        .args(["--mount", "--target", &process.to_string(), "sh", "-c"])
        .arg(command)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{command}");
}

/// A folder's disk answers no writes until this is dropped.
pub(crate) struct Frozen {
    process: u32,
    folder: PathBuf,
}

impl Frozen {
    /// Freezes it as a process sees it.
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
