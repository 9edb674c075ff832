//! The page of a directory while its entries are packed: files as they come, subdirectories by their names.

use std::sync::Arc;

use taf_format::entry::Kind;
use taf_format::page::{Chunker, DirectoryStat, Entry, Error, FLAG_LISTING_UNKNOWN, Page};
use taf_tree::walk::{Listing, Names};

/// A directory under way. Its page ends with its last file, before its first subdirectory begins.
#[derive(Debug)]
pub struct OpenListing {
    path: Vec<u8>,
    chunker: Chunker,
    names: Arc<Names>,
    /// Index among the names of the next subdirectory.
    next: usize,
    last: Option<Vec<u8>>,
}

impl OpenListing {
    /// Begins a page. `stat` is the directory's own, its place included; the root has none.
    pub fn new(path: &[u8], mut stat: DirectoryStat, listing: Listing, names: Arc<Names>) -> Self {
        if listing == Listing::Incomplete {
            stat.flags |= FLAG_LISTING_UNKNOWN;
        }
        Self {
            path: path.to_vec(),
            chunker: Chunker::new(path.to_vec(), Some(stat)),
            next: names.files(),
            names,
            last: None,
        }
    }

    /// The directory's path.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Adds what is no directory; gives the chunks that it completes.
    pub fn push(&mut self, entry: Entry) -> Result<Vec<Page>, Error> {
        let mut done = self.subdirectories(Some(&entry.name))?;
        self.add(entry, &mut done)?;
        Ok(done)
    }

    /// Ends the page; gives the rest of its chunks. `complete` is false if the directory can't be trusted to have no
    /// more than these.
    pub fn finish(mut self, complete: bool) -> Result<Vec<Page>, Error> {
        let mut done = self.subdirectories(None)?;
        let mut page = self.chunker.finish();
        if let Some(header) = page.header.as_mut().filter(|_| !complete) {
            header.flags |= FLAG_LISTING_UNKNOWN;
        }
        done.push(page);
        Ok(done)
    }

    /// Adds the subdirectories whose names come before `name`.
    fn subdirectories(&mut self, before: Option<&[u8]>) -> Result<Vec<Page>, Error> {
        let mut done = Vec::new();
        let names = Arc::clone(&self.names);
        loop {
            let found = names.get(self.next);
            let found =
                found.map_err(|_| Error::Damaged("its names on disk can't be read again"))?;
            match found {
                Some((name, _)) if before.is_none_or(|before| *name < *before) => {
                    self.next += 1;
                    self.add(Entry::bare(name.into_owned(), Kind::Directory), &mut done)?;
                }
                _ => return Ok(done),
            }
        }
    }

    fn add(&mut self, entry: Entry, done: &mut Vec<Page>) -> Result<(), Error> {
        // A directory that changes while it is listed can give a name twice; the first one counts.
        if self.last.as_ref().is_some_and(|last| *last >= entry.name) {
            return Ok(());
        }
        let name = entry.name.clone();
        done.extend(self.chunker.push(entry)?);
        self.last = Some(name);
        Ok(())
    }
}
