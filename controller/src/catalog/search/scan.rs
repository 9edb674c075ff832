//! Pages of a range of keys, each with the versions that have it, in large batches: which rows they are in the index alone tells, so that
//! this goes ahead, and several batches are read at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use taf_format::key;
use taf_format::page::{Decoder, Dictionaries};

use super::super::walk;
use crate::catalog::{Error, View, view};
use crate::store::pages::{self, Key, Row, Scope};
use crate::store::{self, Store, dictionaries};

/// Rows of the first batch, and of all if they are large: somebody waits for the first thing that is found.
const FEW: i64 = 200;
/// Rows of later batches.
const ROWS: i64 = 4_000;
/// Bytes of a page from which on, on average, they are large.
const LARGE: usize = 2 << 10;

/// A chunk's page in some versions.
pub(super) struct Page {
    row: Row,
    /// Newest version that has it.
    pub(super) newest: i64,
    /// Oldest version that has it.
    pub(super) oldest: i64,
    /// How many have it.
    pub(super) count: u64,
}

impl Page {
    /// Encoded.
    pub(super) fn body(&self) -> &[u8] {
        // Only rows that have one become pages.
        self.row.body().unwrap_or_default()
    }
}

/// A chunk with its pages, newest first; at least one.
pub(super) struct Group {
    pub(super) pages: Vec<Page>,
}

impl Group {
    pub(super) fn chunk(&self) -> &[u8] {
        self.pages.first().map_or(&[], |page| page.row.chunk())
    }
}

/// The versions of one line that are looked at.
#[derive(Debug, Clone)]
pub struct Versions {
    line: i64,
    /// Number and floor, by number. Floors never fall.
    wanted: Vec<(i64, i64)>,
    /// Of the rows of the floor, those of this archive and later ones; 0 but for a version that is not whole, which is looked at alone.
    ordinal: i32,
    /// The number of one that is not whole, which may be another than that of the rows that it resolves to.
    number: Option<i64>,
    dictionaries: Dictionaries,
}

impl Versions {
    /// These versions, number and floor each.
    pub async fn new(store: &Store, line: i64, wanted: Vec<(i64, i64)>) -> Result<Self, Error> {
        let client = store.client().await?;
        let dictionaries = dictionaries::dictionaries(&client, line).await?;
        Ok(Self::with(line, wanted, dictionaries))
    }

    /// The version of a view.
    pub async fn of(view: &View) -> Result<Self, Error> {
        let scope = view.scope;
        let wanted = vec![(scope.version, scope.floor)];
        Ok(Self {
            ordinal: scope.ordinal,
            number: Some(view.number),
            ..Self::new(&view.store, scope.line_id, wanted).await?
        })
    }

    fn with(line: i64, mut wanted: Vec<(i64, i64)>, dictionaries: Dictionaries) -> Self {
        wanted.sort_unstable();
        Self {
            line,
            wanted,
            ordinal: 0,
            number: None,
            dictionaries,
        }
    }

    /// Whether only one is looked at.
    fn is_one(&self) -> bool {
        self.wanted.len() == 1
    }

    /// Decodes their pages.
    pub(super) fn decoder(&self) -> Decoder {
        Decoder::new(self.dictionaries.clone())
    }

    /// The line's row.
    pub fn line(&self) -> i64 {
        self.line
    }

    /// Which of them have the row of a chunk that is of version `own`, when the next newer row is of `newer`: versions from its own up
    /// to the next row, which do not resolve above it.
    fn having(&self, own: i64, newer: Option<i64>) -> &[(i64, i64)] {
        let from = self.wanted.partition_point(|(number, _)| *number < own);
        let to = newer.map_or(self.wanted.len(), |newer| {
            self.wanted.partition_point(|(number, _)| *number < newer)
        });
        let between = self.wanted.get(from..to).unwrap_or_default();
        &between[..between.partition_point(|(_, floor)| *floor <= own)]
    }
}

/// See the module.
pub(super) struct Scan {
    store: Store,
    versions: Versions,
    /// Behind which row to go on; none at the beginning.
    after: Option<Key>,
    from: Vec<u8>,
    to: Vec<u8>,
    limit: i64,
    /// Whether a batch was so large that others should have few rows.
    large: Arc<AtomicBool>,
    /// Rows of the last chunk, of which more may come.
    open: Vec<Key>,
    done: bool,
}

/// Rows of which the pages are still to be read, with all that the versions may have of each of their chunks.
pub(super) struct Stretch {
    store: Store,
    versions: Versions,
    large: Arc<AtomicBool>,
    keys: Vec<Key>,
}

impl Scan {
    /// Everything in and below a directory (path without slash at either end). Of a very long path more may come.
    pub(super) fn below(store: &Store, versions: Versions, directory: &[u8]) -> Self {
        let (from, to) = walk::range_below(directory);
        Self {
            store: store.clone(),
            versions,
            after: None,
            from,
            to,
            limit: FEW,
            large: Arc::default(),
            open: Vec::new(),
            done: false,
        }
    }

