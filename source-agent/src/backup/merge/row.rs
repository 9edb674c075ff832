//! What the base has under one key, and what a run has to write there (rules 5, 6, 8 and 11).

use std::sync::Arc;

use bytes::Bytes;
use taf_format::key;
use taf_format::page::{Entry, Page};

/// A page of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Decoded.
    pub page: Page,
    /// As it is stored.
    pub body: Bytes,
    /// Its hashes, as they are stored.
    pub hashes: Bytes,
}

/// What an earlier attempt at this version has committed under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// A page.
    Page(Arc<Known>),
    /// That it is gone.
    Tombstone,
}

/// What a run is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Nothing: a full.
    Nothing,
    /// The head: an incremental.
    Head,
    /// The full, for bytes, and the head: a differential.
    FullAndHead,
}

/// All that is known under one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The chunk's key.
    pub key: Vec<u8>,
    /// The head's page.
    pub head: Option<Arc<Known>>,
    /// The full's page, in a differential.
    pub full: Option<Arc<Known>>,
    /// What earlier attempts at this version committed.
    pub staged: Option<Staged>,
}

/// What becomes of a key whose content stays the head's, because nobody could look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carry {
    /// Nothing needs to be written.
    Nothing,
    /// This page.
    Page(Arc<Known>),
    /// A tombstone.
    Tombstone,
}

impl Row {
    /// The page that earlier attempts committed.
    pub fn staged_page(&self) -> Option<&Arc<Known>> {
        match &self.staged {
            Some(Staged::Page(known)) => Some(known),
            Some(Staged::Tombstone) | None => None,
        }
    }

    /// The page that unchanged places are taken from.
    pub fn compared(&self, against: Against) -> Option<&Arc<Known>> {
        match against {
            Against::Nothing => None,
            Against::Head => self.head.as_ref(),
            Against::FullAndHead => self.full.as_ref(),
        }
    }

    /// All pages, whoever has them.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        let known = [self.head.as_ref(), self.full.as_ref(), self.staged_page()];
        known.into_iter().flatten().map(|known| &known.page)
    }

    /// First name of its chunk; `None` in a directory's first one.
    pub fn lower(&self) -> Option<Vec<u8>> {
        match self.pages().next() {
            Some(page) => page.lower.clone(),
            // A tombstone: only a whole key tells.
            None => key::split(&self.key).and_then(|(_, name)| name),
        }
    }

    /// Whether it is of a later chunk of the same directory.
    pub fn begins_behind(&self, page: &Page) -> bool {
        self.lower() > page.lower
    }

    /// Whether `new` must be written under this key.
    pub fn takes(&self, new: &Page, against: Against) -> bool {
        match &self.staged {
            Some(Staged::Page(known)) => !same(new, &known.page),
            Some(Staged::Tombstone) => true,
            None => {
                let differs = |known: &Option<Arc<Known>>| {
                    known.as_ref().is_none_or(|known| !same(new, &known.page))
                };
                differs(&self.head) || (against == Against::FullAndHead && differs(&self.full))
            }
        }
    }

    /// Whether a tombstone must be written under this key, since nothing is there any more.
    pub fn buries(&self) -> bool {
        match &self.staged {
            Some(Staged::Page(_)) => true,
            Some(Staged::Tombstone) => false,
            None => self.head.is_some() || self.full.is_some(),
        }
    }

    /// What must be written so that the version has here what the head has.
    pub fn carry(&self, against: Against) -> Carry {
        let Some(head) = &self.head else {
            return if self.buries() {
                Carry::Tombstone
            } else {
                Carry::Nothing
            };
        };
        let there = match &self.staged {
            Some(Staged::Page(known)) => equal(known, head),
            Some(Staged::Tombstone) => false,
            None if against == Against::FullAndHead => {
                self.full.as_ref().is_some_and(|full| equal(full, head))
            }
            None => true,
        };
        if there {
            Carry::Nothing
        } else {
            Carry::Page(Arc::clone(head))
        }
    }
}

