//! Cuts a directory's listing into chunks, so that one changed name rewrites one chunk and not the listing.

use super::{DirectoryStat, Entry, Error, MAX_ENTRIES, MAX_TEXT, Page, validate};

/// A chunk begins at a name whose BLAKE3, its first 8 bytes read little endian, ends in ten zero bits.
const CUT_MASK: u64 = (1 << 10) - 1;

/// Takes a directory's entries in order and gives its chunks.
///
/// A chunk begins at a name by that name alone, wherever it stands, unless a chunk grew to [`MAX_ENTRIES`]
/// entries or [`MAX_TEXT`] bytes before one came. The first chunk takes the first name in any case.
#[derive(Debug)]
pub struct Chunker {
    page: Page,
    text: usize,
}

impl Chunker {
    /// Begins the listing of a directory, given by its path (components joined by `/`) and own metadata.
    pub fn new(directory: Vec<u8>, header: Option<DirectoryStat>) -> Self {
        let page = Page {
            directory,
            header,
            ..Page::default()
        };
        Self { page, text: 0 }
    }

    /// Whether a chunk begins at this name by the name alone.
    pub fn begins_at(name: &[u8]) -> bool {
        let hash = blake3::hash(name);
        let mut low = [0; 8];
        low.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(low) & CUT_MASK == 0
    }

    /// Adds the next entry; gives a chunk when the entry begins a new one.
    ///
    /// # Errors
    /// An entry that breaks the rules or is not behind the one before; the listing can't go on.
    pub fn push(&mut self, entry: Entry) -> Result<Option<Page>, Error> {
        let out_of_order = self
            .page
            .entries
            .last()
            .is_some_and(|last| last.name >= entry.name);
        let checked = if out_of_order {
            Err("its names are not in order")
        } else {
            validate::entry(&entry)
        };
        checked.map_err(|reason| Error::Invalid {
            directory: self.page.directory.escape_ascii().to_string(),
            reason,
        })?;
        let text = entry.name.len() + entry.link_target.len();
        let full = self.page.entries.len() == MAX_ENTRIES || self.text + text > MAX_TEXT;
        let cut = !self.page.entries.is_empty() && (full || Self::begins_at(&entry.name));
        let finished = cut.then(|| {
            let next = Page {
                directory: self.page.directory.clone(),
                lower: Some(entry.name.clone()),
                ..Page::default()
            };
            self.text = 0;
            let mut finished = std::mem::replace(&mut self.page, next);
            finished.upper = Some(entry.name.clone());
            finished
        });
        self.text += text;
        self.page.entries.push(entry);
        Ok(finished)
    }

    /// The last chunk: the only one of a small directory, and without entries for an empty one.
    pub fn finish(self) -> Page {
        self.page
    }
}
