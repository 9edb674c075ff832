//! A version as a tree: pages by directory and name. Of one that is not whole ([`super::gap`]) only what is certain is there, and where
//! nothing is it can often not be told whether there was something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use taf_format::entry::Kind;
use taf_format::key;
use taf_format::page::{self, Decoder, DirectoryStat, Entry, Page};

use super::Error;
use super::gap::Gap;
use crate::store::pages::{self, PageRow, Scope};
use crate::store::parts::{self, Located};
use crate::store::{Client, GenericClient, Store, dictionaries, versions};

/// A version.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) store: Store,
    /// The rows that it resolves to. Of one that is not whole and had nothing of its own, those of the version before it.
    pub(super) scope: Scope,
    /// Its number.
    pub(super) number: i64,
    /// What it lacks, if it is not whole.
    gap: Option<Arc<Gap>>,
    decoder: Arc<Mutex<Decoder>>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory(DirectoryStat),
    /// Anything else.
    Entry(Box<Entry>),
    /// The version is not whole, and what is there, or whether there is anything, is not known; or that it is a directory, and nothing of
    /// what is in it.
    Unknown,
}

impl View {
    /// The view of a published version, none if it is not one.
    pub async fn open(store: &Store, line: i64, version: i64) -> Result<Option<Self>, Error> {
        let client = store.client().await?;
        let found = versions::version_get(&client, line, version).await?;
        match found {
            Some(found) => Ok(Some(Self::with(store, &client, whole(&found)).await?)),
            None => Ok(None),
        }
    }

    /// The view of a version that a restore under way reads, though it may have expired since the restore began.
    pub async fn open_restored(
        store: &Store,
        line: i64,
        version: i64,
    ) -> Result<Option<Self>, Error> {
        let client = store.client().await?;
        let Some(floor) = versions::version_floor(&client, line, version).await? else {
            return Self::partial(store, &client, line, version).await;
        };
        let scope = Scope::whole(line, version, floor);
        Ok(Some(Self::with(store, &client, scope).await?))
    }

    /// The view of this version.
    pub async fn of(store: &Store, version: &versions::Version) -> Result<Self, Error> {
        let client = store.client().await?;
        if version.incomplete_reason.is_some() {
            let (line, number) = (version.line_id, version.version);
            let partial = Self::partial(store, &client, line, number).await?;
            // It may have become whole at this moment.
            return partial.ok_or_else(|| crate::store::Error::Stale("version").into());
        }
        Self::with(store, &client, whole(version)).await
    }

    /// The view of a version that is not whole.
    async fn partial(
        store: &Store,
        client: &Client,
        line: i64,
        version: i64,
    ) -> Result<Option<Self>, Error> {
        let Some((scope, gap)) = Gap::open(client, line, version).await? else {
            return Ok(None);
        };
        let view = Self::with(store, client, scope).await?;
        Ok(Some(Self {
            number: version,
            gap: Some(Arc::new(gap)),
            ..view
        }))
    }

    /// What it lacks; none if it is whole.
    pub fn gap(&self) -> Option<Arc<Gap>> {
        self.gap.clone()
    }

    async fn with(store: &Store, client: &Client, scope: Scope) -> Result<Self, Error> {
        let known = dictionaries::dictionaries(client, scope.line_id).await?;
        Ok(Self {
            store: store.clone(),
            scope,
            number: scope.version,
            gap: None,
            decoder: Arc::new(Mutex::new(Decoder::new(known))),
        })
    }

    /// What it names that was sent of it, so that the rest is of the same; empty of one that is whole, which never changes.
    pub fn revision(&self) -> Bytes {
        self.gap
            .as_ref()
            .map_or_else(Bytes::new, |gap| gap.revision())
    }

    /// The parts that it needs, as far as they are there, in the order of their bytes.
    pub async fn parts(&self, client: &impl GenericClient) -> Result<Vec<Located>, Error> {
        if let Some(gap) = &self.gap {
            return Ok(gap.parts().to_vec());
        }
        let (line, version) = (self.scope.line_id, self.scope.version);
        Ok(parts::part_list_of_version(client, line, version).await?)
    }