    /// The next batch; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Stretch>, Error> {
        let mut keys = Vec::new();
        while keys.is_empty() && !self.done {
            let fetched = self.fetch().await?;
            self.done = (fetched.len() as i64) < self.limit;
            let large = self.large.load(Ordering::Relaxed);
            self.limit = if large { FEW } else { ROWS };
            self.after = fetched.last().cloned().or(self.after.take());
            self.open.extend(fetched);
            let whole = self.whole();
            keys.extend(self.open.drain(..whole));
        }
        Ok((!keys.is_empty()).then(|| Stretch {
            store: self.store.clone(),
            versions: self.versions.clone(),
            large: Arc::clone(&self.large),
            keys,
        }))
    }

    /// How many of the rows are of chunks of which no more come.
    fn whole(&self) -> usize {
        match self.open.last() {
            Some((last, _)) if !self.done && !self.versions.is_one() => {
                let before = self.open.iter().rposition(|(chunk, _)| chunk != last);
                before.map_or(0, |at| at + 1)
            }
            _ => self.open.len(),
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, Error> {
        let client = self.store.client().await?;
        let after = self.after.as_ref();
        let range = pages::Range {
            from: &self.from,
            to: &self.to,
            after: after.map(|(chunk, version)| (chunk.as_slice(), *version)),
        };
        let line_id = self.versions.line;
        let (Some((_, floor)), Some((version, _))) =
            (self.versions.wanted.first(), self.versions.wanted.last())
        else {
            return Ok(Vec::new());
        };
        let scope = Scope::whole(line_id, *version, *floor).from((*floor, self.versions.ordinal));
        let keys = if self.versions.is_one() {
            pages::page_scan_newest(&client, scope, range, self.limit).await?
        } else {
            pages::page_scan(&client, scope, range, self.limit).await?
        };
        Ok(keys)
    }
}

impl Stretch {
    /// The chunks that some version has a page of.
    pub(super) async fn read(self) -> Result<Vec<Group>, Error> {
        let client = self.store.client().await?;
        let rows = pages::page_rows(&client, self.versions.line, &self.keys).await?;
        drop(client);
        let bodies = rows.iter().flatten().filter_map(Row::body);
        let bytes: usize = bodies.map(<[u8]>::len).sum();
        let large = bytes > rows.len() * LARGE;
        self.large.store(large, Ordering::Relaxed);
        let mut groups: Vec<Group> = Vec::new();
        let mut before: Option<&Key> = None;
        for (key, row) in self.keys.iter().zip(rows) {
            let newer = before.filter(|(chunk, _)| *chunk == key.0);
            let having = self.versions.having(key.1, newer.map(|(_, own)| *own));
            before = Some(key);
            let Some(row) = row else {
                // What the one version has goes only with it; of several, others may be there.
                if self.versions.is_one() {
                    return Err(store::Error::Stale("version").into());
                }
                continue;
            };
            let (Some(_), Some(oldest), Some(newest)) = (row.body(), having.first(), having.last())
            else {
                continue;
            };
            let page = Page {
                newest: self.versions.number.unwrap_or(newest.0),
                oldest: self.versions.number.unwrap_or(oldest.0),
                count: having.len() as u64,
                row,
            };
            match groups.last_mut() {
                Some(group) if group.chunk() == key.0 => group.pages.push(page),
                _ => groups.push(Group { pages: vec![page] }),
            }
        }
        Ok(groups)
    }
}

/// What could not be decoded, and of which directory.
pub(super) fn damaged(chunk: &[u8], cause: taf_format::page::Error) -> Error {
    let directory = key::split(chunk).map(|(path, _)| path);
    view::damaged(&directory.unwrap_or_default(), cause)
}

/// Whether a directory is another one or lies below it; both without slash at either end.
pub(super) fn is_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty()
        || path
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_had_from_its_version_to_the_next_row_and_not_above_a_floor() {
        // Full 1, incrementals 2 and 3, full 4, incremental 5; 2 has expired.
        let versions = Versions::with(1, vec![(5, 4), (1, 1), (3, 1), (4, 4)], Dictionaries::new());
        let having = |own, newer| -> Vec<i64> {
            let having = versions.having(own, newer);
            having.iter().map(|(number, _)| *number).collect()
        };
        assert_eq!(having(1, None), [1, 3]);
        assert_eq!(having(1, Some(2)), [1]);
        assert_eq!(having(2, Some(4)), [3]);
        assert_eq!(having(2, Some(3)), [0_i64; 0], "only what expired had it");
        assert_eq!(having(4, None), [4, 5]);
        assert_eq!(having(5, None), [5]);
    }
}
