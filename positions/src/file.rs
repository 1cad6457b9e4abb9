//! The file with a position for each container.
//!
//! ```text
//! offset  size
//!      0     8  magic and version
//!      8     8  generation
//!     16     8  place
//!     24     1  length of the UID
//!     25     1  length of the container's name
//!     26     2  length of the position
//!     28        UID, container's name, position
//!               CRC-32 of all bytes before
//! ```
//!
//! A container has two such slots, which are written in turn, so that one of them is always
//! intact, even if the process is killed during a write. Slots are overwritten in place, so a
//! position costs no space on a full disk, and the disk has less to write.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"podlogs\x01";
/// The size of a slot in bytes.
const SLOT: usize = 1024;
/// The size of a container's two slots.
const PAIR: usize = 2 * SLOT;
const HEADER: usize = 28;

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Container {
    /// The UID of the pod, at most 64 bytes.
    pub uid: String,
    /// The container's name, at most 63 bytes.
    pub name: String,
}

/// A position in a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The position's place.
    pub place: u64,
    /// The position for the input, at most 800 bytes.
    pub position: String,
}

/// The entries of a file.
#[derive(Debug, Default)]
pub struct Entries {
    /// The newest intact position of each container.
    pub entries: BTreeMap<Container, Entry>,
    /// The number of containers whose slots are both damaged, or of another version.
    pub damaged: usize,
}

/// An open file.
#[derive(Debug)]
pub struct PositionFile {
    file: File,
    /// The slots of each container: their number, and the generation that was written last.
    slots: HashMap<Container, (u64, u64)>,
    /// Unused slots.
    free: Vec<u64>,
    /// The number of slots of the file.
    count: u64,
}

impl PositionFile {
    /// Opens a file, or creates it. Returns its entries too. A file with damage is copied to
    /// `<name>.damaged` first.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or created.
    pub fn open(path: &Path) -> io::Result<(Self, Entries)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let file = options.open(path)?;
        let bytes = fs::read(path)?;
        let mut this = Self {
            file,
            slots: HashMap::new(),
            free: Vec::new(),
            count: bytes.len().div_ceil(PAIR) as u64,
        };
        let entries = scan(&bytes, |number, slot| match slot {
            Some(Slot {
                container,
                generation,
                ..
            }) => {
                let pair = (number, *generation);
                // A newer pair of the same container replaces an older one.
                if let Some((older, _)) = this.slots.insert(container.clone(), pair) {
                    this.free.push(older);
                }
            }
            None => this.free.push(number),
        });
        if entries.damaged > 0 {
            let mut copy = path.as_os_str().to_owned();
            copy.push(".damaged");
            fs::copy(path, PathBuf::from(copy))?;
        }
        Ok((this, entries))
    }

    /// Writes the position of a container.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written, or the position is too long.
    pub fn set(&mut self, container: &Container, entry: &Entry) -> io::Result<()> {
        let (number, generation) = match self.slots.get(container) {
            Some((number, generation)) => (*number, generation + 1),
            None => match self.free.last() {
                Some(number) => {
                    // What an earlier container left must not be taken for an older position
                    // of this one.
                    self.file.write_all_at(&[0; PAIR], number * PAIR as u64)?;
                    (*number, 1)
                }
                None => (self.count, 1),
            },
        };
        let bytes = encode(container, entry, generation)?;
        let at = number * PAIR as u64 + generation % 2 * SLOT as u64;
        self.file.write_all_at(&bytes, at)?;
        if let Some(slot) = self.slots.get_mut(container) {
            slot.1 = generation;
        } else {
            if self.free.pop().is_none() {
                self.count += 1;
            }
            self.slots.insert(container.clone(), (number, generation));
        }
        Ok(())
    }

    /// Removes the position of a container, if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn remove(&mut self, container: &Container) -> io::Result<()> {
        if let Some((number, _)) = self.slots.get(container) {
            self.file.write_all_at(&[0; PAIR], number * PAIR as u64)?;
            self.free.push(*number);
            self.slots.remove(container);
        }
        Ok(())
    }
}

/// Reads a file that another part of the process may have open; none if there is no file.
///
/// # Errors
///
/// Returns an error if it cannot be read.
pub fn read(path: &Path) -> io::Result<Option<Entries>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(scan(&bytes, |_, _| {}))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The content of a slot.
struct Slot {
    container: Container,
    generation: u64,
    entry: Entry,
}

/// Reads all slots. Passes the number of each pair and its newest slot to `visit`.
fn scan(bytes: &[u8], mut visit: impl FnMut(u64, Option<&Slot>)) -> Entries {
    let mut all = Entries::default();
    let mut generations: HashMap<Container, u64> = HashMap::new();
    for (number, pair) in bytes.chunks(PAIR).enumerate() {
        let slots = pair.chunks(SLOT).filter_map(decode);
        let newest = slots.max_by_key(|slot| slot.generation);
        // A kill may have left a container in two pairs.
        let newest = newest.filter(|slot| {
            let known = generations.get(&slot.container);
            known.is_none_or(|known| *known < slot.generation)
        });
        visit(number as u64, newest.as_ref());
        match newest {
            Some(Slot {
                container,
                generation,
                entry,
            }) => {
                generations.insert(container.clone(), generation);
                all.entries.insert(container, entry);
            }
            None => all.damaged += usize::from(pair.iter().any(|byte| *byte != 0)),
        }
    }
    all
}

