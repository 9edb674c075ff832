//! A directory's listing, held compactly: one buffer for all names, eight bytes beside each.

use taf_format::entry::Kind;

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
}

impl Names {
    /// How many.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The one at `index`, if there are so many.
    pub fn get(&self, index: usize) -> Option<(&[u8], Kind)> {
        self.slots
            .get(index)
            .map(|slot| (self.name(*slot), slot.kind))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        self.slots.iter().map(|slot| (self.name(*slot), slot.kind))
    }

    /// How many are no directories; these come first.
    pub fn files(&self) -> usize {
        self.slots
            .partition_point(|slot| slot.kind != Kind::Directory)
    }

    /// The kind under a name, if it is there.
    pub fn find(&self, name: &[u8]) -> Option<Kind> {
        let files = self.files();
        [&self.slots[..files], &self.slots[files..]]
            .into_iter()
            .find_map(|slots| {
                let found = slots.binary_search_by(|slot| self.name(*slot).cmp(name));
                found.ok().map(|index| slots[index].kind)
            })
    }

    /// Index of what has this name and is no directory. They must be sorted.
    pub fn find_file(&self, name: &[u8]) -> Option<usize> {
        self.slots[..self.files()]
            .binary_search_by(|slot| self.name(*slot).cmp(name))
            .ok()
    }

    /// A copy of the one at `index` alone.
    pub(super) fn only(&self, index: usize) -> Self {
        let mut kept = Self::default();
        kept.push(self.name(self.slots[index]), self.slots[index].kind);
        kept
    }

    /// A copy of the directories alone.
    pub(super) fn directories(&self) -> Self {
        let mut kept = Self::default();
        for slot in &self.slots[self.files()..] {
            kept.push(self.name(*slot), slot.kind);
        }
        kept
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
