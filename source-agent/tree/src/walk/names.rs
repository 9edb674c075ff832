//! A directory's listing, held compactly: one buffer for all names, eight bytes beside each; on disk beyond a limit.

mod spill;

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use taf_format::entry::Kind;

use self::spill::Spilled;

#[derive(Debug, Clone, Copy)]
struct Slot {
    offset: u32,
    length: u16,
    kind: Kind,
}

/// The names of a directory with their kinds, in catalog order: what is no directory by the bytes of its name, then
/// the directories by the bytes of theirs.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// All of them, if they were too many for memory; then nothing is in memory.
    spilled: Option<Spilled>,
}

impl Names {
    /// How many.
    pub fn len(&self) -> usize {
        match &self.spilled {
            Some(spilled) => spilled.len(),
            None => self.slots.len(),
        }
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at `index`, if there are so many.
    ///
    /// # Errors
    /// Here as everywhere: they are on disk and can't be read.
    pub fn get(&self, index: usize) -> io::Result<Option<(Cow<'_, [u8]>, Kind)>> {
        if let Some(spilled) = &self.spilled {
            let found = spilled.get(index)?;
            return Ok(found.map(|(name, kind)| (Cow::Owned(name), kind)));
        }
        let slot = self.slots.get(index);
        Ok(slot.map(|slot| (Cow::Borrowed(self.name(*slot)), slot.kind)))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<(Cow<'_, [u8]>, Kind)>> {
        (0..self.len()).filter_map(|index| self.get(index).transpose())
    }

    /// How many are no directories; these come first.
    pub fn files(&self) -> usize {
        match &self.spilled {
            Some(spilled) => spilled.files(),
            None => self
                .slots
                .partition_point(|slot| slot.kind != Kind::Directory),
        }
    }

    /// The kind under a name, if it is there.
    pub fn find(&self, name: &[u8]) -> io::Result<Option<Kind>> {
        for directory in [false, true] {
            if let Some((_, kind)) = self.search(name, directory)? {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }

    /// Index of what has this name and is no directory. They must be sorted.
    pub fn find_file(&self, name: &[u8]) -> io::Result<Option<usize>> {
        Ok(self.search(name, false)?.map(|(index, _)| index))
    }

    /// Index and kind of a name, among the directories or all others.
    fn search(&self, name: &[u8], directory: bool) -> io::Result<Option<(usize, Kind)>> {
        if let Some(spilled) = &self.spilled {
            return spilled.find(name, directory);
        }
        let files = self.files();
        let (first, slots) = if directory {
            (files, &self.slots[files..])
        } else {
            (0, &self.slots[..files])
        };
        let found = slots.binary_search_by(|slot| self.name(*slot).cmp(name));
        Ok(found.ok().map(|index| (first + index, slots[index].kind)))
    }

    /// A copy of the one at `index` alone.
    pub(super) fn only(&self, index: usize) -> io::Result<Self> {
        let mut kept = Self::default();
        if let Some((name, kind)) = self.get(index)? {
            kept.push(&name, kind);
        }
        Ok(kept)
    }

    /// A copy of the directories alone; none if the names are on disk, where they cost no memory.
    pub(super) fn directories(&self) -> Option<Self> {
        if self.spilled.is_some() {
            return None;
        }
        let mut kept = Self::default();
        for slot in &self.slots[self.files()..] {
            kept.push(self.name(*slot), slot.kind);
        }
        Some(kept)
    }

    fn name(&self, slot: Slot) -> &[u8] {
        &self.bytes[slot.offset as usize..][..usize::from(slot.length)]
    }

    /// Adds a name; false if there is no room for its offset.
    pub(super) fn push(&mut self, name: &[u8], kind: Kind) -> bool {
        let (Ok(offset), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(name.len()))
        else {
            return false;
        };
        self.bytes.extend_from_slice(name);
        self.slots.push(Slot {
            offset,
            length,
            kind,
        });
        true
    }

    /// Puts them in order. In place: nothing is needed beside what is there.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |slot: &Slot| {
            (
                slot.kind == Kind::Directory,
                &bytes[slot.offset as usize..][..usize::from(slot.length)],
            )
        };
        self.slots.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    }
}

impl<'a> FromIterator<(&'a [u8], Kind)> for Names {
    /// Names in any order; what has no room is left out.
    fn from_iter<I: IntoIterator<Item = (&'a [u8], Kind)>>(names: I) -> Self {
        let mut all = Self::default();
        for (name, kind) in names {
            all.push(name, kind);
        }
        all.sort();
        all
    }
}

/// Gathers names in any order, and puts them in order in bounded memory.
pub(super) struct Gathering {
    names: Names,
    /// Names in memory at a time.
    limit: usize,
    /// Where the others go; without one there is no room for more.
    folder: Option<PathBuf>,
    runs: Vec<Spilled>,
}

impl Gathering {
    pub(super) fn new(limit: usize, folder: Option<&Path>) -> Self {
        Self {
            names: Names::default(),
            limit,
            folder: folder.map(Path::to_owned),
            runs: Vec::new(),
        }
    }

