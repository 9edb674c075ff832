//! A published version as a tree: pages by directory and name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use taf_format::entry::Kind;
use taf_format::key;
use taf_format::page::{self, Decoder, DirectoryStat, Entry, Page};

use super::Error;
use crate::store::pages::{self, PageRow, Scope};
use crate::store::{Client, GenericClient, Store, dictionaries, parts, versions};

/// A published version.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) store: Store,
    pub(super) scope: Scope,
    decoder: Arc<Mutex<Decoder>>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory(DirectoryStat),
    /// Anything else.
    Entry(Box<Entry>),
}

impl View {
    /// The view of a published version, none if it is not one.
    pub async fn open(store: &Store, line: i64, version: i64) -> Result<Option<Self>, Error> {
        let client = store.client().await?;
        let found = versions::version_get(&client, line, version).await?;
        match found {
            Some(found) => Ok(Some(Self::with(store, &client, scope(&found)).await?)),
            None => Ok(None),
        }
    }

    /// The view of a published version that a restore under way reads, though it may have expired since the restore began.
    pub async fn open_restored(
        store: &Store,
        line: i64,
        version: i64,
    ) -> Result<Option<Self>, Error> {
        let client = store.client().await?;
        let Some(floor) = versions::version_floor(&client, line, version).await? else {
            return Ok(None);
        };
        let scope = Scope {
            line_id: line,
            version,
            floor,
        };
        Ok(Some(Self::with(store, &client, scope).await?))
    }

    /// The view of this version.
    pub async fn of(store: &Store, version: &versions::Version) -> Result<Self, Error> {
        let client = store.client().await?;
        Self::with(store, &client, scope(version)).await
    }

    async fn with(store: &Store, client: &Client, scope: Scope) -> Result<Self, Error> {
        let known = dictionaries::dictionaries(client, scope.line_id).await?;
        Ok(Self {
            store: store.clone(),
            scope,
            decoder: Arc::new(Mutex::new(Decoder::new(known))),
        })
    }

    /// The volumes that it needs.
    pub async fn volumes(&self, client: &impl GenericClient) -> Result<Vec<i64>, Error> {
        let (line, version) = (self.scope.line_id, self.scope.version);
        let parts = parts::part_list_of_version(client, line, version).await?;
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

    /// The chunk that follows.
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
            None => Err(damaged(
                &page.directory,
                page::Error::Damaged("a chunk of it is missing"),
            )),
        }
    }

    /// The chunk whose bounds hold `name`, none if there is no such directory.
    pub(super) async fn chunk_of(
        &self,
        client: &impl GenericClient,
        directory: &[u8],
        name: &[u8],
    ) -> Result<Option<Page>, Error> {
        let Some(first) = self.first_chunk(client, directory).await? else {
            return Ok(None);
        };
        if holds(&first, name) {
            return Ok(Some(first));
        }
        let full = key::of_path(directory);
        let mut page = first;
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
                if let Some(candidate) = candidate {
                    page = candidate;
                    break;
                }
                to = before(chunk);
            }
        }
        while !holds(&page, name) {
            match self.next_chunk(client, &page).await? {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok(Some(page))
    }

    /// What is at a path (without slash at either end; empty is the root).
    pub async fn stat(&self, path: &[u8]) -> Result<Option<Found>, Error> {
        let client = self.client().await?;
        let (parent, name) = split(path);
        if !name.is_empty() {
            let Some(page) = self.chunk_of(&client, parent, name).await? else {
                return Ok(None);
            };
            match entry(&page, name) {
                None => return Ok(None),
                Some(entry) if entry.kind != Kind::Directory => {
                    return Ok(Some(Found::Entry(Box::new(entry.clone()))));
                }
                Some(_) => {}
            }
        }
        let page = self.first_chunk(&client, path).await?;
        Ok(page.map(directory))
    }

    /// What is at each of these paths, as [`View::stat`] tells of one. Many are looked up at once.
    pub async fn stat_all(&self, paths: &[&[u8]]) -> Result<Vec<Option<Found>>, Error> {
        let mut found = vec![None; paths.len()];
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

fn scope(version: &versions::Version) -> Scope {
    Scope {
        line_id: version.line_id,
        version: version.version,
        floor: version.floor,
    }
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
