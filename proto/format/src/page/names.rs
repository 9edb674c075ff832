//! The names of a page without the rest of it: what searching reads of most pages.

use super::columns::Reader;
use super::decode::read_bounds;
use super::encode::{KIND_MASK, KINDS};
use super::{Error, MAX_ENTRIES, MAX_NAME, MAX_TEXT, validate};
use crate::entry::Kind;

/// Directory, names and kinds of one page. Filled again and again, it allocates nothing.
#[derive(Debug, Default)]
pub struct Names {
    directory: Vec<u8>,
    text: Vec<u8>,
    /// Where each name ends in the text.
    ends: Vec<usize>,
    kinds: Vec<Kind>,
}

impl Names {
    /// The directory's path: components joined by `/`, no slash at either end, empty for the root.
    pub fn directory(&self) -> &[u8] {
        &self.directory
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All names, one behind the other.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Names and kinds in the byte order of names, as the page's entries.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        let mut from = 0;
        let names = self.ends.iter().map(move |&end| {
            let name = &self.text[from..end];
            from = end;
            name
        });
        names.zip(self.kinds.iter().copied())
    }

    pub(super) fn read(&mut self, chunk: &[u8], mut columns: Reader<'_>) -> Result<(), Error> {
        self.text.clear();
        self.ends.clear();
        self.kinds.clear();
        self.directory = read_bounds(chunk, &mut columns)?.directory;
        let count = columns.length("entries", MAX_ENTRIES)?;
        let (mut start, mut bytes) = (0, 0);
        for _ in 0..count {
            let shared = columns.length("bytes in a name", MAX_NAME)?;
            let end = self.text.len();
            if shared > end - start {
                return Err(Error::Damaged("a name shares more than the one before has"));
            }
            let rest = columns.terminated()?;
            bytes += shared + rest.len();
            validate::limit("bytes of names", bytes, MAX_TEXT)?;
            self.text.extend_from_within(start..start + shared);
            self.text.extend_from_slice(rest);
            start = end;
            self.ends.push(self.text.len());
        }
        for &flags in columns.bytes(count)? {
            let kind = KINDS.get(usize::from(flags & KIND_MASK));
            let kind = *kind.ok_or(Error::Damaged("an entry is of an unknown kind"))?;
            self.kinds.push(kind);
        }
        Ok(())
    }
}