fn encode(container: &Container, entry: &Entry, generation: u64) -> io::Result<Vec<u8>> {
    let Container { uid, name } = container;
    let Entry { place, position } = entry;
    let mut bytes = Vec::with_capacity(SLOT);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&place.to_le_bytes());
    let [uid_length, name_length] = [uid, name].map(|text| u8::try_from(text.len()));
    let is_long = uid.len() + name.len() + position.len() > SLOT - HEADER - 4;
    let (Ok(uid_length), Ok(name_length), false) = (uid_length, name_length, is_long) else {
        return Err(io::Error::other(format!(
            "the position of container {name} of pod {uid} is too long"
        )));
    };
    bytes.extend_from_slice(&[uid_length, name_length]);
    bytes.extend_from_slice(&(position.len() as u16).to_le_bytes());
    for text in [uid, name, position] {
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    Ok(bytes)
}

/// Reads a slot. Returns `None` if it is empty or damaged.
fn decode(bytes: &[u8]) -> Option<Slot> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (place, rest) = rest.split_first_chunk()?;
    let ([uid, name, low, high], rest) = rest.split_first_chunk()?;
    let position = usize::from(u16::from_le_bytes([*low, *high]));
    let (uid, rest) = rest.split_at_checked(usize::from(*uid))?;
    let (name, rest) = rest.split_at_checked(usize::from(*name))?;
    let (position, rest) = rest.split_at_checked(position)?;
    let checksum = crc32fast::hash(&bytes[..bytes.len() - rest.len()]);
    if rest.first_chunk()? != &checksum.to_le_bytes() {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(Slot {
        container: Container {
            uid: text(uid)?,
            name: text(name)?,
        },
        generation: u64::from_le_bytes(*generation),
        entry: Entry {
            place: u64::from_le_bytes(*place),
            position: text(position)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container(number: usize) -> Container {
        Container {
            uid: format!("2f6b0c9e-0000-4000-8000-{number:012}"),
            name: "app".to_owned(),
        }
    }

    fn entry(place: u64) -> Entry {
        Entry {
            place,
            position: format!("{{\"read\":{place}}}"),
        }
    }

    #[derive(Clone, Debug)]
    enum Action {
        Set(usize, u64),
        Remove(usize),
        Reopen,
        /// A kill in the middle of the next write, which damages at most one slot.
        Tear(usize, u64, usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            5 => (0..5_usize, any::<u64>()).prop_map(|(at, place)| Action::Set(at, place)),
            1 => (0..5_usize).prop_map(Action::Remove),
            1 => Just(Action::Reopen),
            1 => (0..5_usize, any::<u64>(), 0..SLOT)
                .prop_map(|(at, place, cut)| Action::Tear(at, place, cut)),
        ]
    }

    proptest! {
        #[test]
        fn each_container_has_its_last_position(actions in prop::collection::vec(action(), 0..60)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("positions");
            let mut expected = BTreeMap::new();
            let (mut file, _) = PositionFile::open(&path).unwrap();
            for action in actions {
                match action {
                    Action::Set(at, place) => {
                        file.set(&container(at), &entry(place)).unwrap();
                        expected.insert(container(at), entry(place));
                    }
                    Action::Remove(at) => {
                        file.remove(&container(at)).unwrap();
                        expected.remove(&container(at));
                    }
                    Action::Reopen => {
                        let (opened, found) = PositionFile::open(&path).unwrap();
                        file = opened;
                        prop_assert_eq!(&found.entries, &expected);
                    }
                    Action::Tear(at, place, cut) => {
                        let before = fs::read(&path).unwrap();
                        file.set(&container(at), &entry(place)).unwrap();
                        let mut torn = fs::read(&path).unwrap();
                        let changed = |index: &usize| before.get(*index) != torn.get(*index);
                        let first = (0..torn.len()).find(changed).unwrap_or(0);
                        for (index, byte) in torn.iter_mut().enumerate().skip(first + cut) {
                            *byte = before.get(index).copied().unwrap_or(0);
                        }
                        let is_whole = torn == fs::read(&path).unwrap();
                        fs::write(&path, &torn).unwrap();
                        let (opened, found) = PositionFile::open(&path).unwrap();
                        file = opened;
                        let known = expected.get(&container(at));
                        if is_whole || found.entries.get(&container(at)) != known {
                            expected.insert(container(at), entry(place));
                        }
                        prop_assert_eq!(&found.entries, &expected);
                    }
                }
                let found = read(&path).unwrap().unwrap();
                prop_assert_eq!(&found.entries, &expected);
            }
        }
    }

    #[test]
    fn damage_is_counted_and_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions");
        let (mut file, _) = PositionFile::open(&path).unwrap();
        for at in 0..3 {
            file.set(&container(at), &entry(7)).unwrap();
        }
        drop(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[PAIR..2 * PAIR].fill(1);
        fs::write(&path, &bytes).unwrap();
        let (mut file, found) = PositionFile::open(&path).unwrap();
        assert_eq!((found.entries.len(), found.damaged), (2, 1));
        assert!(folder.path().join("positions.damaged").exists());
        // The damaged slot is used again.
        file.set(&container(9), &entry(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64);
        assert_eq!(read(&path).unwrap().unwrap().entries.len(), 3);
    }

    #[test]
    fn a_position_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = PositionFile::open(&folder.path().join("positions")).unwrap();
        let long = Entry {
            place: 1,
            position: "x".repeat(SLOT),
        };
        let error = file.set(&container(1), &long).unwrap_err().to_string();
        assert!(error.ends_with("000000000001 is too long"), "{error}");
    }
}