    /// How many so far.
    pub(super) fn len(&self) -> usize {
        self.names.len() + self.runs.iter().map(Spilled::len).sum::<usize>()
    }

    /// Adds a name; false if there is no room for it.
    pub(super) fn push(&mut self, name: &[u8], kind: Kind) -> io::Result<bool> {
        if self.names.len() < self.limit && self.names.push(name, kind) {
            return Ok(true);
        }
        if self.folder.is_none() {
            return Ok(false);
        }
        self.spill()?;
        Ok(self.names.push(name, kind))
    }

    /// Writes what is in memory as a run.
    fn spill(&mut self) -> io::Result<()> {
        let mut names = std::mem::take(&mut self.names);
        names.sort();
        if let Some(folder) = &self.folder {
            let all = names.slots.iter();
            let all = all.map(|slot| (names.name(*slot), slot.kind));
            self.runs.push(spill::run(folder, all)?);
        }
        Ok(())
    }

    /// All of them, in order.
    pub(super) fn finish(mut self) -> io::Result<Names> {
        if self.runs.is_empty() {
            self.names.sort();
            return Ok(self.names);
        }
        self.spill()?;
        let folder = self.folder.take().unwrap_or_default();
        Ok(Names {
            spilled: Some(spill::merge(&folder, self.runs)?),
            ..Names::default()
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_on_disk_are_the_same_as_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let name = |number: usize| format!("{:x}", number * 7919 % 10_007).into_bytes();
        let kind = |number: usize| match number % 5 {
            0 => Kind::Directory,
            1 => Kind::Symlink,
            _ => Kind::File,
        };
        for count in [0, 1, 99, 100, 101, 1_000, 4_321] {
            let mut gathering = Gathering::new(100, Some(folder.path()));
            for number in 0..count {
                assert!(gathering.push(&name(number), kind(number)).unwrap());
            }
            assert_eq!(gathering.len(), count);
            let disk = gathering.finish().unwrap();
            assert_eq!(disk.spilled.is_some(), count > 100);
            let all: Vec<_> = (0..count)
                .map(|number| (name(number), kind(number)))
                .collect();
            let memory: Names = all.iter().map(|(name, kind)| (&name[..], *kind)).collect();
            let list = |names: &Names| {
                let all: io::Result<Vec<_>> = names.iter().collect();
                let all = all.unwrap().into_iter();
                all.map(|(name, kind)| (name.into_owned(), kind))
                    .collect::<Vec<_>>()
            };
            assert_eq!(list(&disk), list(&memory));
            assert_eq!((disk.len(), disk.files()), (memory.len(), memory.files()));
            for (name, kind) in &all {
                assert_eq!(disk.find(name).unwrap(), Some(*kind));
                assert_eq!(
                    disk.find_file(name).unwrap(),
                    memory.find_file(name).unwrap()
                );
            }
            for missing in [&b""[..], b"zz", b"5x"] {
                assert_eq!(disk.find(missing).unwrap(), None);
            }
            assert_eq!(disk.get(count).unwrap(), None);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_folder_there_is_no_room_beyond_the_limit() {
        let mut gathering = Gathering::new(1, None);
        assert!(gathering.push(b"a", Kind::File).unwrap());
        assert!(!gathering.push(b"b", Kind::File).unwrap());
    }
}
