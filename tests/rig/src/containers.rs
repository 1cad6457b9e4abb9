//! Container logs in the format of a kubelet and a container runtime.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The `/var/log` folder of a node.
#[derive(Clone, Debug)]
pub struct Node {
    log: PathBuf,
}

/// The log of one container: a file below `pods`, and a symbolic link below
/// `containers`, whose name identifies the container.
#[derive(Debug)]
pub struct Container {
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The UID of the pod.
    pub uid: String,
    /// The container.
    pub name: String,
    path: PathBuf,
    file: File,
    rotations: u32,
}

/// The number of files that the kubelet keeps of a container (`containerLogMaxFiles`).
pub const MAX_FILES: usize = 5;
/// The maximum length of a part into which a container runtime splits a line.
const PART: usize = 16 * 1024;

/// Returns 64 hexadecimal digits, which are always the same for the same container.
#[must_use]
pub fn container_id(namespace: &str, pod: &str, container: &str) -> String {
    let hash = hash(&format!("{namespace}/{pod}/{container}"));
    format!("{hash:016x}").repeat(4)
}

/// Returns a UID, which is always the same for the same pod: a random UUID (RFC 9562, section
/// 5.4) in its form.
#[must_use]
pub fn pod_uid(namespace: &str, pod: &str) -> String {
    let name = format!("{namespace}/{pod}");
    let (first, second) = (hash(&name), hash(&format!("{name}/")));
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        first >> 32,
        first >> 16 & 0xffff,
        first & 0xfff,
        second >> 48 & 0xfff,
        second & 0xffff_ffff_ffff
    )
}

/// Returns a hash of a text (FNV-1a).
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Node {
    /// Creates a node whose `/var/log` is the folder `log`.
    #[must_use]
    pub fn new(log: &Path) -> Self {
        for folder in ["containers", "pods"] {
            fs::create_dir_all(log.join(folder)).expect("a folder");
        }
        Self {
            log: log.to_owned(),
        }
    }

    /// Starts a container in the pod with the UID of [`pod_uid`].
    #[must_use]
    pub fn start(&self, namespace: &str, pod: &str, name: &str) -> Container {
        self.start_in(namespace, pod, &pod_uid(namespace, pod), name)
    }

    /// Starts a container in the pod with a UID: pods that follow each other under a name have
    /// different ones.
    #[must_use]
    pub fn start_in(&self, namespace: &str, pod: &str, uid: &str, name: &str) -> Container {
        let folder = self
            .log
            .join("pods")
            .join(format!("{namespace}_{pod}_{uid}"))
            .join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("0.log");
        let file = append(&path);
        let id = container_id(namespace, uid, name);
        let link = format!("{pod}_{namespace}_{name}-{id}.log");
        symlink(&path, self.log.join("containers").join(link)).expect("a link");
        Container {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: uid.to_owned(),
            name: name.to_owned(),
            path,
            file,
            rotations: 0,
        }
    }
}

impl Container {
    /// Writes one line. `time` is RFC 3339 with nanoseconds. A long line is written in
    /// parts, as CRI requires.
    pub fn write(&mut self, time: &str, stream: &str, line: &str) {
        let mut text = Vec::new();
        let mut rest = line;
        while rest.len() > PART {
            let (part, behind) = rest.split_at(rest.floor_char_boundary(PART));
            writeln!(text, "{time} {stream} P {part}").expect("writing to memory succeeds");
            rest = behind;
        }
        writeln!(text, "{time} {stream} F {rest}").expect("writing to memory succeeds");
        self.file.write_all(&text).expect("the file can be written");
    }

    /// Appends lines that are already complete.
    pub fn append(&mut self, lines: &[u8]) {
        self.file.write_all(lines).expect("the file can be written");
    }

    /// Rotates the file, as the kubelet does: removes the oldest files beyond
    /// [`MAX_FILES`], compresses those that were rotated before, renames the current one, and
    /// opens a new one.
    pub fn rotate(&mut self) {
        let rotated = self.rotated();
        let (removed, kept) = rotated.split_at(rotated.len().saturating_sub(MAX_FILES - 2));
        for path in removed {
            fs::remove_file(path).expect("the file can be removed");
        }
        let is_plain = |path: &&PathBuf| path.extension().is_none_or(|extension| extension != "gz");
        for path in kept.iter().filter(is_plain) {
            compress(path);
        }
        self.rotations += 1;
        let (hour, minute, second) = (
            self.rotations / 3600,
            self.rotations / 60 % 60,
            self.rotations % 60,
        );
        let name = format!("0.log.20260301-{hour:02}{minute:02}{second:02}");
        fs::rename(&self.path, self.path.with_file_name(name)).expect("the file can be renamed");
        self.file = append(&self.path);
    }

    /// Removes the folder of the pod, as the kubelet does once the pod is deleted.
    pub fn remove_pod(self) {
        let pod = self
            .path
            .ancestors()
            .nth(2)
            .expect("the file is in a pod's folder");
        fs::remove_dir_all(pod).expect("the folder can be removed");
    }

    /// Returns the rotated files, oldest first.
    fn rotated(&self) -> Vec<PathBuf> {
        let folder = self.path.parent().expect("the file is in a folder");
        let entries = fs::read_dir(folder).expect("the folder can be read");
        let paths = entries.map(|entry| entry.expect("the folder can be read").path());
        let mut paths: Vec<PathBuf> = paths.filter(|path| *path != self.path).collect();
        paths.sort();
        paths
    }
}

/// Compresses a file like the kubelet: into a temporary file, which is renamed.
fn compress(path: &Path) {
    let text = fs::read(path).expect("the file can be read");
    let named = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let temporary = named(".tmp");
    let file = File::create(&temporary).expect("a file");
    let mut encoder = GzEncoder::new(file, Compression::default());
    encoder.write_all(&text).expect("the file can be written");
    encoder.finish().expect("the file can be written");
    fs::rename(temporary, named(".gz")).expect("the file can be renamed");
    fs::remove_file(path).expect("the file can be removed");
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a file")
}
