//! The pages of a range of a version, in the order of the walk, which is that of their keys.
//!
//! Fetches keys in batches and bodies in small ones; between them no connection is held. Keys that were shortened do not
//! sort by their paths; those (all below one very long path) are sorted by what the pages say that they are of.

use std::collections::VecDeque;

use taf_format::key;
use taf_format::page::Page;

use super::{Error, View};
use crate::store::pages::{self, END, Key, PageRow};

/// Keys fetched at once.
const KEYS: i64 = 4_000;
/// Bodies fetched at once; a body is at most 2 MiB and usually a few KB.
const BODIES: usize = 32;

/// See the module.
pub(super) struct Walk {
    view: View,
    /// The directory, by path; empty for everything.
    directory: Vec<u8>,
    /// Where to go on, and whether behind it.
    from: (Vec<u8>, bool),
    to: Vec<u8>,
    exhausted: bool,
    keys: VecDeque<Key>,
    /// Shortened and other long keys that share their first bytes, in the order of the walk.
    group: VecDeque<Key>,
    pages: VecDeque<(PageRow, Page)>,
}

impl Walk {
    /// Everything in and below a directory, itself first.
    pub(super) fn below(view: &View, directory: &[u8]) -> Self {
        let (from, to) = range_below(directory);
        Self {
            view: view.clone(),
            directory: directory.to_vec(),
            from: (from, false),
            to,
            exhausted: false,
            keys: VecDeque::new(),
            group: VecDeque::new(),
            pages: VecDeque::new(),
        }
    }

    /// The next page.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, Error> {
        Ok(self.next_row().await?.map(|(_, page)| page))
    }

    /// The next page, and as it is stored.
    pub(super) async fn next_row(&mut self) -> Result<Option<(PageRow, Page)>, Error> {
        loop {
            if let Some((row, page)) = self.pages.pop_front() {
                if self.is_wanted(&page) {
                    return Ok(Some((row, page)));
                }
                continue;
            }
            let keys = self.next_keys().await?;
            if keys.is_empty() {
                return Ok(None);
            }
            self.pages = self.bodies(&keys).await?.into();
        }
    }

    fn is_wanted(&self, page: &Page) -> bool {
        let rest = page.directory.strip_prefix(self.directory.as_slice());
        self.directory.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    async fn bodies(&self, keys: &[Key]) -> Result<Vec<(PageRow, Page)>, Error> {
        let client = self.view.client().await?;
        let rows = pages::page_bodies(&client, self.view.scope.line_id, keys).await?;
        let decoded = |row: PageRow| {
            let page = self.view.decode(&row)?;
            Ok((row, page))
        };
        rows.into_iter().map(decoded).collect()
    }

    async fn next_keys(&mut self) -> Result<Vec<Key>, Error> {
        loop {
            if !self.group.is_empty() {
                let most = self.group.len().min(BODIES);
                return Ok(self.group.drain(..most).collect());
            }
            if self.keys.is_empty() && !self.fetch().await? {
                return Ok(Vec::new());
            }
            let short = self
                .keys
                .iter()
                .take(BODIES)
                .take_while(|(chunk, _)| chunk.len() < key::KEPT)
                .count();
            if short > 0 {
                return Ok(self.keys.drain(..short).collect());
            }
            self.gather().await?;
        }
    }

    /// More keys; false at the end.
    async fn fetch(&mut self) -> Result<bool, Error> {
        while self.keys.is_empty() && !self.exhausted {
            let client = self.view.client().await?;
            let (from, behind) = &self.from;
            let found =
                pages::page_keys(&client, self.view.scope, from, *behind, &self.to, KEYS).await?;
            match found.last {
                Some(last) => self.from = (last, true),
                None => self.exhausted = true,
            }
            self.keys.extend(found.live);
        }
        Ok(!self.keys.is_empty())
    }

    /// Takes all keys that begin as the next one does and puts them into the order of the walk.
    async fn gather(&mut self) -> Result<(), Error> {
        let Some((first, _)) = self.keys.front() else {
            return Ok(());
        };
        let shared = first[..key::KEPT].to_vec();
        let mut found: Vec<(Vec<u8>, Vec<u8>, i64)> = Vec::new();
        loop {
            let same = self
                .keys
                .iter()
                .take(BODIES)
                .take_while(|(chunk, _)| chunk.starts_with(&shared))
                .count();
            if same == 0 {
                break;
            }
            let keys: Vec<Key> = self.keys.drain(..same).collect();
            let pages = self.bodies(&keys).await?;
            for ((_, page), (chunk, version)) in pages.iter().zip(keys) {
                found.push((whole_key(page), chunk[key::KEPT..].to_vec(), version));
            }
            if self.keys.is_empty() && !self.fetch().await? {
                break;
            }
        }
        found.sort_unstable();
        self.group = found
            .into_iter()
            .map(|(_, rest, version)| ([&shared[..], &rest].concat(), version))
            .collect();
        Ok(())
    }
}

/// The keys of everything in and below a directory: the first, and the first behind them. Of a very long path only the beginning is
/// in the keys: what else begins so is to be left out by its page.
pub(super) fn range_below(directory: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut from = key::of_path(directory);
    from.truncate(key::KEPT);
    let to = match from.len() {
        0 => END.to_vec(),
        key::KEPT => successor(&from),
        _ => [&from[..], &[1]].concat(),
    };
    (from, to)
}

/// What the page's key would be if it were not shortened, without what all keys of the group begin with.
fn whole_key(page: &Page) -> Vec<u8> {
    let mut whole = key::of_path(&page.directory);
    if let Some(lower) = &page.lower {
        whole.extend_from_slice(&[0, 0]);
        whole.extend_from_slice(lower);
    }
    whole.split_off(key::KEPT.min(whole.len()))
}

/// The first key behind all that begin with `prefix`.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < 0xFF {
            next.push(last + 1);
            return next;
        }
    }
    END.to_vec()
}