    /// The volumes that it needs.
    pub async fn volumes(&self, client: &impl GenericClient) -> Result<Vec<i64>, Error> {
        let parts = self.parts(client).await?;
        let mut volumes: Vec<i64> = parts.iter().map(|part| part.volume_id).collect();
        volumes.sort_unstable();
        volumes.dedup();
        Ok(volumes)
    }

    /// Decodes a row.
    pub(super) fn decode(&self, row: &PageRow) -> Result<Page, Error> {
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        decode(&mut decoder, row)
    }

    /// A connection to read with.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        Ok(self.store.client().await?)
    }

    /// The page of a key.
    pub(super) async fn page(
        &self,
        client: &impl GenericClient,
        chunk: &[u8],
    ) -> Result<Option<Page>, Error> {
        pages::page_get(client, self.scope, chunk)
            .await?
            .as_ref()
            .map(|row| self.decode(row))
            .transpose()
    }

    /// The first chunk of a directory (its path without slash at either end), none if there is no such directory.
    pub(super) async fn first_chunk(
        &self,
        client: &impl GenericClient,
        directory: &[u8],
    ) -> Result<Option<Page>, Error> {
        self.page(client, &first_key(directory)).await
    }

    /// The chunk that follows. None at the end; and where it is not known, which the upper bound of `page` tells from the end.
    pub(super) async fn next_chunk(
        &self,
        client: &impl GenericClient,
        page: &Page,
    ) -> Result<Option<Page>, Error> {
        let Some(upper) = &page.upper else {
            return Ok(None);
        };
        let chunk = key::chunk(&key::of_path(&page.directory), Some(upper));
        match self.page(client, &chunk).await? {
            Some(next) => Ok(Some(next)),
            None if self.gap.is_some() => Ok(None),
            None => Err(damaged(
                &page.directory,
                page::Error::Damaged("a chunk of it is missing"),
            )),
        }
    }

    /// The chunk whose bounds hold `name`, none if there is no such directory, or it is not known.
    pub(super) async fn chunk_of(
        &self,
        client: &impl GenericClient,
        directory: &[u8],
        name: &[u8],
    ) -> Result<Option<Page>, Error> {
        let mut page = self.first_chunk(client, directory).await?;
        if page.as_ref().is_some_and(|first| holds(first, name))
            || (page.is_none() && self.gap.is_none())
        {
            return Ok(page);
        }
        let full = key::of_path(directory);
        // Keys of a directory's chunks are in the order of their first names, but for shortened ones: the greatest whole
        // key not above the name's is the chunk, or leads to it in few steps.
        if let Some(range) = key::later_chunks(&full) {
            let mut to = [&full[..], &[0, 0], name].concat();
            to.truncate(key::SHORTENED);
            while let Some(chunk) =
                pages::page_last_key(client, self.scope.line_id, &range.start, &to).await?
            {
                let candidate = if key::is_shortened(&chunk) {
                    None
                } else {
                    self.page(client, &chunk).await?
                };
                if candidate.is_some() {
                    page = candidate;
                    break;
                }
                to = before(chunk);
            }
        }
        while let Some(at) = page.as_ref().filter(|at| !holds(at, name)) {
            page = self.next_chunk(client, at).await?;
        }
        Ok(page)
    }

    /// The first chunk of a directory that is known and begins behind `name`, or is a later one at all. Of a very long path none is found.
    pub(super) async fn chunk_behind(
        &self,
        client: &impl GenericClient,
        directory: &[u8],
        name: Option<&[u8]>,
    ) -> Result<Option<Page>, Error> {
        let full = key::of_path(directory);
        let Some(range) = key::later_chunks(&full) else {
            return Ok(None);
        };
        let mut from = name.map_or(range.start, |name| [&full[..], &[0, 0], name].concat());
        let to = range.end.unwrap_or_else(|| pages::END.to_vec());
        loop {
            let keys = pages::page_keys(client, self.scope, &from, true, &to, SOME).await?;
            for (chunk, _) in keys.live {
                let page = if key::is_shortened(&chunk) {
                    None
                } else {
                    self.page(client, &chunk).await?
                };
                if page
                    .as_ref()
                    .is_some_and(|page| page.directory == directory)
                {
                    return Ok(page);
                }
            }
            match keys.last {
                Some(last) => from = last,
                None => return Ok(None),
            }
        }
    }

    /// Whether a chunk of a directory is known.
    pub(super) async fn has_chunk(
        &self,
        directory: &[u8],
        lower: Option<&[u8]>,
    ) -> Result<bool, Error> {
        let client = self.client().await?;
        let chunk = key::chunk(&key::of_path(directory), lower);
        Ok(self.look_up(&client, &[&chunk]).await? == [Some(true)])
    }

    /// Of which of these directories the listing is known, or its beginning.
    pub async fn are_listed(&self, directories: &[Vec<u8>]) -> Result<Vec<bool>, Error> {
        let keys: Vec<Vec<u8>> = directories.iter().map(|path| first_key(path)).collect();
        let client = self.client().await?;
        let mut listed = Vec::with_capacity(keys.len());
        for some in keys.chunks(KEYS) {
            let keys: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
            let found = self.look_up(&client, &keys).await?;
            listed.extend(found.into_iter().map(|row| row == Some(true)));
        }
        Ok(listed)
    }

    /// What the version has of these keys: a page, a tombstone (false), or nothing.
    async fn look_up(
        &self,
        client: &impl GenericClient,
        keys: &[&[u8]],
    ) -> Result<Vec<Option<bool>>, Error> {
        let rows = pages::page_measure_keys(client, self.scope, keys).await?;
        let found: BTreeMap<Vec<u8>, bool> = rows
            .into_iter()
            .map(|row| (row.chunk, row.length.is_some()))
            .collect();
        Ok(keys.iter().map(|key| found.get(*key).copied()).collect())
    }

    /// Whether it is known that a directory went, or gave way to something else.
    pub(super) async fn is_gone(
        &self,
        client: &impl GenericClient,
        directory: &[u8],
    ) -> Result<bool, Error> {
        Ok(self.look_up(client, &[&first_key(directory)]).await? == [Some(false)])
    }

    /// Whether nothing can be at a path of which no listing is known, by what is known above it.
    pub(super) async fn is_absent(
        &self,
        client: &impl GenericClient,
        path: &[u8],
    ) -> Result<bool, Error> {
        let mut below = path;
        while !below.is_empty() {
            let (parent, name) = split(below);
            if let Some(page) = self.chunk_of(client, parent, name).await? {
                return Ok(entry(&page, name).is_none_or(|entry| entry.kind != Kind::Directory));
            }
            // A directory that went took with it what was in it. (One that went from `path` may have given way to a file.)
            if self.is_gone(client, parent).await? {
                return Ok(true);
            }
            below = parent;
        }
        Ok(false)
    }

    /// What is at a path (without slash at either end; empty is the root).
    pub async fn stat(&self, path: &[u8]) -> Result<Option<Found>, Error> {
        let client = self.client().await?;
        let (parent, name) = split(path);
        if !name.is_empty() {
            let page = self.chunk_of(&client, parent, name).await?;
            match page.as_ref().map(|page| entry(page, name)) {
                Some(Some(entry)) if entry.kind != Kind::Directory => {
                    return Ok(Some(Found::Entry(Box::new(entry.clone()))));
                }
                Some(None) => return Ok(None),
                None if self.gap.is_none() => return Ok(None),
                Some(Some(_)) | None => {}
            }
        }
        match self.first_chunk(&client, path).await? {
            Some(page) => Ok(Some(directory(page))),
            None if self.gap.is_none() || self.is_absent(&client, path).await? => Ok(None),
            None => Ok(Some(Found::Unknown)),
        }
    }

    /// What is at each of these paths, as [`View::stat`] tells of one. Many are looked up at once.
    pub async fn stat_all(&self, paths: &[&[u8]]) -> Result<Vec<Option<Found>>, Error> {
        let mut found = vec![None; paths.len()];
        if self.gap.is_some() {
            for (found, path) in found.iter_mut().zip(paths) {
                *found = self.stat(path).await?;
            }
            return Ok(found);
        }
        let mut parents = Keys::new();
        let mut directories = Keys::new();
        for (at, path) in paths.iter().enumerate() {
            let (parent, name) = split(path);
            let (keys, above) = if name.is_empty() {
                (&mut directories, *path)
            } else {
                (&mut parents, parent)
            };
            keys.entry(first_key(above)).or_default().push(at);
        }
        let mut later = Vec::new();
        self.each_page(&parents, |page, wanted| {
            for &at in wanted {
                let name = split(paths[at]).1;
                match entry(&page, name) {
                    None if !holds(&page, name) => later.push(at),
                    None => {}
                    Some(entry) if entry.kind == Kind::Directory => {
                        directories
                            .entry(first_key(paths[at]))
                            .or_default()
                            .push(at);
                    }
                    Some(entry) => found[at] = Some(Found::Entry(Box::new(entry.clone()))),
                }
            }
        })
        .await?;
        self.each_page(&directories, |page, wanted| {
            let is = directory(page);
            for &at in wanted {
                found[at] = Some(is.clone());
            }
        })
        .await?;
        // Of large directories, behind their first chunk.
        for at in later {
            found[at] = self.stat(paths[at]).await?;
        }
        Ok(found)
    }

    /// Fetches the pages of keys that the version has; a bounded number is in memory at once.
    async fn each_page(
        &self,
        keys: &Keys,
        mut each: impl FnMut(Page, &[usize]),
    ) -> Result<(), Error> {
        let client = self.client().await?;
        let all: Vec<&[u8]> = keys.keys().map(Vec::as_slice).collect();
        for some in all.chunks(KEYS) {
            let mut rows = pages::page_measure_keys(&client, self.scope, some).await?;
            rows.retain(|row| row.length.is_some());
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let mut bytes = 0;
                let fit = rest.iter().take_while(|row| {
                    let first = bytes == 0;
                    bytes += row.length.unwrap_or_default();
                    first || bytes <= BYTES
                });
                let (now, behind) = rest.split_at(fit.count());
                rest = behind;
                let now: Vec<_> = now.iter().map(|r| (r.chunk.clone(), r.version)).collect();
                for row in pages::page_bodies(&client, self.scope.line_id, &now).await? {
                    each(self.decode(&row)?, &keys[&row.chunk]);
                }
            }
        }
        Ok(())
    }
}

