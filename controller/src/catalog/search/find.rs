//! Entries that meet conditions, in some versions of a line.

use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use taf_format::entry::{Kind, Time};
use taf_format::page::{Decoder, Entry, Names};
use taf_proto::selection::{self, Rules};
use taf_proto::v1::SelectionRule;

use super::scan::{Group, Page, Scan, Versions, damaged, is_below};
use super::spread;
use crate::catalog::Error;
use crate::store::Store;

/// What is looked for. All of it must be met.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// In and below this directory; without slash at either end.
    pub directory: Vec<u8>,
    /// The last one that matches its path must not be one that takes; none: every path.
    pub rules: Vec<SelectionRule>,
    /// Of these kinds; none: all.
    pub kinds: Vec<Kind>,
    /// Files of at least and at most so many bytes.
    pub size: (u64, Option<u64>),
    /// Modified at the one or later, and before the other.
    pub modified: (Option<Time>, Option<Time>),
}

impl Wanted {
    /// Whether more than name and kind must be known. Directories don't have more here.
    fn looks_inside(&self) -> bool {
        self.size != (0, None) || self.modified != (None, None)
    }

    fn has_kind(&self, kind: Kind) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && !(kind == Kind::Directory && self.looks_inside())
    }

    fn holds(&self, entry: &Entry) -> bool {
        let sized = self.size == (0, None)
            || (entry.kind == Kind::File
                && entry.size >= self.size.0
                && self.size.1.is_none_or(|most| entry.size <= most));
        sized
            && self.modified.0.is_none_or(|from| entry.mtime >= from)
            && self.modified.1.is_none_or(|to| entry.mtime < to)
    }
}

/// Something that was found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Path of its directory, without slash at either end.
    pub directory: Arc<[u8]>,
    /// What it is, without its hash.
    pub entry: Entry,
    /// Newest version that has it so.
    pub newest: i64,
    /// Oldest one.
    pub oldest: i64,
    /// How many have it so.
    pub count: u64,
}

/// What was found in some pages.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of keys.
    pub hits: Vec<Hit>,
    /// Entries looked at.
    pub scanned: u64,
}

/// Finds entries, in the order of keys.
///
/// # Errors
/// A rule can't be used; in the stream, the database or a damaged page.
pub fn find(
    store: &Store,
    versions: Versions,
    wanted: Wanted,
) -> Result<impl Stream<Item = Result<Batch, Error>> + use<>, selection::Error> {
    let scan = Scan::below(store, versions.clone(), &wanted.directory);
    let first = Worker::new(&versions, &wanted)?;
    let (wanted, workers) = (Arc::new(wanted), Arc::new(Mutex::new(vec![first])));
    Ok(spread(scan, move |groups| {
        let lock = || workers.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lock().pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => Worker::new(&versions, &wanted)
                .map_err(|error| Error::Invalid(error.to_string()))?,
        };
        let found = worker.look(&wanted, &groups);
        lock().push(worker);
        found
    }))
}

/// What one thread keeps from batch to batch.
struct Worker {
    decoder: Decoder,
    rules: Option<Rules>,
    names: Names,
    /// The path that is asked about.
    path: Vec<u8>,
    /// Indexes of names that may be hits.
    candidates: Vec<usize>,
}

impl Worker {
    fn new(versions: &Versions, wanted: &Wanted) -> Result<Self, selection::Error> {
        let rules = (!wanted.rules.is_empty()).then(|| Rules::new(&wanted.rules));
        Ok(Self {
            decoder: versions.decoder(),
            rules: rules.transpose()?,
            names: Names::default(),
            path: Vec::new(),
            candidates: Vec::new(),
        })
    }

    fn look(&mut self, wanted: &Wanted, groups: &[Group]) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        for group in groups {
            let from = batch.hits.len();
            for page in &group.pages {
                self.page(wanted, group, page, &mut batch)?;
            }
            if group.pages.len() > 1 {
                merge_same(&mut batch.hits, from);
            }
        }
        Ok(batch)
    }

    /// Names and kinds first; the other columns only of pages where something may be a hit.
    fn page(
        &mut self,
        wanted: &Wanted,
        group: &Group,
        page: &Page,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let chunk = group.chunk();
        self.decoder
            .names(chunk, page.body(), &mut self.names)
            .map_err(|cause| damaged(chunk, cause))?;
        let directory = self.names.directory();
        if !is_below(directory, &wanted.directory) {
            return Ok(());
        }
        batch.scanned += self.names.len() as u64;
        let rules = self.rules.as_ref();
        if rules.is_some_and(|rules| !rules.may_match(self.names.text())) {
            return Ok(());
        }
        self.candidates.clear();
        self.path.clear();
        self.path.extend_from_slice(directory);
        if !directory.is_empty() {
            self.path.push(b'/');
        }
        let stem = self.path.len();
        for (index, (name, kind)) in self.names.iter().enumerate() {
            if !wanted.has_kind(kind) {
                continue;
            }
            if let Some(rules) = &self.rules {
                self.path.truncate(stem);
                self.path.extend_from_slice(name);
                let word = rules.word(&self.path, kind == Kind::Directory);
                if word.is_none_or(|word| word.take) {
                    continue;
                }
            }
            self.candidates.push(index);
        }
        if self.candidates.is_empty() {
            return Ok(());
        }
        let directory: Arc<[u8]> = directory.into();
        let mut whole = self
            .decoder
            .decode(chunk, page.body(), None)
            .map_err(|cause| damaged(chunk, cause))?;
        for &index in &self.candidates {
            let entry = &mut whole.entries[index];
            if wanted.holds(entry) {
                batch.hits.push(Hit {
                    directory: Arc::clone(&directory),
                    entry: std::mem::replace(entry, Entry::bare(Vec::new(), Kind::File)),
                    newest: page.newest,
                    oldest: page.oldest,
                    count: page.count,
                });
            }
        }
        Ok(())
    }
}

/// Several pages of a chunk have what did not change between them several times: makes one hit of those, in the order of names.
fn merge_same(hits: &mut Vec<Hit>, from: usize) {
    let mut some = hits.split_off(from);
    // The newer ones come first, and stay there.
    some.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    for hit in some {
        let same = hits[from..]
            .iter_mut()
            .rev()
            .take_while(|known| known.entry.name == hit.entry.name)
            .find(|known| is_same(&known.entry, &hit.entry));
        match same {
            Some(known) => {
                known.oldest = hit.oldest;
                known.count += hit.count;
            }
            None => hits.push(hit),
        }
    }
}

/// Marks of the catalog's own make no difference to who looks for something.
fn is_same(a: &Entry, b: &Entry) -> bool {
    let told = |entry: &Entry| {
        (
            entry.kind,
            entry.size,
            entry.mtime,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.place,
        )
    };
    told(a) == told(b) && a.link_target == b.link_target
}