fn equal(a: &Arc<Known>, b: &Arc<Known>) -> bool {
    Arc::ptr_eq(a, b) || (a.body == b.body && a.hashes == b.hashes)
}

/// Whether the new page says no more than the old one: it may lack racy marks.
fn same(new: &Page, old: &Page) -> bool {
    let bounds = new.upper == old.upper && new.lower == old.lower;
    bounds
        && new.directory == old.directory
        && new.header == old.header
        && new.entries.len() == old.entries.len()
        && new.entries.iter().zip(&old.entries).all(same_entry)
}

fn same_entry((new, old): (&Entry, &Entry)) -> bool {
    if new.racy == old.racy {
        return new == old;
    }
    old.racy
        && *new
            == Entry {
                racy: false,
                ..old.clone()
            }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taf_format::entry::Kind;

    fn known(size: u64, racy: bool) -> Arc<Known> {
        let entry = Entry {
            size,
            racy,
            ..Entry::bare(b"f".to_vec(), Kind::File)
        };
        let page = Page {
            entries: vec![entry],
            ..Page::default()
        };
        Arc::new(Known {
            page,
            body: Bytes::copy_from_slice(&[size as u8, u8::from(racy)]),
            hashes: Bytes::new(),
        })
    }

    fn row(head: Option<u64>, full: Option<u64>, staged: Option<Staged>) -> Row {
        Row {
            key: Vec::new(),
            head: head.map(|size| known(size, false)),
            full: full.map(|size| known(size, false)),
            staged,
        }
    }

    fn page(size: u64) -> Staged {
        Staged::Page(known(size, false))
    }

    const GONE: Option<Staged> = Some(Staged::Tombstone);

    #[test]
    fn a_page_is_written_where_it_differs_from_the_head_or_the_full() {
        let new = &known(1, false).page;
        let (incremental, differential) = (Against::Head, Against::FullAndHead);
        assert!(!row(Some(1), None, None).takes(new, incremental));
        assert!(row(Some(2), None, None).takes(new, incremental));
        assert!(row(Some(1), None, None).takes(new, differential));
        assert!(row(Some(1), Some(2), None).takes(new, differential));
        assert!(row(Some(2), Some(1), None).takes(new, differential));
        assert!(!row(Some(1), Some(1), None).takes(new, differential));
        // What is staged under this version is what counts.
        assert!(!row(Some(2), Some(3), Some(page(1))).takes(new, differential));
        assert!(row(Some(1), Some(1), Some(page(2))).takes(new, differential));
        assert!(row(Some(1), None, GONE).takes(new, incremental));
    }

    #[test]
    fn a_page_that_only_clears_racy_marks_is_not_written() {
        let row = |racy| Row {
            head: Some(known(1, racy)),
            ..Row::default()
        };
        assert!(!row(true).takes(&known(1, false).page, Against::Head));
        assert!(row(false).takes(&known(1, true).page, Against::Head));
        assert!(row(true).takes(&known(2, false).page, Against::Head));
    }

    #[test]
    fn a_tombstone_is_written_where_something_would_be_seen() {
        assert!(row(Some(1), None, None).buries());
        assert!(row(None, Some(1), None).buries());
        assert!(row(None, None, Some(page(1))).buries());
        assert!(!row(Some(1), Some(1), GONE).buries());
    }

    #[test]
    fn what_is_carried_is_the_heads_whatever_else_there_is() {
        let carries = |carry| matches!(carry, Carry::Page(_));
        assert_eq!(
            row(Some(1), None, None).carry(Against::Head),
            Carry::Nothing
        );
        assert!(carries(
            row(Some(1), Some(2), None).carry(Against::FullAndHead)
        ));
        assert!(carries(row(Some(1), None, GONE).carry(Against::Head)));
        let gone = row(None, Some(2), None).carry(Against::FullAndHead);
        assert_eq!(gone, Carry::Tombstone);
        let never = row(None, None, GONE).carry(Against::Head);
        assert_eq!(never, Carry::Nothing);
    }
}
