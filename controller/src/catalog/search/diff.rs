//! What differs between two versions, in the order of directories.
//!
//! Keys are merged first: what both resolve to the same row is passed by without being fetched. Of the rest, entries are merged as far
//! as both sides are known, so that a directory of any size, cut into chunks at different names, needs no more memory than a batch.

use std::cmp::Ordering;
use std::collections::VecDeque;

use futures::{Stream, stream};
use taf_format::entry::Kind;
use taf_format::key;
use taf_format::page::{DirectoryStat, Entry, Page};

use super::blocking;
use super::keys::Keys;
use super::scan::is_below;
use crate::catalog::view::{Found, join};
use crate::catalog::{Error, View};
use crate::store::pages::{self, Key, PageRow};

/// Chunks that are fetched at once, of each side.
const BATCH: usize = 64;

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differs {
    /// Only the second version has it.
    Added,
    /// Only the first version has it.
    Removed,
    /// It is of another kind.
    Kind,
    /// Its content differs.
    Content,
    /// Only what is known about it differs.
    Metadata,
}

/// Something that differs.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Its path, without slash at either end.
    pub path: Vec<u8>,
    /// How.
    pub differs: Differs,
    /// What it was.
    pub before: Option<Found>,
    /// What it became.
    pub after: Option<Found>,
}

/// What differs in and below a directory (path without slash at either end).
pub fn diff(
    before: &View,
    after: &View,
    directory: &[u8],
) -> impl Stream<Item = Result<Vec<Difference>, Error>> + use<> {
    let comparison = Comparison {
        same_line: before.scope.line_id == after.scope.line_id,
        before: Side::new(before, directory),
        after: Side::new(after, directory),
        directory: directory.to_vec(),
        ended: false,
    };
    stream::try_unfold(comparison, async |mut comparison| {
        let found = comparison.next().await?;
        Ok(found.map(|found| (found, comparison)))
    })
}

/// Leaves out what only one of them has where the other one is not whole, and may have had it.
pub async fn certain(
    before: &View,
    after: &View,
    found: Vec<Difference>,
) -> Result<Vec<Difference>, Error> {
    if before.gap().is_none() && after.gap().is_none() {
        return Ok(found);
    }
    let mut certain = Vec::with_capacity(found.len());
    for difference in found {
        let lacking = match (&difference.before, &difference.after) {
            (None, _) => before,
            (_, None) => after,
            _ => {
                certain.push(difference);
                continue;
            }
        };
        if lacking.stat(&difference.path).await?.is_none() {
            certain.push(difference);
        }
    }
    Ok(certain)
}

/// Where an entry stands: the key of its directory, and its name. The directory's own metadata come before all names.
type Position = (Vec<u8>, Option<Vec<u8>>);

struct Item {
    position: Position,
    directory: Vec<u8>,
    what: What,
}

enum What {
    Directory(Box<DirectoryStat>),
    Entry(Box<Entry>),
}

/// One version.
struct Side {
    view: View,
    keys: Keys,
    /// Chosen, and not fetched yet.
    chosen: Vec<Key>,
    items: VecDeque<Item>,
    /// Pages of shortened keys: they don't come in the order of directories, and are compared when all have come.
    late: Vec<Page>,
}

impl Side {
    fn new(view: &View, directory: &[u8]) -> Self {
        Self {
            view: view.clone(),
            keys: Keys::below(view, directory),
            chosen: Vec::new(),
            items: VecDeque::new(),
            late: Vec::new(),
        }
    }

    async fn fetch(&mut self, directory: &[u8]) -> Result<(), Error> {
        let keys = std::mem::take(&mut self.chosen);
        if keys.is_empty() {
            return Ok(());
        }
        let client = self.view.client().await?;
        let rows = pages::page_bodies(&client, self.view.scope.line_id, &keys).await?;
        drop(client);
        let view = self.view.clone();
        let decoded = blocking(move || decode(&view, &rows)).await?;
        for (page, shortened) in decoded {
            if !is_below(&page.directory, directory) {
                continue;
            }
            if shortened {
                self.late.push(page);
            } else {
                self.push(page);
            }
        }
        Ok(())
    }

    fn push(&mut self, page: Page) {
        let full = key::of_path(&page.directory);
        let directory = page.directory;
        if let Some(stat) = page.header {
            self.items.push_back(Item {
                position: (full.clone(), None),
                directory: directory.clone(),
                what: What::Directory(Box::new(stat)),
            });
        }
        for entry in page.entries {
            self.items.push_back(Item {
                position: (full.clone(), Some(entry.name.clone())),
                directory: directory.clone(),
                what: What::Entry(Box::new(entry)),
            });
        }
    }

    /// Puts the pages that came late into order.
    fn push_late(&mut self) {
        let mut late = std::mem::take(&mut self.late);
        late.sort_by(|a, b| {
            let of = |page: &Page| key::of_path(&page.directory);
            (of(a), &a.lower).cmp(&(of(b), &b.lower))
        });
        for page in late {
            self.push(page);
        }
    }
}

