//! Rows of a range of keys, each with the versions that have it, in large batches.

use taf_format::key;
use taf_format::page::{Decoder, Dictionaries};

use super::super::walk;
use crate::catalog::{Error, View, view};
use crate::store::pages::{self, Row, Scope};
use crate::store::{Store, dictionaries};

/// Rows of the first batch: somebody waits for the first thing that is found.
const FIRST: i64 = 200;
/// Rows of later batches.
const ROWS: i64 = 2_000;
/// Bodies of a batch at which it ends, if they are large.
const BYTES: usize = 8 << 20;

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
    after: Option<(Vec<u8>, i64)>,
    from: Vec<u8>,
    to: Vec<u8>,
    limit: i64,
    /// The last chunk, of which more rows may come.
    open: Vec<Row>,
    done: bool,
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
            limit: FIRST,
            open: Vec::new(),
            done: false,
        }
    }

    /// The next groups; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Group>>, Error> {
        let mut groups = Vec::new();
        let mut bytes = 0;
        while groups.is_empty() && !self.done {
            let rows = self.fetch().await?;
            let wanted = self.limit;
            self.done = (rows.len() as i64) < wanted;
            self.limit = ROWS;
            if let Some(last) = rows.last() {
                self.after = Some((last.chunk().to_vec(), last.version()));
            }
            for row in rows {
                let open = self.open.first();
                if open.is_some_and(|open| open.chunk() != row.chunk()) {
                    groups.extend(self.close());
                }
                bytes += row.body().map_or(0, <[u8]>::len);
                self.open.push(row);
            }
            if self.done {
                groups.extend(self.close());
            }
            if bytes > BYTES {
                self.limit = FIRST;
            }
        }
        Ok((!groups.is_empty()).then_some(groups))
    }

    async fn fetch(&self) -> Result<Vec<Row>, Error> {
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
        let rows = if self.versions.wanted.len() == 1 {
            pages::page_scan_newest(&client, scope, range, self.limit).await?
        } else {
            pages::page_scan(&client, scope, range, self.limit).await?
        };
        Ok(rows)
    }

    /// The chunk of which all rows have come; none if no version has a page of it.
    fn close(&mut self) -> Option<Group> {
        let mut newer = None;
        let mut pages = Vec::new();
        for row in self.open.drain(..) {
            let having = self.versions.having(row.version(), newer);
            newer = Some(row.version());
            if let (Some(_), Some(oldest), Some(newest)) =
                (row.body(), having.first(), having.last())
            {
                pages.push(Page {
                    newest: self.versions.number.unwrap_or(newest.0),
                    oldest: self.versions.number.unwrap_or(oldest.0),
                    count: having.len() as u64,
                    row,
                });
            }
        }
        (!pages.is_empty()).then_some(Group { pages })
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