/// Keys that are looked up, with what they are looked up for.
type Keys = BTreeMap<Vec<u8>, Vec<usize>>;
/// Keys looked up at once.
const KEYS: usize = 1_000;
/// Chunks of one directory looked up at once.
const SOME: i64 = 16;
/// Bytes of pages fetched at once, if not one alone is larger.
const BYTES: usize = 2 << 20;

/// The key of a directory's first chunk.
fn first_key(directory: &[u8]) -> Vec<u8> {
    key::chunk(&key::of_path(directory), None)
}

/// The entry of a name, if the page has it.
fn entry<'a>(page: &'a Page, name: &[u8]) -> Option<&'a Entry> {
    let entries = &page.entries;
    let at = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name));
    at.ok().map(|at| &entries[at])
}

/// What a directory's first page tells of it.
fn directory(page: Page) -> Found {
    Found::Directory(page.header.unwrap_or_default())
}

fn whole(version: &versions::Version) -> Scope {
    Scope::whole(version.line_id, version.version, version.floor)
}

/// Parent and last name of a path; the root has neither.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// A path of a directory with a name below it.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}

/// Decodes a row.
pub(super) fn decode(decoder: &mut Decoder, row: &PageRow) -> Result<Page, Error> {
    decoder
        .decode(&row.chunk, &row.body, Some(&row.hashes))
        .map_err(|cause| {
            let directory = key::split(&row.chunk)
                .map(|(path, _)| path)
                .unwrap_or_default();
            damaged(&directory, cause)
        })
}

pub(super) fn damaged(directory: &[u8], cause: page::Error) -> Error {
    Error::Damaged {
        directory: [b"/", directory].concat(),
        cause,
    }
}

pub(super) fn holds(page: &Page, name: &[u8]) -> bool {
    page.lower.as_deref().is_none_or(|lower| lower <= name)
        && page.upper.as_deref().is_none_or(|upper| name < upper)
}

/// A key below `chunk` and above every stored key below it: keys have no zero at their end and none is longer.
fn before(mut chunk: Vec<u8>) -> Vec<u8> {
    match chunk.pop() {
        None | Some(0) => {}
        Some(last) => {
            chunk.push(last - 1);
            chunk.resize(key::SHORTENED + 1, 0xFF);
        }
    }
    chunk
}