fn decode(view: &View, rows: &[PageRow]) -> Result<Vec<(Page, bool)>, Error> {
    let decode = |row: &PageRow| Ok((view.decode(row)?, key::is_shortened(&row.chunk)));
    rows.iter().map(decode).collect()
}

struct Comparison {
    same_line: bool,
    before: Side,
    after: Side,
    directory: Vec<u8>,
    ended: bool,
}

impl Comparison {
    async fn next(&mut self) -> Result<Option<Vec<Difference>>, Error> {
        while !self.ended {
            let horizon = self.choose().await?;
            self.before.fetch(&self.directory).await?;
            self.after.fetch(&self.directory).await?;
            let mut found = Vec::new();
            self.merge(horizon.as_ref(), &mut found);
            if horizon.is_none() {
                self.ended = true;
                self.before.push_late();
                self.after.push_late();
                self.merge(None, &mut found);
            }
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Chooses what is fetched next. Gives the position up to which both sides are known then, none at the end.
    async fn choose(&mut self) -> Result<Option<Position>, Error> {
        loop {
            let left = self.before.keys.peek().await?.cloned();
            let right = self.after.keys.peek().await?.cloned();
            let order = match (&left, &right) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.0.cmp(&right.0),
            };
            if order == Ordering::Equal && self.same_line && left == right {
                self.before.keys.pop();
                self.after.keys.pop();
                continue;
            }
            let full = self.before.chosen.len().max(self.after.chosen.len()) >= BATCH;
            let first = if order == Ordering::Greater {
                &right
            } else {
                &left
            };
            if full
                && let Some((chunk, _)) = first
                && let Some((path, lower)) = key::split(chunk)
            {
                return Ok(Some((key::of_path(&path), lower)));
            }
            if order != Ordering::Greater {
                self.before.keys.pop();
                self.before.chosen.extend(left);
            }
            if order != Ordering::Less {
                self.after.keys.pop();
                self.after.chosen.extend(right);
            }
        }
    }

    fn merge(&mut self, horizon: Option<&Position>, found: &mut Vec<Difference>) {
        loop {
            let ready = |side: &Side| {
                let front = side.items.front()?;
                horizon
                    .is_none_or(|horizon| front.position < *horizon)
                    .then(|| front.position.clone())
            };
            let order = match (ready(&self.before), ready(&self.after)) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.cmp(&right),
            };
            let before = (order != Ordering::Greater)
                .then(|| self.before.items.pop_front())
                .flatten();
            let after = (order != Ordering::Less)
                .then(|| self.after.items.pop_front())
                .flatten();
            found.extend(compare(before, after));
        }
    }
}

/// What differs between what is at one position.
fn compare(before: Option<Item>, after: Option<Item>) -> Option<Difference> {
    let differs = match (&before, &after) {
        (Some(before), Some(after)) => match (&before.what, &after.what) {
            (What::Directory(before), What::Directory(after)) => directory(before, after),
            (What::Entry(before), What::Entry(after)) => entry(before, after),
            _ => None,
        },
        // That a directory came or went is told where its name is.
        (Some(item), None) => matches!(item.what, What::Entry(_)).then_some(Differs::Removed),
        (None, Some(item)) => matches!(item.what, What::Entry(_)).then_some(Differs::Added),
        (None, None) => None,
    }?;
    let path = before.as_ref().or(after.as_ref()).map(path_of)?;
    Some(Difference {
        path,
        differs,
        before: before.map(found),
        after: after.map(found),
    })
}

fn path_of(item: &Item) -> Vec<u8> {
    match &item.position.1 {
        Some(name) => join(&item.directory, name),
        None => item.directory.clone(),
    }
}

fn found(item: Item) -> Found {
    match item.what {
        What::Directory(stat) => Found::Directory(*stat),
        What::Entry(entry) => Found::Entry(entry),
    }
}

fn directory(before: &DirectoryStat, after: &DirectoryStat) -> Option<Differs> {
    let told = |stat: &DirectoryStat| (stat.mode, stat.uid, stat.gid, stat.xattrs.clone());
    (told(before) != told(after)).then_some(Differs::Metadata)
}

fn entry(before: &Entry, after: &Entry) -> Option<Differs> {
    if before.kind != after.kind {
        return Some(Differs::Kind);
    }
    if before.kind == Kind::Directory {
        return None;
    }
    let content = match (before.hash, after.hash) {
        (Some(before), Some(after)) => before != after,
        // Without a hash the time must do.
        _ => before.kind == Kind::File && before.mtime != after.mtime,
    };
    if content || before.size != after.size {
        return Some(Differs::Content);
    }
    let told = |entry: &Entry| {
        (
            (entry.mode, entry.uid, entry.gid, entry.mtime),
            (entry.rdev_major, entry.rdev_minor, entry.xattrs),
        )
    };
    let same = told(before) == told(after) && before.link_target == after.link_target;
    (!same).then_some(Differs::Metadata)
}
